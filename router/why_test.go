package router_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/router"
	"freehold/tenantdb"
)

// says wants the tenant's sentence to hold each of the words.
func (s *bundle) says(t testing.TB, id catalog.TenantID, words ...string) {
	t.Helper()
	why := s.explain(t, id).Why
	for _, w := range words {
		if !strings.Contains(why, w) {
			t.Errorf("%q doesn't say %q", why, w)
		}
	}
	if strings.Count(why, ". ") > 0 || !strings.HasSuffix(why, ".") {
		t.Errorf("%q is not one sentence", why)
	}
}

// queue has callers wait for a tenant until the test ends them.
func (s *bundle) queue(t *testing.T, id catalog.TenantID, callers int) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range callers {
		all.Go(func() { _ = s.For(id, 1).Borrow(ctx, tenantdb.Interactive, nothing) })
	}
	soon(t, "all of them wait", func() bool { return s.explain(t, id).Waiting == callers })
	return func() {
		cancel()
		all.Wait()
	}
}

func TestWhy_OwnLimit(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, func(c *router.Config) { c.ConnsPerTenant = 1 })
	id := s.ids[0]
	s.says(t, id, "Neither slow nor refused", "idle")
	s.visit(t, id, 1)
	s.says(t, id, "Neither slow nor refused")
	release := s.occupy(t, id, 1)
	end := s.queue(t, id, 2)
	s.says(t, id, "Slow", "1 connection is in use", "2 requests wait", "FREEHOLD_TENANT_CONNECTIONS")
	end()
	if err := release(); err != nil {
		t.Error(err)
	}
}

func TestWhy_ServersBudget(t *testing.T) {
	t.Parallel()
	s := setup(t, 2, nil)
	s.budget(1)
	release := s.occupy(t, s.ids[0], 1)
	end := s.queue(t, s.ids[1], 1)
	s.says(t, s.ids[1], "Slow", "is full, its budget of 1 connection is in use", "1 request of this tenant waits")
	end()
	if err := release(); err != nil {
		t.Error(err)
	}
}

// The budget has more, and this node's part of it doesn't.
func TestWhy_NodesShare(t *testing.T) {
	t.Parallel()
	s := setup(t, 2, func(c *router.Config) {
		c.Share = func(context.Context, catalog.ShareAsk) (catalog.Share, error) {
			return catalog.Share{Granted: 1, Target: 1, Budget: 9, Nodes: 9}, nil
		}
	})
	release := s.occupy(t, s.ids[0], 1)
	end := s.queue(t, s.ids[1], 1)
	s.says(t, s.ids[1], "Slow", "its whole share", "1 of a budget of 9 connections")
	end()
	if err := release(); err != nil {
		t.Error(err)
	}
}

func TestWhy_Breakers(t *testing.T) {
	t.Parallel()
	s := setup(t, 2, nil)
	wrong, away := s.ids[0], s.ids[1]
	s.book.change(wrong, func(r *catalog.Route) { r.Config.Password = "not this one" })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	s.book.change(away, func(r *catalog.Route) {
		r.ServerID, r.Config.Port = "two", uint16(closed.Addr().(*net.TCPAddr).Port)
	})
	for range trips {
		s.refused(t, wrong, 1, tenantdb.Interactive, tenantdb.ErrUnavailable)
		s.refused(t, away, 1, tenantdb.Interactive, tenantdb.ErrUnavailable)
	}
	s.says(t, wrong, "Refused", "its database refused several connections in a row", "28P01")
	s.says(t, away, "Refused", "server two failed several times in a row")
}

func TestWhy_States(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, func(c *router.Config) { c.SchemaMin, c.SchemaMax, c.PauseWait = 1, 1, 10*time.Second })
	id := s.ids[0]
	s.tell(id, catalog.Suspended)
	s.says(t, id, "Refused", "suspended", "freehold tenant resume")
	s.tell(id, catalog.Moving)
	end := s.queue(t, id, 3)
	s.says(t, id, "Paused", "moving", "3 requests wait", "10s")
	end()
	s.tell(id, catalog.Deleting)
	s.says(t, id, "Refused", "deleting")
	s.book.change(id, func(r *catalog.Route) { r.State, r.SchemaVersion = catalog.Active, 2 })
	s.says(t, id, "Refused", "schema is version 2", "knows version 2", "this one knows 1", "upgrade this node")
	s.book.change(id, func(r *catalog.Route) { r.SchemaVersion, r.SchemaNeeds = 4, 3 })
	s.says(t, id, "Refused", "schema is version 4", "knows version 3", "this one knows 1")
	s.book.change(id, func(r *catalog.Route) { r.SchemaVersion, r.SchemaNeeds = 0, 0 })
	s.says(t, id, "Refused", "schema is version 0", "serves 1 and later", "freehold migrate up")
}
