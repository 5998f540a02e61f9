package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Keyset is the master key: it seals and opens secrets (tink AEAD), and signs. It
// has one primary key, which seals, and those that were primary before, which
// open what old backups hold. One that was read from a file learns the keys that
// are added to that file. It is safe for concurrent use.
type Keyset struct {
	path string // of its file; empty: in memory alone
	now  atomic.Pointer[keys]

	mu    sync.Mutex // guards what follows, and every change of now and of the file
	stamp stamp      // of the file as last read
	// When the file was last looked at: because it may have changed, and because
	// something was sealed with a key that isn't known.
	looked, missed time.Time
}

// keys is what a keyset holds at a moment. It is never changed.
type keys struct {
	handle  *keyset.Handle
	aead    tink.AEAD
	primary int64
	ids     []int64 // of the enabled ones, in the order in which they were added
}

// NewKeyset makes a fresh keyset (AES-256-GCM).
func NewKeyset() (*Keyset, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("make keyset: %w", err)
	}
	now, err := newKeys(handle)
	if err != nil {
		return nil, err
	}
	k := &Keyset{}
	k.now.Store(now)
	return k, nil
}

func newKeys(handle *keyset.Handle) (*keys, error) {
	a, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("use keyset: %w", err)
	}
	now := &keys{handle: handle, aead: a, primary: int64(handle.KeysetInfo().GetPrimaryKeyId())}
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return nil, fmt.Errorf("use keyset: %w", err)
		}
		if entry.KeyStatus() == keyset.Enabled {
			now.ids = append(now.ids, int64(entry.KeyID()))
		}
	}
	return now, nil
}

func (k *keys) has(id int64) bool { return slices.Contains(k.ids, id) }

// newest is the key that was added last.
func (k *keys) newest() int64 { return k.ids[len(k.ids)-1] }

// KeyIDs lists the keys that this keyset opens with, as its file has them now
// (looked at once a second at most). The primary comes first.
func (k *Keyset) KeyIDs() []int64 {
	now := k.current()
	list := []int64{now.primary}
	for _, id := range now.ids {
		if id != now.primary {
			list = append(list, id)
		}
	}
	return list
}

// Seal encrypts, bound to aad; keyID is the version of the key used.
func (k *Keyset) Seal(plain []byte, aad string) (sealed []byte, keyID int64, err error) {
	now := k.current()
	sealed, err = now.aead.Encrypt(plain, []byte(aad))
	if err != nil {
		return nil, 0, fmt.Errorf("seal secret: %w", err)
	}
	return sealed, now.primary, nil
}

// Open decrypts what Seal made with the same aad. When it was sealed with a key
// that isn't known, the file is looked at once more.
func (k *Keyset) Open(sealed []byte, aad string) ([]byte, error) {
	now := k.now.Load()
	if id, ok := sealedWith(sealed); ok && !now.has(id) {
		now = k.missing()
	}
	plain, err := now.aead.Decrypt(sealed, []byte(aad))
	if err != nil {
		return nil, errors.New("open secret: sealed with another key, for another owner, or changed")
	}
	return plain, nil
}

// tinkPrefix begins what a key of tink's own output prefix sealed; the key's id,
// big-endian, comes behind it (developers.google.com/tink/wire-format).
const tinkPrefix = 0x01

// sealedWith reads which key sealed a text.
func sealedWith(sealed []byte) (keyID int64, ok bool) {
	if len(sealed) < 5 || sealed[0] != tinkPrefix {
		return 0, false
	}
	return int64(binary.BigEndian.Uint32(sealed[1:5])), true
}

// What each secret is bound to, so that a sealed one moved to another row
// doesn't open there.
func tenantAAD(id TenantID) string { return "tenant:" + id.String() }
func serverAAD(id string) string   { return "server:" + id }
func engineAAD(name string) string { return "engine:" + name }
