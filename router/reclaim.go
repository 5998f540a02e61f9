package router

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"freehold/tenantdb"
)

const (
	// youngest is how long a connection must have been idle before it is closed
	// for a tenant that has none.
	youngest = 5 * time.Millisecond
	// mature is the same where the other tenant only wants one more.
	mature = time.Second
	// closeTimeout bounds the sending of a Terminate.
	closeTimeout = 2 * time.Second
)

// reclaim has the cheapest idle connection of another tenant on p's server closed
// for p. False when there is none to be had. It holds mu.
func (r *Router) reclaim(p *pool) bool {
	v := r.victim(p)
	if v == nil {
		return false
	}
	p.srv.counts.reclaims++
	p.rec.decided("server full: had an idle connection of another tenant closed")
	r.closeIdle(v, "server full: an idle connection was closed for another tenant")
	return true
}

// victim is the pool whose idle connection is worth least: a tenant's last one is
// worth its heat, and each further one much less. So a crowd of cold tenants
// takes its connections from one another and leaves the hot ones theirs. It
// holds mu.
func (r *Router) victim(p *pool) *pool {
	var (
		cheapest *pool
		least    float32
		now      = time.Now()
		held     = len(p.tickets) * 1000 / r.weight(p)
	)
	for _, v := range p.srv.holders {
		idle := v.idle()
		if idle == 0 || v == p {
			continue
		}
		switch age := now.Sub(v.idleAt); {
		case idle > 1 && (held == 0 || len(v.tickets)*1000/r.weight(v) > held):
		case held == 0 && age >= youngest:
		case age >= mature:
		default:
			continue
		}
		if cost := r.worth(v); cheapest == nil || cost < least {
			cheapest, least = v, cost
		}
	}
	return cheapest
}

// worth is what an idle connection of the pool is worth: its tenant's heat, and
// the less the more of them are idle. It holds mu; at least one is.
func (r *Router) worth(p *pool) float32 {
	idle := p.idle()
	return p.rec.cool(r.tick) / float32(idle*idle)
}

// lookLater looks for an idle connection again when one may be old enough. It
// holds mu.
func (r *Router) lookLater(s *server) {
	if s.wake != nil {
		s.wake.Reset(youngest / 2)
		return
	}
	s.wake = time.AfterFunc(youngest/2, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.closed {
			r.dispatch(s)
		}
	})
}

// closeIdle closes one idle connection of the pool. It holds mu.
func (r *Router) closeIdle(p *pool, why string) {
	l := p.lease(tenantdb.Interactive)
	p.srv.reclaiming++
	p.rec.decided(why)
	r.work.Go(func() {
		// It is to be closed: whether it lives is all the same.
		ctx, cancel := context.WithTimeout(context.WithValue(r.base, toClose{}, true), closeTimeout)
		defer cancel()
		conn, err := p.pg.Acquire(ctx)
		if err == nil {
			r.retire(ctx, conn)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		p.lent--
		p.spare = append(p.spare, l)
		p.srv.reclaiming--
		r.dispatch(p.srv)
	})
}

type toClose struct{}

// idleTooLong is pgxpool's ShouldPing: a connection that lay idle may be dead.
func idleTooLong(ctx context.Context, idle pgxpool.ShouldPingParams) bool {
	return idle.IdleDuration > time.Second && ctx.Value(toClose{}) == nil
}

// retire closes a connection that was acquired to be closed.
func (r *Router) retire(ctx context.Context, conn *pgxpool.Conn) {
	if t := ticketOf(conn); t != nil {
		r.mu.Lock()
		r.doom(t)
		r.mu.Unlock()
	}
	_ = conn.Hijack().Close(ctx) // the socket's own end is waited for elsewhere
}
