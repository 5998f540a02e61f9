package blob_test

import (
	"errors"
	"path"
	"strings"
	"testing"

	"freehold/catalog"
	"freehold/tenantdb/blob"
)

var badKeys = []string{
	"", "/", "/etc/passwd", "..", "../x", "a/../b", "a/..", ".", "a/./b", "a//b", "a/", `a\b`,
	"a\x00b", "a\nb", "a\x7fb", "a\u0085b", "\xff", "a\uffffb", strings.Repeat("x", 901),
}

func TestBadKeysAreRefused(t *testing.T) {
	t.Parallel()
	o := open(t).Tenant(catalog.NewTenantID())
	for _, key := range badKeys {
		if err := o.Put(t.Context(), key, strings.NewReader("x")); !errors.Is(err, blob.ErrKey) {
			t.Errorf("put %.20q: %v", key, err)
		}
		if _, _, err := o.Get(t.Context(), key); !errors.Is(err, blob.ErrKey) {
			t.Errorf("get %.20q: %v", key, err)
		}
		if err := o.Delete(t.Context(), key); !errors.Is(err, blob.ErrKey) {
			t.Errorf("delete %.20q: %v", key, err)
		}
		if key == "" || key == "a/" { // a listing may begin so
			continue
		}
		if err := o.List(t.Context(), key, func(blob.Object) error { return nil }); !errors.Is(err, blob.ErrKey) {
			t.Errorf("list %.20q: %v", key, err)
		}
	}
}

// FuzzKey: whatever is accepted lies under the prefix, also for a reader that
// resolves dots, unifies slashes or decodes backslashes.
func FuzzKey(f *testing.F) {
	for _, key := range append(badKeys, "files/a", "...", "a/.hidden", "a/..b", "%2e%2e/x", " ", "ä/ö") {
		f.Add(key)
	}
	const prefix = "tenants/0199/"
	f.Fuzz(func(t *testing.T, key string) {
		for _, join := range []func(string, string) (string, error){blob.Join, blob.JoinList} {
			full, err := join(prefix, key)
			if err != nil {
				if !errors.Is(err, blob.ErrKey) {
					t.Errorf("untyped: %v", err)
				}
				continue
			}
			clean := path.Clean(strings.ReplaceAll(full, `\`, "/"))
			if !strings.HasPrefix(full, prefix) || !strings.HasPrefix(clean+"/", prefix) ||
				strings.TrimSuffix(full, "/") != clean || len(full) > len(prefix)+901 {
				t.Errorf("accepted %q as %q", key, full)
			}
		}
	})
}
