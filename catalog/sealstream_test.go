package catalog_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"freehold/catalog"
)

func newKeyset(t testing.TB) *catalog.Keyset {
	t.Helper()
	k, err := catalog.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sealed is plain, sealed for aad.
func sealed(t testing.TB, k *catalog.Keyset, plain []byte, aad string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := k.SealStream(&out, aad)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = w.Write(plain); err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// unseal reads all, and once more after an error: it must not turn into an end.
func unseal(k *catalog.Keyset, r io.Reader, aad string) ([]byte, error) {
	stream, err := k.OpenStream(r, aad)
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(stream)
	if _, again := stream.Read(make([]byte, 1)); err != nil && !errors.Is(again, err) {
		return nil, errors.Join(errors.New("the second read forgot the first one's error"), again)
	}
	return plain, err
}

// noise is n bytes that look like nothing.
func noise(n int) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{1})
	_, _ = src.Read(b)
	return b
}

func TestSealStream_roundTrip(t *testing.T) {
	t.Parallel()
	k := newKeyset(t)
	for _, n := range []int{0, 1, 1<<20 - 56, 1<<20 - 16, 1 << 20, 3<<20 + 7} {
		plain := noise(n)
		text := sealed(t, k, plain, "it")
		if n > 100 && bytes.Contains(text, plain[:50]) {
			t.Errorf("%d bytes: the plain text is in it", n)
		}
		got, err := unseal(k, iotest.HalfReader(bytes.NewReader(text)), "it")
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
	}
}

// What was sealed before a rotation opens after it.
func TestSealStream_rotation(t *testing.T) {
	t.Parallel()
	k := newKeyset(t)
	before := sealed(t, k, []byte("old"), "it")
	id, err := k.Add()
	if err == nil {
		err = k.MakePrimary(id)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := unseal(k, bytes.NewReader(before), "it"); err != nil || string(got) != "old" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSealStream_refuses(t *testing.T) {
	t.Parallel()
	k := newKeyset(t)
	const two = 2<<20 + 100
	text := sealed(t, k, noise(two), "it")
	refused := func(what string, k *catalog.Keyset, text []byte, aad string) {
		t.Helper()
		if _, err := unseal(k, bytes.NewReader(text), aad); !errors.Is(err, catalog.ErrSealBroken) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("another keyset", newKeyset(t), text, "it")
	refused("another owner", k, text, "other")
	refused("nothing", k, nil, "it")
	refused("no stream", k, noise(500), "it")
	refused("more behind it", k, append(bytes.Clone(text), 0), "it")
	other := sealed(t, k, noise(two), "it")
	refused("another stream's rest", k, append(bytes.Clone(text[:1<<20]), other[1<<20:]...), "it")
	// Everywhere in the header, at the segments' borders, and at the end.
	at := []int{0, 1 << 19, 1 << 20, 1<<20 + 1, 2 << 20, 2<<20 + 1, len(text) - 17, len(text) - 1}
	for i := range 200 {
		at = append(at, i)
	}
	for i := -20; i < 20; i++ {
		at = append(at, 1<<20+i, 2<<20+i)
	}
	for _, i := range at {
		if i < len(text) {
			flipped := bytes.Clone(text)
			flipped[i] ^= 1
			refused(fmt.Sprintf("a bit of byte %d", i), k, flipped, "it")
			refused(fmt.Sprintf("cut short at %d", i), k, text[:i], "it")
		}
	}
}

// A source that fails isn't a broken seal: the same object may be read again.
func TestSealStream_sourceFails(t *testing.T) {
	t.Parallel()
	k := newKeyset(t)
	text := sealed(t, k, noise(2<<20), "it")
	away := errors.New("away")
	for _, n := range []int{3, 50, 120, 1 << 20, len(text) - 1} {
		_, err := unseal(k, io.MultiReader(bytes.NewReader(text[:n]), iotest.ErrReader(away)), "it")
		if !errors.Is(err, away) || errors.Is(err, catalog.ErrSealBroken) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
	failing, err := k.SealStream(&failAfter{n: 1 << 20, err: away}, "it")
	if err != nil {
		t.Fatal(err)
	}
	_, err = failing.Write(noise(3 << 20))
	if err = errors.Join(err, failing.Close()); !errors.Is(err, away) {
		t.Errorf("a writer that fails: %v", err)
	}
}

// failAfter takes n bytes.
type failAfter struct {
	n   int
	err error
}

func (f *failAfter) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, f.err
	}
	return len(p), nil
}
