package router

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// dropAtMost is how often all connections to a server are dropped at once.
const dropAtMost = 5 * time.Second

// told is the driver's report of an error from a server. What a primary says that
// isn't one any more, or that goes down, is true of all connections to it: they
// are dropped once, and the server's name is resolved anew. An administrator may
// also have ended a single session, so others are tried before that is believed.
func (r *Router) told(server string, err *pgconn.PgError) {
	switch {
	case err.Code == readOnlyTransaction:
		r.mu.Lock()
		defer r.mu.Unlock()
		if s, ok := r.servers[server]; ok {
			r.drop(s, "it takes no writes any more")
		}
	case err.Code == adminShutdown, err.Code == crashShutdown, err.Code == cannotConnectNow,
		len(err.Code) > 2 && err.Code[:2] == connectionException:
		r.mu.Lock()
		defer r.mu.Unlock()
		if s, ok := r.servers[server]; ok {
			r.suspect(s, err.Code)
		}
	}
}

// drop closes every connection to a server, borrowed ones when they come back.
// It holds mu.
func (r *Router) drop(s *server, why string) {
	if r.closed || time.Since(s.dropped) < dropAtMost {
		return
	}
	s.dropped = time.Now()
	s.counts.failovers++
	r.cfg.Logger.Warn("connections dropped", "server", s.id, "reason", why)
	for _, p := range s.holders {
		p.rec.decided("connections dropped: " + why)
		r.reset(p)
	}
}

// suspect tries whether an idle connection of another backend lives, and drops
// them all when none of a few does. It holds mu.
func (r *Router) suspect(s *server, code string) {
	if s.probing || r.closed || time.Since(s.dropped) < dropAtMost {
		return
	}
	s.probing = true
	var some []*pool
	for _, p := range s.holders {
		if p.idle() > 0 && !p.isGone() {
			if some = append(some, p); len(some) == 3 {
				break
			}
		}
	}
	leases := make([]*lease, len(some))
	for i, p := range some {
		leases[i] = p.lease(0)
	}
	r.work.Go(func() {
		alive := len(some) == 0
		for i, p := range some {
			alive = r.lives(p) || alive
			r.mu.Lock()
			r.put(leases[i], time.Now())
			r.mu.Unlock()
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		s.probing = false
		if !alive {
			r.drop(s, "its sessions end with "+code)
		}
	})
}

// lives tries an idle connection of the pool, of which the caller has a lease.
func (r *Router) lives(p *pool) bool {
	ctx, cancel := context.WithTimeout(context.WithValue(r.base, toClose{}, true), pingTimeout)
	defer cancel()
	conn, err := p.pg.Acquire(ctx)
	if err != nil {
		return false
	}
	defer conn.Release()
	return conn.Ping(ctx) == nil
}
