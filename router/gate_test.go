package router_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"freehold/catalog"
	"freehold/router"
	"freehold/tenantdb"
)

func TestGate(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, func(c *router.Config) { c.SchemaMin, c.SchemaMax = 2, 3 })
	id := s.ids[0]
	for _, c := range []struct {
		state  catalog.State
		schema int64
		want   error
	}{
		{catalog.Provisioning, 2, router.ErrUnknown},
		{catalog.Suspended, 2, router.ErrSuspended},
		{catalog.Moving, 2, router.ErrMoving},
		{catalog.Deleting, 2, router.ErrUnknown},
		{catalog.Deleted, 2, router.ErrUnknown},
		{catalog.State("unheard of"), 2, router.ErrUnknown},
		{catalog.Active, 1, router.ErrUpgrading},
		{catalog.Active, 4, router.ErrUpgrading},
	} {
		// One after the other: each is the tenant's next truth.
		epoch := s.book.change(id, func(r *catalog.Route) { r.State, r.SchemaVersion = c.state, c.schema })
		for _, class := range []tenantdb.Class{tenantdb.Interactive, tenantdb.Settle, tenantdb.Background} {
			s.refused(t, id, epoch, class, c.want)
		}
	}
	if got := s.Stats(); got.Pools != 0 || got.Conns != 0 {
		t.Errorf("a refused tenant cost a pool: %+v", got)
	}
	for schema := int64(2); schema <= 3; schema++ {
		epoch := s.book.change(id, func(r *catalog.Route) { r.State, r.SchemaVersion = catalog.Active, schema })
		s.visit(t, id, epoch)
	}
	// A version that the release before it can live with, and what such a one takes.
	for _, c := range []struct {
		schema, needs int64
		want          error
	}{{9, 3, nil}, {9, 2, nil}, {9, 4, router.ErrUpgrading}, {9, 9, router.ErrUpgrading}, {1, 1, router.ErrUpgrading}, {3, 3, nil}} {
		epoch := s.book.change(id, func(r *catalog.Route) { r.SchemaVersion, r.SchemaNeeds = c.schema, c.needs })
		if c.want == nil {
			s.visit(t, id, epoch)
		} else {
			s.refused(t, id, epoch, tenantdb.Interactive, c.want)
		}
		if err := s.Serves(c.schema, c.needs); !errors.Is(err, c.want) {
			t.Errorf("version %d that needs %d: %v", c.schema, c.needs, err)
		}
	}
}

// Made-up ids become one look-up a second each, and a newer truth ends a refusal.
func TestGate_RefusalsAreRememberedForAMoment(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, nil)
	stranger := catalog.NewTenantID()
	for range 50 {
		s.refused(t, stranger, 0, tenantdb.Interactive, router.ErrUnknown)
	}
	if s.book.asked() != 1 {
		t.Errorf("%d look-ups, want 1", s.book.asked())
	}

	id := s.ids[0]
	epoch := s.book.change(id, func(r *catalog.Route) { r.State = catalog.Suspended })
	s.refused(t, id, epoch, tenantdb.Interactive, router.ErrSuspended)
	epoch = s.book.change(id, func(r *catalog.Route) { r.State = catalog.Active })
	s.visit(t, id, epoch)

	// Told of it, a borrower that knows no epoch is served as well.
	s.book.mu.Lock()
	s.book.routes[stranger] = s.book.routes[id]
	s.book.mu.Unlock()
	s.Invalidate(stranger, 7)
	s.refused(t, stranger, 0, tenantdb.Interactive, tenantdb.ErrForeign)
}

func TestRoute_ErrorIsPassedOn(t *testing.T) {
	t.Parallel()
	r, err := router.New(router.Config{Route: func(context.Context, catalog.TenantID, int64) (catalog.Route, error) {
		return catalog.Route{}, fmt.Errorf("read route: %w", catalog.ErrUnavailable)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(context.Background()) })
	(&bundle{Router: r}).refused(t, catalog.NewTenantID(), 1, tenantdb.Interactive, catalog.ErrUnavailable)
}

func TestNew_NamesEveryMistake(t *testing.T) {
	t.Parallel()
	_, err := router.New(router.Config{
		MaxPools: -1, ConnsPerTenant: -1, OpenTimeout: -1, IdleTimeout: -1, CloseTimeout: -1, SchemaMin: 3, SchemaMax: 2,
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, field := range []string{"Route", "MaxPools", "ConnsPerTenant", "OpenTimeout", "IdleTimeout", "CloseTimeout", "SchemaMin"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%s isn't named in %q", field, err)
		}
	}
	if errors.Unwrap(err) == nil {
		t.Error("nothing wrapped")
	}
}
