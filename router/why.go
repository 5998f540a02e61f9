package router

import (
	"fmt"
	"time"

	"github.com/sony/gobreaker/v2"

	"freehold/catalog"
)

// why says in one sentence what holds this tenant's requests up, the strongest
// reason first. It holds mu; p is nil when there is no pool.
func (r *Router) why(route catalog.Route, p *pool, s *server, v TenantView) string {
	switch {
	case route.State == catalog.Suspended:
		return "Refused: the tenant is suspended (freehold tenant resume)."
	case route.State == catalog.Moving:
		return fmt.Sprintf("Paused: the tenant is moving; %s, each for at most %s.", count(v.Waiting, "request waits", "requests wait"), r.cfg.PauseWait)
	case route.State != catalog.Active:
		return fmt.Sprintf("Refused: the tenant is %s.", route.State)
	case route.SchemaVersion < r.cfg.SchemaMin:
		return fmt.Sprintf("Refused: its schema is version %d, and this binary serves %d and later ones (freehold migrate up).",
			route.SchemaVersion, r.cfg.SchemaMin)
	case r.gate(route, 0, true) != nil:
		return fmt.Sprintf("Refused: its schema is version %d, which needs a binary that knows version %d, and this one knows %d (upgrade this node).",
			route.SchemaVersion, orDefault(route.SchemaNeeds, route.SchemaVersion), r.cfg.SchemaMax)
	case v.Breaker == gobreaker.StateOpen.String():
		return "Refused: its database refused several connections in a row" + last(v.Errors) + "; it is tried again within a second."
	case s.breaker.State() == gobreaker.StateOpen && v.Idle+v.Leased == 0:
		return fmt.Sprintf("Refused: server %s failed several times in a row (%s); it is tried again within two seconds.", v.Server, s.lastErr)
	case p == nil || v.Waiting == 0:
		return r.calmly(p, s, v)
	case v.Conns >= v.Limit:
		return fmt.Sprintf("Slow: %s, its limit (FREEHOLD_TENANT_CONNECTIONS), and %s.",
			count(v.Limit, "connection is in use", "connections are in use"), count(v.Waiting, "request waits", "requests wait"))
	case s.free(r) <= 0 && s.share < s.budget:
		return fmt.Sprintf("Slow: this node holds its whole share of server %s, %d of a budget of %d connections, and %s.",
			v.Server, s.share, s.budget, count(v.Waiting, "request of this tenant waits", "requests of this tenant wait"))
	case s.free(r) <= 0:
		return fmt.Sprintf("Slow: server %s is full, its budget of %s is in use, and %s in the queue.",
			v.Server, count(s.budget, "connection", "connections"), count(v.Waiting, "request of this tenant waits", "requests of this tenant wait"))
	case p.dials > 0:
		return fmt.Sprintf("Slow: a connection is being made, which takes %s of late, and %s.",
			s.dialTime.Round(time.Millisecond/10), count(v.Waiting, "request waits", "requests wait"))
	}
	return fmt.Sprintf("Slow: %s in line for one of its %d connections, which are lent for %s on average.",
		count(v.Waiting, "request stands", "requests stand"), v.Conns, p.rec.lease.Round(time.Microsecond))
}

// calmly is for a tenant that nobody waits for.
func (r *Router) calmly(p *pool, s *server, v TenantView) string {
	switch {
	case v.OldestLease > r.cfg.LeaseWarn:
		return fmt.Sprintf("Slow: a connection has been lent for %s; look into the log for who took it.", v.OldestLease.Round(time.Millisecond))
	case p == nil:
		return "Neither slow nor refused: it is idle, and the next request opens a connection, in about " +
			s.dialTime.Round(time.Millisecond/10).String() + "."
	case len(v.Errors) > 0 && time.Since(v.Errors[0].At) < time.Minute:
		return "Served, after an error in the last minute: " + v.Errors[0].Text + "."
	case len(v.Decisions) > 0 && time.Since(v.Decisions[0].At) < time.Minute:
		return "Served; the last thing decided for it: " + v.Decisions[0].Text + "."
	}
	return "Neither slow nor refused: nobody waits for its connections."
}

func last(errs []Event) string {
	if len(errs) == 0 {
		return ""
	}
	return " (" + errs[0].Text + ")"
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
