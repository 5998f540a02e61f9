package router

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/sony/gobreaker/v2"

	"freehold/catalog"
)

// View is a moment's picture for people: the servers, and the tenants that are
// busiest.
type View struct {
	At      time.Time    `json:"at"`
	Stats   Stats        `json:"stats"`
	Servers []ServerView `json:"servers"`
	Tenants []TenantView `json:"tenants"`
}

// ServerView is one Postgres server as this node uses it. Connections count from
// dial until the server has closed its end.
type ServerView struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Budget  int    `json:"budget"` // the server's, over all nodes
	Share   int    `json:"share"`  // this node's part of it, now
	Used    int    `json:"used"`   // held by pools: open, opening, closing
	Idle    int    `json:"idle"`
	Leased  int    `json:"leased"`
	Dialing int    `json:"dialing"`
	Closing int    `json:"closing"`

	Waiting      int           `json:"waiting"`        // callers in the queue
	OldestWait   time.Duration `json:"oldest_wait_ns"` // of these
	ExpectedWait time.Duration `json:"expected_wait_ns"`

	Breaker     string    `json:"breaker"` // closed, half-open or open
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`

	Dials      int64 `json:"dials"`
	DialErrors int64 `json:"dial_errors"`
	Reclaims   int64 `json:"reclaims"`  // idle connections closed for another tenant
	Refusals   int64 `json:"refusals"`  // callers that were told to come back later
	Failovers  int64 `json:"failovers"` // times that all connections were dropped at once

	Leases Histogram `json:"leases"` // how long connections were lent
	Waits  Histogram `json:"waits"`  // how long served callers stood in the queue
}

// TenantView is one tenant as this node serves it, and why.
type TenantView struct {
	ID     string `json:"id"`
	Slug   string `json:"slug"`
	Server string `json:"server"`
	State  string `json:"state"` // the catalog's, as this node knows it
	Plan   string `json:"plan"`
	Epoch  int64  `json:"epoch"`

	Pool    bool `json:"pool"`  // it has one open
	Pins    int  `json:"pins"`  // borrowers between look-up and release
	Conns   int  `json:"conns"` // held, of Limit
	Limit   int  `json:"limit"`
	Idle    int  `json:"idle"`
	Leased  int  `json:"leased"`
	Waiting int  `json:"waiting"`
	Weight  int  `json:"weight"`

	OldestLease time.Duration `json:"oldest_lease_ns"`
	OldestWait  time.Duration `json:"oldest_wait_ns"`
	// BorrowsPerSecond is recent, not exact.
	BorrowsPerSecond float64 `json:"borrows_per_second"`

	Breaker   string  `json:"breaker"`
	Errors    []Event `json:"errors"`    // the last few, newest first
	Decisions []Event `json:"decisions"` // the same

	// Why says in one sentence why this tenant is slow or refused, or that it
	// is neither.
	Why string `json:"why"`
}

// Event is something that happened to a tenant.
type Event struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// View looks at every server and at the tenants that are busiest, busiest first,
// at most top of them.
func (r *Router) View(top int) View {
	v := View{At: time.Now(), Stats: r.Stats()}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.servers {
		v.Servers = append(v.Servers, r.serverView(s))
	}
	slices.SortFunc(v.Servers, func(a, b ServerView) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	busiest := r.pools.Values()
	slices.SortFunc(busiest, func(a, b *pool) int {
		return cmp.Compare(b.rec.cool(r.tick), a.rec.cool(r.tick))
	})
	for _, p := range busiest[:min(len(busiest), max(0, top))] {
		v.Tenants = append(v.Tenants, r.tenantView(p.id, p.route, p))
	}
	return v
}

// serverView holds mu.
func (r *Router) serverView(s *server) ServerView {
	v := ServerView{
		ID: s.id, Name: s.name, Budget: s.budget, Share: s.share, Used: s.used,
		Dialing: s.dials, Closing: s.closing,
		Breaker:   s.breaker.State().String(),
		LastError: s.lastErr, LastErrorAt: s.lastErrAt,
		Dials: s.counts.dials, DialErrors: s.counts.dialErrors, Reclaims: s.counts.reclaims,
		Refusals: s.counts.refusals, Failovers: s.counts.failovers,
		Leases: s.leases.histogram(), Waits: s.waits.histogram(),
	}
	now := time.Now()
	for _, p := range r.pools.Values() {
		if p.srv != s {
			continue
		}
		v.Waiting += p.waiting.len()
		if at := p.waiting.oldest(); !at.IsZero() {
			v.OldestWait = max(v.OldestWait, now.Sub(at))
		}
	}
	for _, p := range s.holders {
		v.Idle += p.idle()
		v.Leased += p.lent
	}
	if len(s.needs) > 0 {
		v.ExpectedWait = r.expect(s.needs[0])
	}
	return v
}

// tenantView holds mu; p is nil when the tenant has no pool.
func (r *Router) tenantView(id catalog.TenantID, route catalog.Route, p *pool) TenantView {
	rec := r.record(id)
	s := r.server(route)
	v := TenantView{
		ID: id.String(), Slug: route.Slug, Server: orDefault(route.Server, route.ServerID), State: string(route.State),
		Plan: route.Plan, Epoch: route.Epoch, Limit: r.cfg.ConnsPerTenant, Weight: 1,
		BorrowsPerSecond: rec.perSecond(r.tick),
		Breaker:          gobreaker.StateClosed.String(),
		Errors:           newestFirst(rec.errors), Decisions: newestFirst(rec.decisions),
	}
	if r.cfg.Weight != nil {
		v.Weight = max(1, r.cfg.Weight(route.Plan))
	}
	if rec.breaker != nil {
		v.Breaker = (*rec.breaker).State().String()
	}
	if p != nil {
		now := time.Now()
		v.Pool, v.Pins, v.Conns, v.Idle, v.Leased = true, p.pins, len(p.tickets), p.idle(), p.lent
		v.Waiting = p.waiting.len()
		v.OldestLease = p.oldestLease(now)
		if at := p.waiting.oldest(); !at.IsZero() {
			v.OldestWait = now.Sub(at)
		}
	}
	if w, ok := r.pauses[id]; ok {
		v.Waiting += w.waiters
	}
	v.Why = r.why(route, p, s, v)
	return v
}

func newestFirst(list []Event) []Event {
	out := slices.Clone(list)
	slices.Reverse(out)
	if out == nil {
		out = []Event{}
	}
	return out
}

// Explain looks at one tenant. Errors: ErrUnknown, the look-up's own.
func (r *Router) Explain(ctx context.Context, id catalog.TenantID) (TenantView, error) {
	route, err := r.look(ctx, id, 0)
	if err != nil {
		return TenantView{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.pools.Peek(id)
	if !ok {
		p = nil
	}
	return r.tenantView(id, route, p), nil
}

// Reconnect closes the tenant's connections, borrowed ones when they come back.
func (r *Router) Reconnect(id catalog.TenantID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, ok := r.pools.Peek(id); ok && !r.closed {
		p.rec.decided("connections closed by an operator")
		r.reset(p)
	}
}
