package router

import (
	"errors"
	"time"

	"freehold/catalog"
	"freehold/tenantdb"
)

// settleGrace is how long a suspended tenant's pool stays open for settlements.
const settleGrace = time.Second

// Invalidate tells that a tenant's truth moved (catalog.Cache.OnChange). It
// returns at once; off the request path the tenant's pool is renewed when server,
// database, role or secret differ, and closed when the tenant isn't served: a
// suspended one a second later, for settlements. When nothing of that changed,
// the pool stays warm.
func (r *Router) Invalidate(id catalog.TenantID, epoch int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	if no, ok := r.refusals.Peek(id); ok && no.asOf < epoch {
		r.refusals.Remove(id)
	}
	if f, ok := r.flights[id]; ok {
		r.moved(id)
		f.next = max(f.next, epoch)
		return
	}
	r.moved(id)
	if p, ok := r.pools.Peek(id); ok && p.asOf < epoch {
		r.launch(r.base, id, epoch)
	}
}

// renew brings the tenant's pool, if it has one, up to the route. It reports
// whether that was all, so that the flight has landed: with the pool that there
// is, or with a refusal.
func (r *Router) renew(f *flight, route catalog.Route, asOf int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		r.landed(f, nil, asOf, ErrClosed)
		return true
	}
	p, open := r.pools.Peek(f.id)
	if open && !sameTarget(p.route, route) {
		p.rec.decided("pool renewed: the tenant's route changed")
		r.detach(p)
		open = false
	}
	if open {
		if p.route.SchemaVersion != route.SchemaVersion {
			// Plans of statements may have changed with the tables.
			p.rec.decided("connections renewed: the schema changed")
			r.reset(p)
		}
		p.route, p.asOf = route, max(p.asOf, asOf)
		r.server(route)
	}
	err := r.gate(route, tenantdb.Interactive, open)
	switch {
	case err == nil && !open:
		return false
	case err == nil:
		r.landed(f, p, asOf, nil)
		return true
	case open && errors.Is(err, ErrSuspended):
		r.work.Go(func() { r.expire(p) })
	case open:
		r.detach(p)
	}
	r.landed(f, nil, asOf, err)
	return true
}

// expire takes a suspended tenant's pool out of use, unless the tenant has been
// resumed meanwhile. What is still borrowed then is closed under its borrower:
// nobody is served for a suspended tenant.
func (r *Router) expire(p *pool) {
	grace := time.NewTimer(settleGrace)
	defer grace.Stop()
	select {
	case <-grace.C:
	case <-p.gone:
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !p.isGone() && r.gate(p.route, tenantdb.Interactive, true) != nil {
		r.detach(p)
		for t := range p.tickets {
			if sock := t.socket(); sock != nil {
				sock.kill()
			}
		}
	}
}
