package catalog

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
)

// pseudonymInfo binds the derived key to its one use (RFC 5869, info).
const pseudonymInfo = "freehold pseudonym v1"

// Pseudonyms are what a name is called where it must not be written, one for each
// master key that this keyset holds, the current one's first. The same name of the
// same tenant has the same pseudonym; who lacks the master key can't try names out.
func (k *Keyset) Pseudonyms(id TenantID, name string) ([]string, error) {
	now := k.current()
	var out []string
	for i := range now.handle.Len() {
		entry, err := now.handle.Entry(i)
		if err != nil {
			return nil, fmt.Errorf("derive pseudonym: %w", err)
		}
		master, ok := entry.Key().(*aesgcm.Key)
		if !ok {
			continue
		}
		key, err := hkdf.Key(sha256.New, master.KeyBytes().Data(insecuresecretdataaccess.Token{}), nil, pseudonymInfo, sha256.Size)
		if err != nil {
			return nil, errors.New("derive pseudonym: HKDF failed")
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id.String()))
		mac.Write([]byte{0})
		mac.Write([]byte(name))
		called := "user_" + hex.EncodeToString(mac.Sum(nil)[:16])
		if int64(entry.KeyID()) == now.primary {
			out = append([]string{called}, out...)
		} else {
			out = append(out, called)
		}
	}
	return out, nil
}

// Pseudonyms is Keyset.Pseudonyms with this catalog's master keys.
func (c *Catalog) Pseudonyms(id TenantID, name string) ([]string, error) {
	return c.keyset.Pseudonyms(id, name)
}

// answerAAD binds a kept answer to its tenant and its use.
func answerAAD(id TenantID) string { return "answer " + id.String() }

// SealAnswer seals an answer that is kept for a retry in the tenant's own database.
func (c *Catalog) SealAnswer(id TenantID, plain []byte) ([]byte, error) {
	sealed, _, err := c.keyset.Seal(plain, answerAAD(id))
	return sealed, err
}

// OpenAnswer opens what SealAnswer made. ErrSealBroken.
func (c *Catalog) OpenAnswer(id TenantID, sealed []byte) ([]byte, error) {
	plain, err := c.keyset.Open(sealed, answerAAD(id))
	if err != nil {
		return nil, fmt.Errorf("open answer: %w", ErrSealBroken)
	}
	return plain, nil
}
