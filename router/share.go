package router

import (
	"context"
	"time"

	"freehold/catalog"
)

const (
	// shareEvery is how often this node says what it does with its shares, and
	// shareSoon how soon when somebody waits for more.
	shareEvery = time.Second
	shareSoon  = 100 * time.Millisecond
	// shareTimeout bounds each time.
	shareTimeout = 3 * time.Second
	// peakEvery is how long a peak of demand counts, at least; twice at most.
	peakEvery = 10 * time.Second
)

// kickShares has the shares asked for at once. It doesn't wait.
func (r *Router) kickShares() {
	select {
	case r.shares <- struct{}{}:
	default:
	}
}

// keepShares asks for this node's part of every server's budget until the router
// closes.
func (r *Router) keepShares() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	turned := time.Now()
	for {
		select {
		case <-timer.C:
		case <-r.shares:
		case <-r.base.Done():
			return
		}
		turn := time.Since(turned) >= peakEvery
		if turn {
			turned = time.Now()
		}
		next := shareEvery
		for _, s := range r.allServers() {
			if soon := r.askShare(s, turn); soon {
				next = shareSoon
			}
		}
		timer.Reset(next)
	}
}

func (r *Router) allServers() []*server {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*server, 0, len(r.servers))
	for _, s := range r.servers {
		all = append(all, s)
	}
	return all
}

// askShare tells what this node does at a server and takes what it is told. It
// reports whether to ask again soon, because somebody waits for it.
func (r *Router) askShare(s *server, turn bool) (soon bool) {
	r.mu.Lock()
	if turn {
		s.peak[1], s.peak[0] = s.peak[0], 0
	}
	wanted := s.used - s.closing
	for _, p := range s.needs {
		wanted += min(p.waiting.len(), r.limit(p)-len(p.tickets))
	}
	idle := 0
	for _, p := range s.holders {
		idle += p.idle()
	}
	s.peak[0] = max(s.peak[0], wanted-idle)
	ask := catalog.ShareAsk{Server: s.id, Cap: max(s.share, s.used), Demand: max(s.peak[0], s.peak[1])}
	r.mu.Unlock()

	// Before the question: who answers counts from later.
	asked := time.Now()
	ctx, cancel := context.WithTimeout(r.base, shareTimeout)
	defer cancel()
	told, err := r.cfg.Share(ctx, ask)

	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if r.base.Err() == nil && s.lastErr != shareFailed {
			r.cfg.Logger.Warn(shareFailed, "server", s.id, "error", err)
		}
		s.lastErr, s.lastErrAt = shareFailed, time.Now()
		return len(s.needs) > 0
	}
	s.asked, s.confirmed, s.budget = true, asked, told.Budget
	// From now on no more than the target; what is above it goes as it is given
	// back, and the next ask says how far that got.
	s.share = min(told.Granted, told.Target)
	for s.over() > 0 {
		v := r.cheapest(s)
		if v == nil {
			break
		}
		r.closeIdle(v, sharedOut)
	}
	r.dispatch(s)
	// Others may wait for what this node gives back.
	return told.Granted > told.Target || (len(s.needs) > 0 && s.free(r) <= 0)
}

const (
	shareFailed = "share of the server's budget not confirmed"
	sharedOut   = "the server's budget is shared with another node: a connection was closed"
)

// cheapest is the pool whose idle connection is worth least, of all that have
// one. It holds mu.
func (r *Router) cheapest(s *server) *pool {
	var cheapest *pool
	var least float32
	for _, p := range s.holders {
		if p.idle() == 0 {
			continue
		}
		if cost := r.worth(p); cheapest == nil || cost < least {
			cheapest, least = p, cost
		}
	}
	return cheapest
}
