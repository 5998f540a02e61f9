package app

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
)

const (
	healthSlot = 10 * time.Second
	// healthSlots is how many slots that are over are remembered: what a wave is
	// compared with is what was before it.
	healthSlots = 60
	// healthTenants bounds the tenants that are remembered, those with a request last,
	// and healthShards is how many locks they share. All of them busy in every slot
	// take 40 MB.
	healthTenants = 4096
	healthShards  = 16
)

// healthRing is how this node served its tenants of late. It is safe for concurrent
// use.
type healthRing struct {
	slot   time.Duration
	born   time.Time
	shards [healthShards]healthShard
}

type healthShard struct {
	mu      sync.Mutex // guards tenants and what is in them
	tenants *simplelru.LRU[catalog.TenantID, *tenantSlots]
}

// tenantSlots has slot k at k modulo its length; nil: nothing was counted there yet.
type tenantSlots [healthSlots + 1]*slotCounts

// slotCounts is what was counted in slot k. It stays when it is over, until its place
// is needed.
type slotCounts struct {
	k                  int64
	requests, failures uint32
	buckets            [catalog.HealthBuckets]uint32
}

func newHealthRing(slot time.Duration) (*healthRing, error) {
	r := &healthRing{slot: slot, born: time.Now()}
	for i := range r.shards {
		lru, err := simplelru.NewLRU[catalog.TenantID, *tenantSlots](healthTenants/healthShards, nil)
		if err != nil {
			return nil, err
		}
		r.shards[i].tenants = lru
	}
	return r, nil
}

// current is the slot that goes on: the first is 0. The clock is this process's own,
// which nobody sets.
func (r *healthRing) current() int64 { return int64(time.Since(r.born) / r.slot) }

// count counts a request in the slot that it ended in.
func (r *healthRing) count(e rest.Ended) {
	id, err := catalog.ParseTenantID(e.Tenant)
	if err != nil {
		return
	}
	u := id.UUID()
	s := &r.shards[u[len(u)-1]%healthShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.tenants.Get(id)
	if !ok {
		t = new(tenantSlots)
		s.tenants.Add(id, t)
	}
	// Under the lock: what is over stays as it is once it was summed.
	k := r.current()
	at := &t[k%int64(len(t))]
	switch {
	case *at == nil:
		*at = &slotCounts{k: k}
	case (*at).k != k:
		**at = slotCounts{k: k}
	}
	(*at).requests++
	if e.Failed {
		(*at).failures++
	} else {
		(*at).buckets[catalog.HealthBucket(e.Took)]++
	}
}

// sum adds up what was counted for these tenants in the slots from to to, to left
// out; slot from+i is at i.
func (r *healthRing) sum(tenants map[catalog.TenantID]struct{}, from, to int64) []catalog.HealthSlot {
	sums := make([]catalog.HealthSlot, max(0, to-from))
	for i := range sums {
		sums[i] = catalog.HealthSlot{Seconds: int(r.slot / time.Second), Buckets: make([]int64, catalog.HealthBuckets)}
	}
	for i := range r.shards {
		r.shards[i].addTo(sums, tenants, from)
	}
	return sums
}

func (s *healthShard) addTo(sums []catalog.HealthSlot, tenants map[catalog.TenantID]struct{}, from int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range s.tenants.Keys() {
		if _, theirs := tenants[id]; !theirs {
			continue
		}
		t, _ := s.tenants.Peek(id)
		for i := range sums {
			k := from + int64(i)
			c := t[k%int64(len(t))]
			if c == nil || c.k != k {
				continue
			}
			sums[i].Requests += int64(c.requests)
			sums[i].Failures += int64(c.failures)
			for b, n := range c.buckets {
				sums[i].Buckets[b] += int64(n)
			}
		}
	}
}
