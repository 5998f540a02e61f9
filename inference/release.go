package inference

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"freehold/tenantdb"
)

// Live is who is alive: processes, by the id under which they reserve, and the time
// after which a silent one counts as dead.
type Live struct {
	Nodes     []uuid.UUID
	DeadAfter time.Duration
}

// releaseEvery bounds how often a tenant's refusals look for slots of the dead.
const releaseEvery = time.Second

// releases knows when it was looked last.
type releases struct {
	mu   sync.Mutex // guards last
	last map[string]time.Time
}

// turn reports whether it is time to look again.
func (r *releases) turn(tenant string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Sub(r.last[tenant]) < releaseEvery {
		return false
	}
	if r.last == nil || len(r.last) > 1000 { // most of them are long over
		r.last = map[string]time.Time{}
	}
	r.last[tenant] = now
	return true
}

// release gives back the slots that dead processes hold, when a request would
// otherwise be refused for want of one. It reports whether there was any.
func (s *Service) release(ctx context.Context, c Call) bool {
	if s.cfg.Live == nil || !s.swept.turn(c.Scope) {
		return false
	}
	live, err := s.cfg.Live(ctx)
	if err != nil || len(live.Nodes) == 0 {
		return false // nobody is dead for all we know
	}
	n := 0
	err = c.Tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) (err error) {
		n, err = db.ReleaseSlots(ctx, slices.Concat(live.Nodes, []uuid.UUID{s.cfg.Node}), live.DeadAfter) // the list may be shared
		return err
	})
	if err != nil {
		return false
	}
	if n > 0 {
		s.cfg.Logger.WarnContext(ctx, "slots of dead processes given back", "tenant", c.Scope, "slots", n)
	}
	return n > 0
}
