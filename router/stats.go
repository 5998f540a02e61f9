package router

import "time"

// Stats is a moment's picture, with counts since the start.
type Stats struct {
	Pools   int `json:"pools"`   // open and in use
	Pinned  int `json:"pinned"`  // of these, with a borrower
	Opening int `json:"opening"` // look-ups under way
	Closing int `json:"closing"` // pools out of use, waiting for borrowers or for the server
	Conns   int `json:"conns"`   // connections, from dial until the server has closed its end
	Leases  int `json:"leases"`  // connections lent out
	// OldestLease is the age of the lease that is out longest, 0 without one.
	OldestLease time.Duration `json:"oldest_lease_ns"`

	Hits       int64 `json:"hits"`        // borrows that found their pool open
	Misses     int64 `json:"misses"`      // look-ups that borrows started
	Evictions  int64 `json:"evictions"`   // pools closed to keep MaxPools
	OpenErrors int64 `json:"open_errors"` // connections that could not be made
}

// counts are the running numbers of Stats; guarded by Router.mu.
type counts struct {
	hits, misses, evictions, openErrors int64
}

// Stats walks all pools: for a metric every few seconds, not for a request.
func (r *Router) Stats() Stats {
	r.mu.Lock()
	s := Stats{
		Pools:      r.pools.Len(),
		Pinned:     r.pinned,
		Opening:    len(r.flights),
		Closing:    len(r.closing),
		Hits:       r.counts.hits,
		Misses:     r.counts.misses,
		Evictions:  r.counts.evictions,
		OpenErrors: r.counts.openErrors,
	}
	now := time.Now()
	for _, srv := range r.servers {
		for _, p := range srv.holders {
			s.Conns += len(p.tickets)
			s.Leases += p.lent
			s.OldestLease = max(s.OldestLease, p.oldestLease(now))
		}
	}
	r.mu.Unlock()
	return s
}

// oldestLease is the age of the pool's oldest lease, 0 when none is out. It
// holds mu.
func (p *pool) oldestLease(now time.Time) time.Duration {
	var age time.Duration
	for _, l := range p.leases {
		if since := l.since.Load(); since != 0 {
			age = max(age, now.Sub(time.Unix(0, since)))
		}
	}
	return age
}
