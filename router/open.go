package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"freehold/catalog"
	"freehold/tenantdb"
)

// flight looks a tenant's route up and, where there is no pool for it, opens one.
// There is at most one for a tenant; a crowd waits for it together.
type flight struct {
	id    catalog.TenantID
	epoch int64 // the truth it was started for
	fresh bool  // the route known for that truth is in doubt

	waiters int   // guarded by Router.mu
	next    int64 // guarded by Router.mu: a newer truth, told while it flew

	// done is closed when the flight has landed; the rest is set before that,
	// and pool is pinned once for each waiter.
	done chan struct{}
	pool *pool
	asOf int64
	err  error
}

// launch starts a flight, detached from ctx, whose values it keeps: a first
// caller who leaves must not harm those who wait with it. It holds mu, no flight
// of this tenant is under way and the router isn't closed.
func (r *Router) launch(ctx context.Context, id catalog.TenantID, epoch int64, fresh bool) *flight {
	f := &flight{id: id, epoch: epoch, fresh: fresh, done: make(chan struct{})}
	r.flights[id] = f
	ctx = context.WithoutCancel(ctx)
	r.work.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, r.cfg.OpenTimeout)
		defer cancel()
		defer context.AfterFunc(r.base, cancel)()
		r.fly(ctx, f)
	})
	return f
}

// leave takes a waiter off a flight that it doesn't wait for any longer.
func (r *Router) leave(f *flight) {
	r.mu.Lock()
	select {
	case <-f.done:
		r.mu.Unlock()
		if f.pool != nil {
			r.unpin(f.pool)
		}
	default:
		f.waiters--
		r.mu.Unlock()
	}
}

// fly runs a flight and lands it.
func (r *Router) fly(ctx context.Context, f *flight) {
	minEpoch := f.epoch
	if f.fresh {
		minEpoch++
	}
	route, err := r.look(ctx, f.id, minEpoch)
	if err != nil {
		r.land(f, nil, f.epoch, err)
		return
	}
	asOf := max(f.epoch, route.Epoch)
	if r.renew(f, route, asOf) {
		return
	}

	p, err := r.open(ctx, f.id, route, asOf)
	if err != nil && routeIsDoubtful(err) {
		again, lookErr := r.look(ctx, f.id, route.Epoch+1)
		if lookErr == nil && !sameTarget(route, again) && r.gate(again, tenantdb.Interactive, false) == nil {
			asOf = max(asOf, again.Epoch)
			p, err = r.open(ctx, f.id, again, asOf)
		}
	}
	if err != nil {
		r.mu.Lock()
		r.counts.openErrors++
		r.mu.Unlock()
		err = connectError(err)
		r.cfg.Logger.WarnContext(ctx, "cold open failed", "tenant", f.id.String(),
			"server", route.ServerID, "error", err)
	}
	r.land(f, p, asOf, err)
}

// look reads the route.
func (r *Router) look(ctx context.Context, id catalog.TenantID, minEpoch int64) (catalog.Route, error) {
	route, err := r.cfg.Route(ctx, id, minEpoch)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return catalog.Route{}, ErrUnknown
	case err != nil:
		return catalog.Route{}, fmt.Errorf("look tenant up: %w", err)
	case route.Config == nil:
		return catalog.Route{}, fmt.Errorf("look tenant up: its route has no configuration")
	}
	return route, nil
}

// open makes the tenant's pool and one connection in it, proven: a pool alone
// doesn't connect, and a crowd let loose on an empty one would dial all at once.
// Its errors are the driver's.
func (r *Router) open(ctx context.Context, id catalog.TenantID, route catalog.Route, asOf int64) (*pool, error) {
	p, err := r.newPool(ctx, id, route, asOf)
	if err != nil {
		return nil, err
	}
	conn, err := p.pg.Acquire(ctx)
	if err != nil {
		// The caller counts as work that Close waits for, and so does this.
		r.work.Go(p.pg.Close)
		return nil, err
	}
	conn.Release()
	return p, nil
}

// land ends a flight with a pool of its making, or with an error.
func (r *Router) land(f *flight, p *pool, asOf int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed && p != nil {
		r.work.Go(p.pg.Close)
		p = nil
	} else if p != nil {
		r.pools.Add(f.id, p)
		r.refusals.Remove(f.id)
	}
	r.landed(f, p, asOf, err)
}

// landed gives a flight's outcome to its waiters: p, which is in the LRU, or err.
// It holds mu.
func (r *Router) landed(f *flight, p *pool, asOf int64, err error) {
	delete(r.flights, f.id)
	f.pool, f.asOf, f.err = p, asOf, err
	defer close(f.done)
	if r.closed {
		f.err = ErrClosed
		return
	}
	if p != nil && f.waiters > 0 {
		if p.pins == 0 {
			r.pinned++
		}
		p.pins += f.waiters
	}
	if errors.Is(err, ErrUnknown) {
		if old, ok := r.pools.Peek(f.id); ok {
			r.detach(old)
		}
	}
	switch {
	case f.next > asOf:
		if _, ok := r.pools.Peek(f.id); ok {
			r.launch(r.base, f.id, f.next, false)
		}
	case isRefusal(err):
		// A crowd for a tenant that isn't served, or for made-up ids, must not
		// become a crowd of look-ups.
		r.refusals.Add(f.id, refusal{err: err, asOf: asOf, until: time.Now().Add(refusalLife)})
	}
	r.evict()
}

func isRefusal(err error) bool {
	return errors.Is(err, ErrUnknown) || errors.Is(err, ErrSuspended) ||
		errors.Is(err, ErrMoving) || errors.Is(err, ErrUpgrading)
}
