package catalog_test

import (
	"runtime"
	"testing"

	"freehold/catalog"
)

// What a node keeps of a tenant that nobody calls: its route, at most a kilobyte.
// Not parallel: others would be measured too.
func TestCache_anIdleTenantCostsAKilobyte(t *testing.T) { //nolint:paralleltest // measures the heap
	const tenants = 400
	b := setup(t)
	cache := b.cache(b.cat, catalog.CacheConfig{})
	ids := make([]catalog.TenantID, tenants)
	for i := range ids {
		ids[i] = b.tenant(unique("idle")).ID
	}
	b.within(5e9, "all seen", func() bool {
		_, err := cache.Route(t.Context(), ids[tenants-1], 1)
		return err == nil
	})
	heap := func() uint64 {
		var m runtime.MemStats
		for range 3 { // pools give back what they keep after two
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	routines, before := runtime.NumGoroutine(), heap()
	for _, id := range ids {
		_, err := cache.Route(t.Context(), id, 1)
		b.ok(err)
	}
	if each := (int64(heap()) - int64(before)) / tenants; each > 1024 || each < 100 {
		t.Errorf("%d bytes a tenant, want at most 1024", each)
	}
	if more := runtime.NumGoroutine() - routines; more > 3 {
		t.Errorf("%d goroutines more", more)
	}
	runtime.KeepAlive(cache)
}
