package catalog

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
)

// signingInfo binds the derived key to its one use (RFC 5869, info).
const signingInfo = "freehold receipt v1"

// signer derives the Ed25519 key of a master key, so that what is signed is
// signed by something that isn't in the database.
func (k *keys) signer(keyID int64) (ed25519.PrivateKey, error) {
	for i := range k.handle.Len() {
		entry, err := k.handle.Entry(i)
		if err != nil {
			return nil, fmt.Errorf("derive signing key: %w", err)
		}
		if int64(entry.KeyID()) != keyID {
			continue
		}
		master, ok := entry.Key().(*aesgcm.Key)
		if !ok {
			return nil, fmt.Errorf("derive signing key: master key %d is not AES-GCM", keyID)
		}
		seed, err := hkdf.Key(sha256.New, master.KeyBytes().Data(insecuresecretdataaccess.Token{}), nil, signingInfo, ed25519.SeedSize)
		if err != nil {
			return nil, errors.New("derive signing key: HKDF failed")
		}
		return ed25519.NewKeyFromSeed(seed), nil
	}
	return nil, fmt.Errorf("master key %d: %w", keyID, ErrNotFound)
}

// Sign signs with a key derived from the primary master key; keyID names it.
func (k *Keyset) Sign(msg []byte) (sig []byte, keyID int64, err error) {
	now := k.current()
	key, err := now.signer(now.primary)
	if err != nil {
		return nil, 0, err
	}
	return ed25519.Sign(key, msg), now.primary, nil
}

// VerifySignature checks what Sign made. ErrSignature, or ErrNotFound for a key
// that this keyset doesn't hold.
func (k *Keyset) VerifySignature(keyID int64, msg, sig []byte) error {
	public, err := k.PublicKey(keyID)
	if err != nil {
		return err
	}
	if !ed25519.Verify(public, msg, sig) {
		return ErrSignature
	}
	return nil
}

// PublicKey is what others check signatures of this master key with. ErrNotFound.
func (k *Keyset) PublicKey(keyID int64) (ed25519.PublicKey, error) {
	now := k.now.Load()
	if !now.has(keyID) {
		now = k.missing()
	}
	key, err := now.signer(keyID)
	if err != nil {
		return nil, err
	}
	return key.Public().(ed25519.PublicKey), nil
}

// Sign is Keyset.Sign with this catalog's master key.
func (c *Catalog) Sign(msg []byte) (sig []byte, keyID int64, err error) { return c.keyset.Sign(msg) }

// VerifySignature is Keyset.VerifySignature with this catalog's master key.
func (c *Catalog) VerifySignature(keyID int64, msg, sig []byte) error {
	return c.keyset.VerifySignature(keyID, msg, sig)
}

// PublicKey is Keyset.PublicKey of this catalog's master key.
func (c *Catalog) PublicKey(keyID int64) (ed25519.PublicKey, error) {
	return c.keyset.PublicKey(keyID)
}
