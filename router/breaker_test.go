package router_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/router"
	"freehold/tenantdb"
)

// trips is how many failures in a row open a breaker.
const trips = 5

// explain is the tenant as the router sees it.
func (s *bundle) explain(t testing.TB, id catalog.TenantID) router.TenantView {
	t.Helper()
	v, err := s.Explain(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A server that refuses connections is left alone after a few, for all of its
// tenants and for no other server's, and is found again when it is back.
func TestBreaker_Server(t *testing.T) {
	t.Parallel()
	s := setup(t, 3, nil)
	away, too, elsewhere := s.ids[0], s.ids[1], s.ids[2]
	at := newRelay(t, "127.0.0.4:0", s.book.routes[away])
	at.close()
	var dials, dialsToo *atomic.Int64
	s.book.change(away, func(r *catalog.Route) { at.through(r); dials = counted(r) })
	s.book.change(too, func(r *catalog.Route) { at.through(r); dialsToo = counted(r) })
	s.book.change(elsewhere, func(r *catalog.Route) { r.ServerID = "two" })
	for range trips {
		s.refused(t, away, 1, tenantdb.Interactive, tenantdb.ErrUnavailable)
	}
	start := time.Now()
	for range 20 {
		s.refused(t, away, 1, tenantdb.Interactive, tenantdb.ErrUnavailable)
		s.refused(t, too, 1, tenantdb.Interactive, tenantdb.ErrUnavailable)
		s.visit(t, elsewhere, 1)
	}
	if time.Since(start) > 1800*time.Millisecond {
		t.Fatalf("too slow to tell: %s", time.Since(start))
	}
	if dials.Load() != trips || dialsToo.Load() != 0 {
		t.Errorf("%d and %d dials, want %d and 0", dials.Load(), dialsToo.Load(), trips)
	}
	for _, v := range s.View(0).Servers {
		if want := map[string]string{"one": "open", "two": "closed"}[v.ID]; v.Breaker != want {
			t.Errorf("breaker of %s is %s, want %s", v.ID, v.Breaker, want)
		}
	}
	at.open()
	for _, id := range []catalog.TenantID{away, too} {
		soon(t, "served again", func() bool { return s.For(id, 1).Borrow(t.Context(), tenantdb.Interactive, nothing) == nil })
	}
}

// A database that refuses its tenant is that tenant's trouble alone.
func TestBreaker_Tenant(t *testing.T) {
	t.Parallel()
	s := setup(t, 2, nil)
	wrong, neighbour := s.ids[0], s.ids[1]
	sound := s.book.routes[wrong].Config.Password
	var dials *atomic.Int64
	s.book.change(wrong, func(r *catalog.Route) { dials = counted(r); r.Config.Password = "wrong" })
	soon(t, "the breaker is open", func() bool {
		s.refused(t, wrong, 1, tenantdb.Interactive, tenantdb.ErrUnavailable)
		return s.explain(t, wrong).Breaker == "open"
	})
	if dials.Load() != trips {
		t.Errorf("%d dials, want %d", dials.Load(), trips)
	}
	s.visit(t, neighbour, 1)
	if v := s.explain(t, neighbour); v.Breaker != "closed" || s.one(t).Breaker != "closed" {
		t.Errorf("the neighbour's breaker is %s, the server's %s", v.Breaker, s.one(t).Breaker)
	}
	s.Invalidate(wrong, s.book.change(wrong, func(r *catalog.Route) { r.Config.Password = sound }))
	soon(t, "served again", func() bool { return s.For(wrong, 1).Borrow(t.Context(), tenantdb.Interactive, nothing) == nil })
}

func TestBreaker_OutlivesItsPool(t *testing.T) {
	t.Parallel()
	s := setup(t, 2, func(c *router.Config) { c.MaxPools = 1 })
	wrong, other := s.ids[0], s.ids[1]
	var dials *atomic.Int64
	s.book.change(wrong, func(r *catalog.Route) { dials = counted(r); r.Config.Password = "wrong" })
	s.visit(t, other, 1)
	soon(t, "refused without a dial by a pool that is new", func() bool {
		for s.explain(t, wrong).Breaker != "open" {
			s.refused(t, wrong, 1, tenantdb.Interactive, tenantdb.ErrUnavailable)
		}
		before, start := dials.Load(), time.Now()
		evictions := s.Stats().Evictions
		s.visit(t, other, 1)
		if s.Stats().Evictions == evictions {
			t.Fatal("nothing was evicted")
		}
		s.refused(t, wrong, 1, tenantdb.Interactive, tenantdb.ErrUnavailable)
		if time.Since(start) > 500*time.Millisecond {
			return false // it may have closed by itself
		}
		if dials.Load() != before {
			t.Fatalf("%d dials after the eviction", dials.Load()-before)
		}
		return true
	})
}

// All connections taken, and callers whose time is up, is no failure.
func TestBreaker_BusyTripsNone(t *testing.T) {
	t.Parallel()
	s := setup(t, 2, func(c *router.Config) { c.ConnsPerTenant = 1 })
	s.budget(1)
	id := s.ids[0]
	release := s.occupy(t, id, 1)
	for range 2 * trips {
		for _, who := range s.ids {
			if err := s.try(t, who, tenantdb.Interactive, 10*time.Millisecond); !errors.Is(err, router.ErrBusy) {
				t.Errorf("got %v, want ErrBusy", err)
			}
		}
	}
	for _, who := range s.ids {
		if v := s.explain(t, who); v.Breaker != "closed" {
			t.Errorf("the tenant's breaker is %s", v.Breaker)
		}
	}
	if got := s.one(t); got.Breaker != "closed" || got.DialErrors != 0 {
		t.Errorf("the server's breaker: %+v", got)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	for _, who := range s.ids {
		s.visit(t, who, 1)
	}
}
