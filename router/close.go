package router

import (
	"context"
	"fmt"
	"time"
)

// Close refuses new borrows (ErrClosed), waits for leases until ctx ends, closes
// every pool. When ctx ends first it says how many leases are out; their pools
// close when they come back. Calling it again waits again.
func (r *Router) Close(ctx context.Context) error {
	r.mu.Lock()
	if !r.closed {
		for _, p := range r.pools.Values() {
			r.detach(p)
		}
		r.closed = true
	}
	r.mu.Unlock()
	r.stop()

	done := make(chan struct{})
	go func() {
		r.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close router: %d leases out: %w", r.Stats().Leases, ctx.Err())
	}
}

// drain closes a pool that is out of use once its borrowers are done with it, and
// waits until the server has closed its connections. It runs off the request
// path: pgxpool's Close has no deadline.
func (r *Router) drain(p *pool) {
	// Idle connections go at once, borrowed ones when they come back.
	p.pg.Reset()
	timeout := time.NewTimer(r.cfg.CloseTimeout)
	defer timeout.Stop()
	select {
	case <-p.drained:
	case <-timeout.C:
		r.mu.Lock()
		age := p.oldestLease(time.Now())
		r.mu.Unlock()
		r.cfg.Logger.Warn("pool still borrowed after the close timeout",
			"tenant", p.id.String(), "oldest_lease_ms", age.Milliseconds())
	}
	p.pg.Close()

	r.mu.Lock()
	p.shut = true
	r.closedIf(p)
	r.mu.Unlock()
	<-p.closed
}

// closedIf notes that a pool is closed when nothing of it is left. It holds mu.
func (r *Router) closedIf(p *pool) {
	if p.shut && len(p.tickets) == 0 {
		p.shut = false
		delete(r.closing, p)
		close(p.closed)
	}
}

// reset has the pool's connections closed, borrowed ones when they come back. It
// holds mu and doesn't wait.
func (r *Router) reset(p *pool) { r.work.Go(p.pg.Reset) }
