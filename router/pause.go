package router

import (
	"context"
	"time"

	"freehold/catalog"
)

// pause is a tenant's requests that wait while it moves. Guarded by Router.mu.
type pause struct {
	waiters int
	changed chan struct{} // closed when the tenant's truth moved
}

// lookAgain bounds the wait for news of a move, should they be lost.
const lookAgain = time.Second

// awaitMove waits for news of a tenant that moves; ErrMoving when there are none
// until then, or when too many wait already.
func (r *Router) awaitMove(ctx context.Context, id catalog.TenantID, until time.Time) error {
	r.mu.Lock()
	// News may have come between the refusal and here.
	if no, ok := r.refusals.Peek(id); !ok || time.Now().After(no.until) {
		if p, open := r.pools.Peek(id); !open || p.route.State != catalog.Moving {
			r.mu.Unlock()
			return ctx.Err()
		}
	}
	w, ok := r.pauses[id]
	if !time.Now().Before(until) || (ok && w.waiters >= r.cfg.PauseQueue) {
		r.mu.Unlock()
		return ErrMoving
	}
	if !ok {
		w = &pause{changed: make(chan struct{})}
		r.pauses[id] = w
	}
	w.waiters++
	r.mu.Unlock()

	timer := time.NewTimer(min(lookAgain, time.Until(until)))
	defer timer.Stop()
	var err error
	select {
	case <-w.changed:
		return nil
	case <-r.base.Done():
		err = ErrClosed
	case <-timer.C:
	case <-ctx.Done():
		err = waitError(ctx, ErrMoving)
	}
	r.mu.Lock()
	w.waiters--
	if w.waiters == 0 && r.pauses[id] == w {
		delete(r.pauses, id)
	}
	r.mu.Unlock()
	return err
}

// moved wakes those who wait for news of a tenant. It holds mu.
func (r *Router) moved(id catalog.TenantID) {
	if w, ok := r.pauses[id]; ok {
		delete(r.pauses, id)
		close(w.changed)
	}
}

// Drain returns when this router holds no connection of the tenant's from before
// epoch (catalog.Cache.OnMoving): its pool is out of use, its borrowers are done
// and the server has closed each connection. It is told of the epoch by that, as
// by Invalidate. Errors: ctx's own.
func (r *Router) Drain(ctx context.Context, id catalog.TenantID, epoch int64) error {
	r.Invalidate(id, epoch)
	// The breaks between are for look-ups that fail.
	for again := time.Millisecond; ; again = min(2*again, 100*time.Millisecond) {
		wait := r.older(id, epoch)
		if wait == nil {
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// older returns what to wait for until something of the tenant's from before the
// epoch has gone, nil when nothing is left.
func (r *Router) older(id catalog.TenantID, epoch int64) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f, ok := r.flights[id]; ok {
		return f.done
	}
	if p, ok := r.pools.Peek(id); ok && p.asOf < epoch && !r.closed {
		return r.launch(r.base, id, epoch).done
	}
	for p := range r.closing {
		// Not asOf: the news of the epoch is what took it out of use.
		if p.id == id && p.born < epoch {
			return p.closed
		}
	}
	return nil
}
