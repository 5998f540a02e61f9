package blob_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"freehold/catalog"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/blob/blobtest"
)

func open(t *testing.T) *blob.Store {
	t.Helper()
	s, err := blob.Open(t.Context(), blob.Config{Endpoint: endpoint, Bucket: "freehold-test"}, true)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func get(t *testing.T, o *blob.Objects, key string) []byte {
	t.Helper()
	r, info, err := o.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size != int64(len(b)) || info.ETag == "" || info.Key != key {
		t.Errorf("object %+v, read %d bytes", info, len(b))
	}
	return b
}

func list(t *testing.T, o *blob.Objects, prefix string) (keys []string) {
	t.Helper()
	err := o.List(t.Context(), prefix, func(obj blob.Object) error {
		keys = append(keys, obj.Key)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestPutGetListDelete(t *testing.T) {
	t.Parallel()
	s := open(t)
	o := s.Tenant(catalog.NewTenantID())
	for _, key := range []string{"files/a", "files/b", "models/ä ö+&?.bin", "top"} {
		if err := o.Put(t.Context(), key, strings.NewReader("content of "+key)); err != nil {
			t.Fatal(err)
		}
		if got := string(get(t, o, key)); got != "content of "+key {
			t.Errorf("%s: %q", key, got)
		}
	}
	if got := list(t, o, ""); !slices.Equal(got, []string{"files/a", "files/b", "models/ä ö+&?.bin", "top"}) {
		t.Errorf("all: %q", got)
	}
	if got := list(t, o, "files/"); !slices.Equal(got, []string{"files/a", "files/b"}) {
		t.Errorf("files/: %q", got)
	}
	for range 2 { // the second time nothing is there
		if err := o.Delete(t.Context(), "files/a"); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := o.Get(t.Context(), "files/a"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("after delete: %v", err)
	}
	if err := o.Put(t.Context(), "empty", strings.NewReader("")); err != nil {
		t.Fatal(err)
	}
	if b := get(t, o, "empty"); len(b) != 0 {
		t.Errorf("empty object holds %d bytes", len(b))
	}
}

// unsized hides everything but Read, as a network body does.
type unsized struct{ io.Reader }

func TestPutLongStreamOfUnknownLength(t *testing.T) {
	t.Parallel()
	o := open(t).Tenant(catalog.NewTenantID())
	body := make([]byte, 20<<20+7) // three parts
	_, _ = rand.Read(body)
	if err := o.Put(t.Context(), "long", unsized{bytes.NewReader(body)}); err != nil {
		t.Fatal(err)
	}
	if sha256.Sum256(get(t, o, "long")) != sha256.Sum256(body) {
		t.Error("content changed on the way")
	}
}

func TestPutThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	o := open(t).Tenant(catalog.NewTenantID())
	broken := errors.New("reader broke")
	r := io.MultiReader(bytes.NewReader(make([]byte, 17<<20)), errReader{broken})
	if err := o.Put(t.Context(), "half", r); !errors.Is(err, broken) {
		t.Fatalf("want the reader's error, have %v", err)
	}
	if keys := list(t, o, ""); len(keys) != 0 {
		t.Errorf("left behind: %q", keys)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestTenantsDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	s := open(t)
	a, b := s.Tenant(catalog.NewTenantID()), s.Tenant(catalog.NewTenantID())
	if err := a.Put(t.Context(), "secret", strings.NewReader("a's")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Get(t.Context(), "secret"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("b reads a's key: %v", err)
	}
	if keys := list(t, b, ""); len(keys) != 0 {
		t.Errorf("b lists %q", keys)
	}
}

func TestCreatePrefix(t *testing.T) {
	t.Parallel()
	s, id := open(t), catalog.NewTenantID()
	for range 2 {
		if err := s.CreatePrefix(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.TrimSpace(string(get(t, s.Tenant(id), blob.Marker))); got != id.String() {
		t.Errorf("marker holds %q", got)
	}
}

func TestListStopsAtTheCallersError(t *testing.T) {
	t.Parallel()
	o := open(t).Tenant(catalog.NewTenantID())
	for _, k := range []string{"a", "b"} {
		if err := o.Put(t.Context(), k, strings.NewReader(k)); err != nil {
			t.Fatal(err)
		}
	}
	stop, calls := errors.New("enough"), 0
	err := o.List(t.Context(), "", func(blob.Object) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]blob.Config{
		"no bucket":            {Endpoint: endpoint},
		"no such bucket":       {Endpoint: endpoint, Bucket: "freehold-missing"},
		"endpoint not a URL":   {Endpoint: "localhost:9000", Bucket: "b"},
		"credentials in it":    {Endpoint: "http://user:hunter2@localhost:1", Bucket: "b"},
		"nobody listens there": {Endpoint: "http://127.0.0.1:1", Bucket: "b"},
	} {
		_, err := blob.Open(t.Context(), cfg, false)
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), blobtest.Secret) {
			t.Errorf("%s: a secret in the error", name)
		}
	}
}
