package router

import "time"

// Stats is a moment's picture, with counts since the start.
type Stats struct {
	Pools   int // open and in use
	Pinned  int // of these, with a borrower
	Opening int // look-ups and cold opens under way
	Closing int // pools out of use, waiting for borrowers or for the server
	Conns   int // connections of all these pools
	Leases  int // connections lent out
	// OldestLease is the age of the lease that is out longest, 0 without one.
	OldestLease time.Duration

	Hits       int64 // borrows that found their pool open
	Misses     int64 // look-ups that borrows started
	Evictions  int64 // pools closed to keep MaxPools
	OpenErrors int64 // cold opens that failed
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
	pools := r.pools.Values()
	for p := range r.closing {
		pools = append(pools, p)
	}
	r.mu.Unlock()

	now := time.Now()
	for _, p := range pools {
		s.Conns += int(p.pg.Stat().TotalConns())
		for _, l := range p.all {
			if l.since.Load() != 0 {
				s.Leases++
			}
		}
		s.OldestLease = max(s.OldestLease, p.oldestLease(now))
	}
	return s
}

// oldestLease is the age of the pool's oldest lease, 0 when none is out.
func (p *pool) oldestLease(now time.Time) time.Duration {
	var age time.Duration
	for _, l := range p.all {
		if since := l.since.Load(); since != 0 {
			age = max(age, now.Sub(time.Unix(0, since)))
		}
	}
	return age
}
