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
	// spares is how many pools that are busier than the newcomer an eviction
	// passes over.
	spares = 8
)

// refusal is why a tenant was not served, true as of an epoch.
type refusal struct {
	err   error
	asOf  int64
	until time.Time
}

// pin returns the tenant's pool, pinned: true as of the epoch, open, and not to
// be closed before unpin; and a lease when a connection is idle. It waits for a
// look-up, its own or another's, and while the tenant moves.
func (r *Router) pin(ctx context.Context, id catalog.TenantID, epoch int64, class tenantdb.Class) (*pool, *lease, error) {
	var moving time.Time // since when it waits for a move to end
	for {
		p, l, err := r.pinOnce(ctx, id, epoch, class)
		if !errors.Is(err, ErrMoving) {
			return p, l, err
		}
		if moving.IsZero() {
			moving = time.Now()
		}
		if err := r.awaitMove(ctx, id, moving.Add(r.cfg.PauseWait)); err != nil {
			return nil, nil, err
		}
	}
}

func (r *Router) pinOnce(ctx context.Context, id catalog.TenantID, epoch int64, class tenantdb.Class) (*pool, *lease, error) {
	for {
		r.mu.Lock()
		if r.closed {
			r.mu.Unlock()
			return nil, nil, ErrClosed
		}
		if p, known, err := r.hit(id, epoch, class); known {
			var l *lease
			if p != nil {
				l = r.grab(p, class)
			}
			r.mu.Unlock()
			return p, l, err
		}
		f, ok := r.flights[id]
		if !ok {
			f = r.launch(ctx, id, epoch)
			r.counts.misses++
		}
		f.waiters++
		r.mu.Unlock()

		select {
		case <-f.done:
		case <-ctx.Done():
			r.leave(f)
			return nil, nil, waitError(ctx, tenantdb.ErrUnavailable)
		}
		switch {
		case f.asOf < epoch:
			// It was decided on an older truth than the caller's.
			if f.pool != nil {
				r.unpin(f.pool)
			}
		case f.err == nil:
			return f.pool, nil, nil
		case class == tenantdb.Settle && errors.Is(f.err, ErrSuspended):
			// Refused to all others, but the pool may still be open.
			r.mu.Lock()
			p, known, err := r.hit(id, epoch, class)
			r.mu.Unlock()
			if known {
				return p, nil, err
			}
			return nil, nil, f.err
		default:
			return nil, nil, f.err
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
		p.rec.touch(r.tick)
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

// unpin ends what pin began.
func (r *Router) unpin(p *pool) {
	r.mu.Lock()
	r.unpinned(p)
	r.mu.Unlock()
}

// unpinned is unpin with mu held. Whoever takes the last pin off makes room, if
// the LRU had to exceed its bound while all were pinned.
func (r *Router) unpinned(p *pool) {
	p.pins--
	if p.pins > 0 {
		return
	}
	if p.isGone() {
		close(p.drained)
	} else {
		r.pinned--
		r.evict()
	}
}

// evict takes pools without a pin out, the least recently used first, until the
// bound is kept or every pool is pinned. One that is busier than the newcomer is
// passed over, so that a scan of cold tenants doesn't flush the hot ones. It
// holds mu.
func (r *Router) evict() {
	if r.pools.Len() <= r.cfg.MaxPools {
		return
	}
	newest := r.newest.cool(r.tick)
	for passed := 0; r.pools.Len() > r.cfg.MaxPools && r.pinned < r.pools.Len(); {
		id, p, _ := r.pools.GetOldest()
		if p.pins > 0 {
			// In use at this moment: it isn't the oldest in truth.
			r.pools.Get(id)
			continue
		}
		if passed < spares && p.rec.cool(r.tick) > newest+1 {
			passed++
			r.pools.Get(id)
			continue
		}
		r.counts.evictions++
		p.rec.decided("pool closed: the router held its most, and this one was used least")
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
	r.refuse(p, errGone)
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
	return r.Serves(route.SchemaVersion, route.SchemaNeeds)
}

// Serves returns ErrUpgrading unless this binary serves a tenant whose schema has
// this version and needs a binary whose latest is that; needs 0 is the version.
func (r *Router) Serves(version, needs int64) error {
	if needs == 0 {
		needs = version
	}
	if version < r.cfg.SchemaMin || r.cfg.SchemaMax > 0 && needs > r.cfg.SchemaMax {
		return ErrUpgrading
	}
	return nil
}
