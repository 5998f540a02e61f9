package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// maxKeysetBytes bounds what ReadKeyset takes in; a keyset of a hundred keys has
// some 30 kB.
const maxKeysetBytes = 1 << 20

// Keyset is the master key: it seals and opens secrets (tink AEAD). It is safe
// for concurrent use.
type Keyset struct {
	handle  *keyset.Handle
	aead    tink.AEAD
	primary int64
}

// NewKeyset makes a fresh keyset (AES-256-GCM).
func NewKeyset() (*Keyset, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("make keyset: %w", err)
	}
	return newKeyset(handle)
}

func newKeyset(handle *keyset.Handle) (*Keyset, error) {
	a, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("use keyset: %w", err)
	}
	return &Keyset{handle: handle, aead: a, primary: int64(handle.KeysetInfo().GetPrimaryKeyId())}, nil
}

// ReadKeyset reads a keyset file (mode 0600 at most, else an error).
func ReadKeyset(path string) (*Keyset, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read keyset: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read keyset: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read keyset: %s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("read keyset: %s has mode %04o: others could read it, make it 0600", path, mode)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxKeysetBytes))
	if err != nil {
		return nil, fmt.Errorf("read keyset: %w", err)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text)))
	if err != nil {
		// The parser's error could quote the file, so it isn't wrapped.
		return nil, fmt.Errorf("read keyset: %s is not a tink keyset in JSON", path)
	}
	return newKeyset(handle)
}

// Write writes the keyset to a new file, mode 0600, which is whole and on the disk
// or isn't there at all. It never overwrites: fs.ErrExist.
func (k *Keyset) Write(path string) error {
	var text bytes.Buffer
	if err := insecurecleartextkeyset.Write(k.handle, keyset.NewJSONWriter(&text)); err != nil {
		return fmt.Errorf("write keyset: %w", err)
	}
	if err := writeNew(path, text.Bytes()); err != nil {
		return fmt.Errorf("write keyset: %w", err)
	}
	return nil
}

// writeNew writes beside path and then gives the file its name: a link, unlike a
// rename, fails when somebody else has made that name meanwhile. Losing the master
// key loses every credential, so file and name are on the disk when it returns.
func writeNew(path string, text []byte) error {
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, ".keyset-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Link(file.Name(), path); err != nil {
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// Seal encrypts, bound to aad; keyID is the version of the key used.
func (k *Keyset) Seal(plain []byte, aad string) (sealed []byte, keyID int64, err error) {
	sealed, err = k.aead.Encrypt(plain, []byte(aad))
	if err != nil {
		return nil, 0, fmt.Errorf("seal secret: %w", err)
	}
	return sealed, k.primary, nil
}

// Open decrypts what Seal made with the same aad.
func (k *Keyset) Open(sealed []byte, aad string) ([]byte, error) {
	plain, err := k.aead.Decrypt(sealed, []byte(aad))
	if err != nil {
		return nil, errors.New("open secret: sealed with another key, for another owner, or changed")
	}
	return plain, nil
}

// What each secret is bound to, so that a sealed one moved to another row
// doesn't open there.
func tenantAAD(id TenantID) string { return "tenant:" + id.String() }
func serverAAD(id string) string   { return "server:" + id }
func engineAAD(name string) string { return "engine:" + name }
