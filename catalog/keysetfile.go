package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

const (
	// maxKeysetBytes bounds what ReadKeyset takes in; a keyset of a hundred keys has
	// some 30 kB.
	maxKeysetBytes = 1 << 20
	// keysetLook is how often a keyset's file is looked at, at most.
	keysetLook = time.Second
)

// stamp tells a file that was replaced or rewritten from the one that was read.
type stamp struct{ info os.FileInfo }

func (s stamp) fits(now os.FileInfo) bool {
	return s.info != nil && os.SameFile(s.info, now) && s.info.Size() == now.Size() && s.info.ModTime().Equal(now.ModTime())
}

// ReadKeyset reads a keyset file (mode 0600 at most, else an error).
func ReadKeyset(path string) (*Keyset, error) {
	now, at, err := readKeys(path)
	if err != nil {
		return nil, err
	}
	k := &Keyset{path: path, stamp: at, looked: time.Now()}
	k.now.Store(now)
	return k, nil
}

func readKeys(path string) (*keys, stamp, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, stamp{}, fmt.Errorf("read keyset: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, stamp{}, fmt.Errorf("read keyset: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, stamp{}, fmt.Errorf("read keyset: %s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, stamp{}, fmt.Errorf("read keyset: %s has mode %04o: others could read it, make it 0600", path, mode)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxKeysetBytes))
	if err != nil {
		return nil, stamp{}, fmt.Errorf("read keyset: %w", err)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text)))
	if err != nil {
		// The parser's error could quote the file, so it isn't wrapped.
		return nil, stamp{}, fmt.Errorf("read keyset: %s is not a tink keyset in JSON", path)
	}
	now, err := newKeys(handle)
	return now, stamp{info}, err
}

// current is what the keyset holds, as its file said a second ago at most.
func (k *Keyset) current() *keys {
	if k.path == "" {
		return k.now.Load()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.looked) >= keysetLook {
		k.looked = time.Now()
		_ = k.look() // what is known stays
	}
	return k.now.Load()
}

// missing is current for whoever met an unknown key: it looks although the file
// was looked at a moment ago, but for nobody more than once a second.
func (k *Keyset) missing() *keys {
	if k.path == "" {
		return k.now.Load()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.missed) >= keysetLook {
		k.missed = time.Now()
		_ = k.look()
	}
	return k.now.Load()
}

// latest is what the file holds at this moment, and an error when that can't be
// read.
func (k *Keyset) latest() (*keys, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.path != "" {
		if err := k.look(); err != nil {
			return nil, err
		}
	}
	return k.now.Load(), nil
}

// look reads the file when it has changed. One that lacks a key which is known
// here isn't taken over: something may be sealed with it. k.mu is held.
func (k *Keyset) look() error {
	if info, err := os.Stat(k.path); err != nil || k.stamp.fits(info) {
		return err
	}
	now, at, err := readKeys(k.path)
	if err != nil {
		return err
	}
	for _, id := range k.now.Load().ids {
		if !now.has(id) {
			return fmt.Errorf("read keyset: %s lacks key %d, which was in it: put it back", k.path, id)
		}
	}
	k.now.Store(now)
	k.stamp = at
	return nil
}

// Write writes the keyset to a new file, mode 0600, which is whole and on the disk
// or isn't there at all. It never overwrites: fs.ErrExist.
func (k *Keyset) Write(path string) error {
	text, err := k.now.Load().text()
	if err == nil {
		err = writeFile(path, text, os.Link)
	}
	if err != nil {
		return fmt.Errorf("write keyset: %w", err)
	}
	return nil
}

// text is what a keyset's file holds.
func (k *keys) text() ([]byte, error) {
	var text bytes.Buffer
	err := insecurecleartextkeyset.Write(k.handle, keyset.NewJSONWriter(&text))
	return text.Bytes(), err
}

// writeFile writes beside path and then gives the file its name: os.Link, unlike
// os.Rename, fails when somebody else has made that name meanwhile. Losing the
// master key loses every credential, so file and name are on the disk when it
// returns.
func writeFile(path string, text []byte, name func(from, to string) error) error {
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
	if err := name(file.Name(), path); err != nil {
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// change has the keyset changed, in its file first: whoever reads that sees the
// old keys or the new, whole. It begins with what the file holds now.
func (k *Keyset) change(how func(*keyset.Manager, *keys) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	path := k.path
	if path != "" {
		// A link to the file stays one.
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return fmt.Errorf("change keyset: %w", err)
		}
		path = real
		if err := k.look(); err != nil {
			return err
		}
	}
	was := k.now.Load()
	manager := keyset.NewManagerFromHandle(was.handle)
	if err := how(manager, was); err != nil {
		return fmt.Errorf("change keyset: %w", err)
	}
	handle, err := manager.Handle()
	if err != nil {
		return fmt.Errorf("change keyset: %w", err)
	}
	now, err := newKeys(handle)
	if err != nil || slices.Equal(now.ids, was.ids) && now.primary == was.primary {
		return err
	}
	if path != "" {
		text, err := now.text()
		if err == nil {
			err = writeFile(path, text, os.Rename)
		}
		if err != nil {
			return fmt.Errorf("change keyset: %w", err)
		}
	}
	k.now.Store(now)
	return nil
}
