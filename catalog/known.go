package catalog

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	maxUnknown = 10_000           // ids that are nobody's
	unknownTTL = 10 * time.Second // and how long that is believed
	maxMoved   = 65_536           // tenants whose last change is remembered
	maxDoubted = 4_096            // tenants whose last doubt is remembered
)

// known is the cache's memory. Whatever is read from the catalog is stored under
// the mark that was taken before reading: when a change of that tenant passed in
// between, it is refused, and has to be read again.
type known struct {
	mu sync.Mutex // guards everything below

	keys    *simplelru.LRU[string, *keyRecord]
	keysOf  map[TenantID]map[string]struct{} // ids in keys, by tenant
	routes  *simplelru.LRU[TenantID, Route]
	unknown *simplelru.LRU[string, time.Time] // until when

	seen   int64 // every change up to this number is applied
	synced bool  // the clock has been read, so changes are noticed
	era    int   // counts what makes all earlier reads worthless

	// The last epoch of tenants that changed while this process runs; whoever
	// was dropped from it changed at forgotten or before.
	moved     *simplelru.LRU[TenantID, int64]
	forgotten int64

	// What was being read of a tenant when it was doubted is worth nothing, and
	// only of that tenant: doubts counts them, doubted has each one's last, and
	// whoever was dropped from it was doubted at lapsed or before.
	doubts  int64
	doubted *simplelru.LRU[TenantID, int64]
	lapsed  int64
}

// mark is a moment: what was known when a read began.
type mark struct {
	seen   int64
	era    int
	doubts int64
}

func (k *known) init(cfg CacheConfig) {
	k.keysOf = map[TenantID]map[string]struct{}{}
	k.keys = newLRU(cfg.MaxKeys, func(id string, rec *keyRecord) {
		ids := k.keysOf[rec.identity.Tenant]
		delete(ids, id)
		if len(ids) == 0 {
			delete(k.keysOf, rec.identity.Tenant)
		}
	})
	k.routes = newLRU[TenantID, Route](cfg.MaxRoutes, nil)
	k.unknown = newLRU[string, time.Time](maxUnknown, nil)
	k.moved = newLRU(maxMoved, func(_ TenantID, epoch int64) { k.forgotten = max(k.forgotten, epoch) })
	k.doubted = newLRU(maxDoubted, func(_ TenantID, doubt int64) { k.lapsed = max(k.lapsed, doubt) })
}

// newLRU can't fail: simplelru refuses a size below one alone.
func newLRU[K comparable, V any](size int, evicted simplelru.EvictCallback[K, V]) *simplelru.LRU[K, V] {
	lru, err := simplelru.NewLRU(size, evicted)
	if err != nil {
		panic(err)
	}
	return lru
}

func (k *known) mark() mark {
	k.mu.Lock()
	defer k.mu.Unlock()
	return mark{k.seen, k.era, k.doubts}
}

func (k *known) key(id string, now time.Time) (rec *keyRecord, unknown bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if rec, ok := k.keys.Get(id); ok {
		return rec, false
	}
	until, ok := k.unknown.Get(id)
	return nil, ok && now.Before(until)
}

func (k *known) route(id TenantID) (Route, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.routes.Get(id)
}

// current reports whether what was read since m is the truth as known now, and
// whether it may be kept.
func (k *known) current(m mark, id TenantID, epoch int64) (current, keep bool) {
	if !k.synced {
		return true, false
	}
	doubted, _ := k.doubted.Peek(id)
	if m.era != k.era || k.forgotten > m.seen || max(doubted, k.lapsed) > m.doubts {
		return false, false
	}
	moved, ok := k.moved.Peek(id)
	current = !ok || moved <= epoch
	return current, current
}

// setKey keeps a key; false means that it changed meanwhile: read it again.
func (k *known) setKey(m mark, id string, rec *keyRecord) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	tenant := rec.identity.Tenant
	current, keep := k.current(m, tenant, rec.identity.Epoch)
	if keep {
		k.keys.Add(id, rec)
		if k.keysOf[tenant] == nil {
			k.keysOf[tenant] = map[string]struct{}{}
		}
		k.keysOf[tenant][id] = struct{}{}
	}
	return current
}

// setRoute is setKey for a route.
func (k *known) setRoute(m mark, r Route) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	current, keep := k.current(m, r.Tenant, r.Epoch)
	if keep {
		k.routes.Add(r.Tenant, r)
	}
	return current
}

// setUnknown keeps that an id is nobody's, unless anything changed meanwhile: it
// could have been that key's creation.
func (k *known) setUnknown(m mark, id string, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.synced && m.seen == k.seen && m.era == k.era {
		k.unknown.Add(id, now.Add(unknownTTL))
	}
}

// movement is a tenant's change.
type movement struct {
	id    TenantID
	epoch int64
	state State
}

// advance applies every change up to seen.
func (k *known) advance(seen int64, moves []movement) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range moves {
		k.moved.Add(m.id, m.epoch)
		if r, ok := k.routes.Peek(m.id); ok && r.Epoch < m.epoch {
			k.routes.Remove(m.id)
		}
		for id := range k.keysOf[m.id] {
			if rec, ok := k.keys.Peek(id); ok && rec.identity.Epoch < m.epoch {
				k.keys.Remove(id)
			}
		}
	}
	if seen != k.seen {
		k.unknown.Purge()
		k.seen = seen
	}
}

// restart forgets everything; from now on changes after seen are noticed (or, at
// the end, no longer).
func (k *known) restart(seen int64, synced bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.era++
	k.seen, k.synced = seen, synced
	k.keys.Purge()
	k.routes.Purge()
	k.unknown.Purge()
	k.moved.Purge()
	k.forgotten = 0
}

// forget drops one tenant, and what is being read of it at this moment.
func (k *known) forget(id TenantID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.doubts++
	k.doubted.Add(id, k.doubts)
	k.routes.Remove(id)
	for key := range k.keysOf[id] {
		k.keys.Remove(key)
	}
}
