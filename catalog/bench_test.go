package catalog_test

import (
	"testing"

	"freehold/catalog"
)

// What every request pays before anything else, when its key is known.
func BenchmarkAuthenticate_warm(m *testing.B) {
	b := setup(m)
	_, token := b.key(b.tenant("acme").ID, "all")
	cache := b.cache(b.cat, catalog.CacheConfig{})
	m.ReportAllocs()
	m.ResetTimer()
	m.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := cache.Authenticate(b.Context(), token); err != nil {
				m.Error(err)
			}
		}
	})
}
