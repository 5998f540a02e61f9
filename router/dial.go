package router

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"freehold/catalog"
	"freehold/tenantdb"
)

// calmAfter is how long a pool that has other connections waits after a failed
// dial, give or take a half.
const calmAfter = 250 * time.Millisecond

// dial makes one more connection for a pool. It holds mu; the pool wants it and
// there is a ticket. The connection goes to whoever is next when it is there: a
// borrower that leaves meanwhile harms nobody.
func (r *Router) dial(p *pool) {
	s := p.srv
	t := r.take(p)
	if len(p.tickets) >= maxDials {
		p.calm = time.Now().Add(ramp)
	}
	p.rec.enter(s)
	s.vnow = max(s.vnow, p.rec.pass)
	p.rec.pass += s.dialTime.Seconds() / float64(r.weight(p))
	r.place(p)
	r.work.Go(func() { r.connect(t) })
}

// connect dials, proves and lands.
func (r *Router) connect(t *ticket) {
	p := t.pool
	report, err := r.allow(p)
	if err != nil {
		r.fail(t, err)
		return
	}
	// No end of its own: the dial and the proof have theirs, closing the pool ends
	// both, and pgxpool would go on with a connection that nobody waits for.
	ctx := context.WithValue(context.WithoutCancel(r.base), ticketKey{}, t)
	began := time.Now()
	conn, err := p.pg.Acquire(ctx)
	if err != nil {
		switch {
		case r.base.Err() != nil:
			err = ErrClosed
		case p.isGone():
			err = errGone // closing the pool broke it off
		}
		report(err)
		r.fail(t, err)
		return
	}
	took := time.Since(began)
	mine := ticketOf(conn) == t
	pid := conn.Conn().PgConn().PID()
	if mine {
		t.prove()
		report(nil)
	} else {
		report(errGone) // nothing was dialled
	}
	conn.Release()

	r.mu.Lock()
	defer r.mu.Unlock()
	if mine {
		if len(p.tickets) >= maxDials {
			p.calm = time.Now().Add(ramp)
		}
		t.pid = pid
		p.srv.dialTime = average(p.srv.dialTime, took)
		p.idleAt = time.Now()
		r.land(t)
		if !p.isGone() {
			r.serve(p)
			r.place(p)
		}
		r.dispatch(p.srv)
		return
	}
	// A connection had come back meanwhile, and pgxpool preferred it.
	if !p.isGone() {
		r.serve(p)
	}
	r.end(t)
}

// fail ends a dial that made no connection, and tells those for whom there is
// none other.
func (r *Router) fail(t *ticket, err error) {
	p := t.pool
	if routeIsDoubtful(err) && r.reconsider(p) {
		err = errGone
	}
	told := err
	real := !errors.Is(err, errGone) && !errors.Is(err, ErrClosed) && !errors.Is(err, errBroken)
	if real {
		told = connectError(err)
		r.cfg.Logger.Warn("connection not opened", "tenant", p.id.String(), "server", p.srv.id, "error", told)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if real {
		r.counts.openErrors++
		p.srv.counts.dialErrors++
		p.srv.lastErr, p.srv.lastErrAt = told.Error(), time.Now()
		p.rec.failed(told.Error())
	}
	p.calm = time.Now().Add(calmAfter/2 + rand.N(calmAfter)) //nolint:gosec // jitter is no secret
	switch {
	case p.isGone():
	case errors.Is(err, tenantdb.ErrForeign):
		r.refuse(p, told)
		r.detach(p)
	case p.dials == 1 && p.ready == 0: // this one
		r.refuse(p, told)
	}
	if sock := t.socket(); sock != nil && !sock.isOver() {
		p.dials--
		p.srv.dials--
		p.srv.closing++
		t.state = closing
		r.dispatch(p.srv)
		return
	}
	r.end(t)
}

// reconsider asks the catalog once more where the tenant is, because its server
// refuses what was true before. It reports whether something else is true now;
// then the pool is out of use and the tenant has another one, or none.
func (r *Router) reconsider(p *pool) bool {
	r.mu.Lock()
	if p.isGone() || time.Now().Before(p.settled) {
		gone := p.isGone()
		r.mu.Unlock()
		return gone
	}
	p.settled = time.Now().Add(refusalLife)
	old := p.route
	r.mu.Unlock()

	ctx, cancel := context.WithTimeout(r.base, r.cfg.OpenTimeout)
	defer cancel()
	route, err := r.look(ctx, p.id, old.Epoch+1)
	var next *pool
	switch {
	case errors.Is(err, ErrUnknown):
	case err != nil || sameTarget(old, route) || r.gate(route, tenantdb.Interactive, false) != nil:
		return false
	default:
		if next, err = r.prepare(ctx, p.id, route, max(p.asOf, route.Epoch)); err != nil {
			return false
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.isGone() || r.closed {
		if next != nil {
			r.work.Go(next.pg.Close)
		}
		return true
	}
	r.detach(p)
	if next != nil {
		r.pools.Add(p.id, next)
		return true
	}
	r.refusals.Add(p.id, refusal{err: ErrUnknown, asOf: p.asOf, until: time.Now().Add(refusalLife)})
	return true
}

// prepare makes a pool without connecting.
func (r *Router) prepare(ctx context.Context, id catalog.TenantID, route catalog.Route, asOf int64) (*pool, error) {
	pg, err := r.newPgxpool(ctx, id, route)
	if err != nil {
		return nil, fmt.Errorf("open pool: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.newPool(pg, id, route, asOf), nil
}
