package catalog_test

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"freehold/catalog"
)

// keysetFile writes a fresh keyset and reads it as so many processes would.
func keysetFile(b *bench, readers int) (path string, list []*catalog.Keyset) {
	b.Helper()
	fresh, err := catalog.NewKeyset()
	b.ok(err)
	path = filepath.Join(b.TempDir(), "master.json")
	b.ok(fresh.Write(path))
	for range readers {
		k, err := catalog.ReadKeyset(path)
		b.ok(err)
		list = append(list, k)
	}
	return path, list
}

func TestKeyset_learnsFromItsFile(t *testing.T) {
	t.Parallel()
	b := &bench{TB: t}
	path, list := keysetFile(b, 3)
	one, two, three := list[0], list[1], list[2]
	first := one.KeyIDs()[0]
	old, _, err := one.Seal([]byte("hush"), "x")
	b.ok(err)

	added, err := one.Add()
	b.ok(err)
	if again, err := one.Add(); err != nil || again != added {
		t.Errorf("added %d, then %d: %v", added, again, err)
	}
	// Another process that goes on with it takes the same one.
	if again, err := two.Add(); err != nil || again != added {
		t.Errorf("added %d, elsewhere %d: %v", added, again, err)
	}
	if _, id, err := one.Seal(nil, "x"); err != nil || id != first {
		t.Errorf("sealed with %d before it was primary: %v", id, err)
	}
	b.ok(one.MakePrimary(added))
	b.ok(one.MakePrimary(added))
	b.is(one.MakePrimary(added+1), catalog.ErrNotFound)
	if ids := one.KeyIDs(); !slices.Equal(ids, []int64{added, first}) {
		t.Errorf("keys %v, want %d first, then %d", ids, added, first)
	}
	// Who never looked learns it from what it is to open, at once.
	sealed, id, err := one.Seal([]byte("hush"), "x")
	if err != nil || id != added {
		t.Errorf("sealed with %d, want %d: %v", id, added, err)
	}
	for _, text := range [][]byte{sealed, old} {
		if plain, err := three.Open(text, "x"); err != nil || string(plain) != "hush" {
			t.Errorf("opened %q: %v", plain, err)
		}
	}
	// Who opens nothing new seals with the new one soon.
	b.within(5*time.Second, "the new primary", func() bool { return two.KeyIDs()[0] == added })

	info, err := os.Stat(path)
	b.ok(err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %04o", info.Mode().Perm())
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestKeyset_keepsWhatTheFileLost(t *testing.T) {
	t.Parallel()
	b := &bench{TB: t}
	path, list := keysetFile(b, 1)
	k := list[0]
	known := k.KeyIDs()
	sealed, _, err := k.Seal([]byte("hush"), "x")
	b.ok(err)
	other, _ := keysetFile(b, 0)
	text, err := os.ReadFile(other)
	b.ok(err)
	for _, content := range [][]byte{text, []byte("{"), nil} {
		b.ok(os.WriteFile(path, content, 0o600))
		if _, err := k.Add(); err == nil {
			t.Error("a key was added to a file that isn't this keyset's")
		}
		if ids := k.KeyIDs(); !slices.Equal(ids, known) {
			t.Errorf("keys %v, want %v", ids, known)
		}
	}
	b.ok(os.Remove(path))
	if _, err := k.Add(); err == nil {
		t.Error("a key was added to a file that isn't there")
	}
	if plain, err := k.Open(sealed, "x"); err != nil || string(plain) != "hush" {
		t.Errorf("opened %q: %v", plain, err)
	}
}

// A link to the file, as a deployment may have it, stays a link.
func TestKeyset_throughALink(t *testing.T) {
	t.Parallel()
	b := &bench{TB: t}
	path, _ := keysetFile(b, 0)
	link := filepath.Join(t.TempDir(), "link.json")
	b.ok(os.Symlink(path, link))
	k, err := catalog.ReadKeyset(link)
	b.ok(err)
	added, err := k.Add()
	b.ok(err)
	info, err := os.Lstat(link)
	if err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v", err)
	}
	behind, err := catalog.ReadKeyset(path)
	b.ok(err)
	if !slices.Contains(behind.KeyIDs(), added) {
		t.Error("the file behind the link has no new key")
	}
}

func TestSign(t *testing.T) {
	t.Parallel()
	b := &bench{TB: t}
	path, list := keysetFile(b, 1)
	k := list[0]
	msg := []byte(`{"tenant":"x"}`)
	sig, keyID, err := k.Sign(msg)
	b.ok(err)
	if keyID != k.KeyIDs()[0] {
		t.Errorf("signed with key %d, want the primary", keyID)
	}
	public, err := k.PublicKey(keyID)
	b.ok(err)
	if !ed25519.Verify(public, msg, sig) {
		t.Error("the public key does not fit the signature")
	}
	// Signed before a rotation, verified after it, by a process that starts then.
	added, err := k.Add()
	b.ok(err)
	b.ok(k.MakePrimary(added))
	later, err := catalog.ReadKeyset(path)
	b.ok(err)
	b.ok(later.VerifySignature(keyID, msg, sig))
	if _, id, err := later.Sign(msg); err != nil || id != added {
		t.Errorf("signed with %d, want %d: %v", id, added, err)
	}

	b.is(k.VerifySignature(keyID, []byte(`{"tenant":"y"}`), sig), catalog.ErrSignature)
	b.is(k.VerifySignature(added, msg, sig), catalog.ErrSignature)
	b.is(k.VerifySignature(keyID, msg, sig[:10]), catalog.ErrSignature)
	b.is(k.VerifySignature(1, msg, sig), catalog.ErrNotFound)
	other, err := catalog.NewKeyset()
	b.ok(err)
	b.is(other.VerifySignature(keyID, msg, sig), catalog.ErrNotFound)
}
