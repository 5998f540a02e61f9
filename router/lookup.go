package router

import (
	"context"
	"errors"
	"math"
	"time"

	"freehold/catalog"
	"freehold/tenantdb"
)

const (
	// unbounded keeps simplelru from evicting by itself: it can't see pins.
	unbounded = math.MaxInt
	// maxRefusals bounds the memory that made-up tenant ids can take.
	maxRefusals = 4096
	// refusalLife is how long a refusal answers without a look-up.
	refusalLife = time.Second
)

// refusal is why a tenant was not served, true as of an epoch.
type refusal struct {
	err   error
	asOf  int64
	until time.Time
}

// pin returns the tenant's pool, pinned: true as of the epoch, open, and not to
// be closed before unpin. It waits for a cold open, its own or another's.
func (r *Router) pin(ctx context.Context, id catalog.TenantID, epoch int64, class tenantdb.Class) (*pool, error) {
	for {
		r.mu.Lock()
		if r.closed {
			r.mu.Unlock()
			return nil, ErrClosed
		}
		if p, known, err := r.hit(id, epoch, class); known {
			r.mu.Unlock()
			return p, err
		}
		f, ok := r.flights[id]
		if !ok {
			f = r.launch(ctx, id, epoch, false)
			r.counts.misses++
		}
		f.waiters++
		r.mu.Unlock()

		select {
		case <-f.done:
		case <-ctx.Done():
			r.leave(f)
			return nil, waitError(ctx, tenantdb.ErrUnavailable)
		}
		switch {
		case f.asOf < epoch:
			// It was decided on an older truth than the caller's.
			if f.pool != nil {
				r.unpin(f.pool)
			}
		case f.err == nil:
			return f.pool, nil
		case class == tenantdb.Settle && errors.Is(f.err, ErrSuspended):
			// Refused to all others, but the pool may still be open.
			r.mu.Lock()
			p, known, err := r.hit(id, epoch, class)
			r.mu.Unlock()
			if known {
				return p, err
			}
			return nil, f.err
		default:
			return nil, f.err
		}
	}
}

// hit answers from memory, when what is known is true as of the epoch: a pinned
// pool or a refusal. It holds mu and allocates nothing.
func (r *Router) hit(id catalog.TenantID, epoch int64, class tenantdb.Class) (_ *pool, known bool, _ error) {
	if p, ok := r.pools.Get(id); ok && p.asOf >= epoch {
		if err := r.gate(p.route, class, true); err != nil {
			return nil, true, err
		}
		r.counts.hits++
		if p.pins == 0 {
			r.pinned++
		}
		p.pins++
		return p, true, nil
	}
	if no, ok := r.refusals.Get(id); ok && no.asOf >= epoch {
		if time.Now().Before(no.until) {
			return nil, true, no.err
		}
		r.refusals.Remove(id)
	}
	return nil, false, nil
}

// unpin ends what pin began. Whoever takes the last pin off makes room, if the
// LRU had to exceed its bound while all were pinned.
func (r *Router) unpin(p *pool) {
	r.mu.Lock()
	p.pins--
	if p.pins == 0 {
		if p.isGone() {
			close(p.drained)
		} else {
			r.pinned--
			r.evict()
		}
	}
	r.mu.Unlock()
}

// evict takes the least recently used pools without a pin out, until the bound is
// kept or every pool is pinned. It holds mu.
func (r *Router) evict() {
	for r.pools.Len() > r.cfg.MaxPools && r.pinned < r.pools.Len() {
		id, p, _ := r.pools.GetOldest()
		if p.pins > 0 {
			// In use at this moment: it isn't the oldest in truth.
			r.pools.Get(id)
			continue
		}
		r.counts.evictions++
		r.detach(p)
	}
}

// detach takes a pool out of use: nobody begins a borrow on it any more, and it
// is closed off the request path once its pins are off. It holds mu; p is in the
// LRU and the router isn't closed.
func (r *Router) detach(p *pool) {
	r.pools.Remove(p.id)
	close(p.gone)
	if p.pins == 0 {
		close(p.drained)
	} else {
		r.pinned--
	}
	r.closing[p] = struct{}{}
	r.work.Go(func() { r.drain(p) })
}

// gate refuses tenants that are not served. open says that their pool is.
func (r *Router) gate(route catalog.Route, class tenantdb.Class, open bool) error {
	switch route.State {
	case catalog.Active:
	case catalog.Suspended:
		if class != tenantdb.Settle || !open {
			return ErrSuspended
		}
	case catalog.Moving:
		return ErrMoving
	default:
		return ErrUnknown
	}
	if (r.cfg.SchemaMin > 0 && route.SchemaVersion < r.cfg.SchemaMin) ||
		(r.cfg.SchemaMax > 0 && route.SchemaVersion > r.cfg.SchemaMax) {
		return ErrUpgrading
	}
	return nil
}
