package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"freehold/catalog"
	"freehold/tenantdb"
)

// flight looks a tenant's route up and, where there is no pool for it, makes one.
// There is at most one for a tenant; a crowd waits for it together. Connections
// are made later, for those who need one.
type flight struct {
	id    catalog.TenantID
	epoch int64 // the truth it was started for

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
func (r *Router) launch(ctx context.Context, id catalog.TenantID, epoch int64) *flight {
	f := &flight{id: id, epoch: epoch, done: make(chan struct{})}
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
	route, err := r.look(ctx, f.id, f.epoch)
	if err != nil {
		r.lost(f, f.epoch, err)
		return
	}
	asOf := max(f.epoch, route.Epoch)
	if r.renew(f, route, asOf) {
		return
	}
	pg, err := r.newPgxpool(ctx, f.id, route)
	if err != nil {
		// The route can't be made a connection of, whoever answers there.
		r.cfg.Logger.ErrorContext(ctx, "pool can't be made", "tenant", f.id.String(), "server", route.ServerID)
		r.lost(f, asOf, fmt.Errorf("open pool: %w", tenantdb.ErrUnavailable))
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		r.work.Go(pg.Close)
		r.landed(f, nil, asOf, ErrClosed)
		return
	}
	p := r.newPool(pg, f.id, route, asOf)
	r.pools.Add(f.id, p)
	r.newest = p.rec
	r.refusals.Remove(f.id)
	r.landed(f, p, asOf, nil)
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

// lost ends a flight that made no pool.
func (r *Router) lost(f *flight, asOf int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.landed(f, nil, asOf, err)
}

// landed gives a flight's outcome to its waiters: p, which is in the LRU, or err.
// It holds mu.
func (r *Router) landed(f *flight, p *pool, asOf int64, err error) {
	delete(r.flights, f.id)
	f.pool, f.asOf, f.err = p, asOf, err
	defer close(f.done)
	if r.closed {
		f.pool, f.err = nil, ErrClosed
		return
	}
	if p != nil && f.waiters > 0 {
		if p.pins == 0 {
			r.pinned++
		}
		p.pins += f.waiters
		p.rec.touch(r.tick)
	}
	if errors.Is(err, ErrUnknown) {
		if old, ok := r.pools.Peek(f.id); ok {
			r.detach(old)
		}
	}
	switch {
	case f.next > asOf:
		if _, ok := r.pools.Peek(f.id); ok {
			r.launch(r.base, f.id, f.next)
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
