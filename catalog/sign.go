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

// A derived key is bound to its one use (RFC 5869, info): what is signed for one
// says nothing for the other.
const (
	forReceipts = "freehold receipt v1"
	forAudits   = "freehold audit v1"
)

// signer derives an Ed25519 key of a master key, so that what is signed is signed
// by something that isn't in the database.
func (k *keys) signer(keyID int64, use string) (ed25519.PrivateKey, error) {
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
		seed, err := hkdf.Key(sha256.New, master.KeyBytes().Data(insecuresecretdataaccess.Token{}), nil, use, ed25519.SeedSize)
		if err != nil {
			return nil, errors.New("derive signing key: HKDF failed")
		}
		return ed25519.NewKeyFromSeed(seed), nil
	}
	return nil, fmt.Errorf("master key %d: %w", keyID, ErrNotFound)
}

func (k *Keyset) sign(use string, msg []byte) (sig []byte, keyID int64, err error) {
	now := k.current()
	key, err := now.signer(now.primary, use)
	if err != nil {
		return nil, 0, err
	}
	return ed25519.Sign(key, msg), now.primary, nil
}

func (k *Keyset) verify(use string, keyID int64, msg, sig []byte) error {
	public, err := k.public(use, keyID)
	if err != nil {
		return err
	}
	if !ed25519.Verify(public, msg, sig) {
		return ErrSignature
	}
	return nil
}

func (k *Keyset) public(use string, keyID int64) (ed25519.PublicKey, error) {
	now := k.now.Load()
	if !now.has(keyID) {
		now = k.missing()
	}
	key, err := now.signer(keyID, use)
	if err != nil {
		return nil, err
	}
	return key.Public().(ed25519.PublicKey), nil
}

// Sign signs with a key derived from the primary master key; keyID names it.
func (k *Keyset) Sign(msg []byte) (sig []byte, keyID int64, err error) {
	return k.sign(forReceipts, msg)
}

// VerifySignature checks what Sign made. ErrSignature, or ErrNotFound for a key
// that this keyset doesn't hold.
func (k *Keyset) VerifySignature(keyID int64, msg, sig []byte) error {
	return k.verify(forReceipts, keyID, msg, sig)
}

// PublicKey is what others check signatures of this master key with. ErrNotFound.
func (k *Keyset) PublicKey(keyID int64) (ed25519.PublicKey, error) {
	return k.public(forReceipts, keyID)
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

// SignAudit signs what belongs to tenants' audits, with a key of its own that is
// derived from the primary master key; keyID names that.
func (c *Catalog) SignAudit(msg []byte) (sig []byte, keyID int64, err error) {
	return c.keyset.sign(forAudits, msg)
}

// VerifyAuditSignature checks what SignAudit made. ErrSignature, or ErrNotFound for
// a key that the keyset doesn't hold.
func (c *Catalog) VerifyAuditSignature(keyID int64, msg, sig []byte) error {
	return c.keyset.verify(forAudits, keyID, msg, sig)
}

// AuditPublicKeys are what others check SignAudit's signatures with, by the id of
// the master key.
func (c *Catalog) AuditPublicKeys() (map[int64]ed25519.PublicKey, error) {
	list := map[int64]ed25519.PublicKey{}
	for _, id := range c.keyset.KeyIDs() {
		key, err := c.keyset.public(forAudits, id)
		if err != nil {
			return nil, err
		}
		list[id] = key
	}
	return list, nil
}
