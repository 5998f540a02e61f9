package router_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/router"
	"freehold/tenantdb"
)

// one is the view of the bundle's only server.
func (s *bundle) one(t testing.TB) router.ServerView {
	t.Helper()
	servers := s.View(0).Servers
	if len(servers) != 1 {
		t.Fatalf("%d servers, want one", len(servers))
	}
	return servers[0]
}

// nothing is what a borrower does that only wants to be served.
func nothing(context.Context, *tenantdb.DB) error { return nil }

// try borrows once within d.
func (s *bundle) try(t testing.TB, id catalog.TenantID, class tenantdb.Class, d time.Duration) error {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return s.For(id, 1).Borrow(ctx, class, nothing)
}

// At the cap, a cold tenant costs one idle connection of another, and no more.
func TestReclaim_OneForOneNeed(t *testing.T) {
	t.Parallel()
	s := setup(t, 5, nil)
	s.budget(3)
	warm := s.ids[:3]
	before := make(map[int64]bool)
	for _, id := range warm {
		before[s.visit(t, id, 1)] = true
	}
	if got := s.one(t); got.Used != 3 || got.Reclaims != 0 || got.Dials != 3 {
		t.Fatalf("want three connections and no reclaim, have %+v", got)
	}
	for n, id := range s.ids[3:] {
		s.visit(t, id, 1)
		if got := s.one(t); got.Reclaims != int64(n+1) || got.Dials != int64(4+n) || got.Used != 3 {
			t.Errorf("want %d reclaims, have %+v", n+1, got)
		}
	}
	soon(t, "two closed and no more", func() bool { return s.one(t).Closing == 0 })
	still := 0
	for _, v := range s.View(5).Tenants {
		still += v.Conns
	}
	if still != 3 {
		t.Errorf("%d connections left, want 3", still)
	}
}

// There is room for the busy tenants alone. Those that come once take their
// connections from one another, and one or two of the busy ones pay for it.
func TestReclaim_AScanLeavesTheHotOnesTheirs(t *testing.T) {
	t.Parallel()
	const hot, cold, scan = 10, 10, 40
	s := setup(t, hot+cold, nil)
	s.budget(hot)
	before := make([]int64, hot)
	for range 8 {
		for i, id := range s.ids[:hot] {
			before[i] = s.visit(t, id, 1)
		}
	}
	for i := range scan {
		s.visit(t, s.ids[hot+i%cold], 1)
	}
	if got := s.one(t); got.Reclaims < scan || got.Used > hot {
		t.Errorf("the scan found room: %+v", got)
	}
	kept := 0
	for i, id := range s.ids[:hot] {
		if s.visit(t, id, 1) == before[i] {
			kept++
		}
	}
	if kept < hot*8/10 {
		t.Errorf("%d of %d hot tenants kept their connection", kept, hot)
	}
}

// Who has one connection and wants another doesn't take somebody's last one that
// was of use a moment ago; when it lay idle for long enough, it does.
func TestReclaim_LeavesTheLastOneThatIsInUse(t *testing.T) {
	t.Parallel()
	s := setup(t, 2, nil)
	s.budget(2)
	has, other := s.ids[0], s.ids[1]
	release := s.occupy(t, has, 1)
	pid := s.visit(t, other, 1)
	if err := s.try(t, has, tenantdb.Interactive, 300*time.Millisecond); !errors.Is(err, router.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	if got := s.visit(t, other, 1); got != pid || s.one(t).Reclaims != 0 {
		t.Error("its last connection was taken although it was in use")
	}
	start := time.Now()
	if err := s.try(t, has, tenantdb.Interactive, 4*time.Second); err != nil {
		t.Errorf("after a second: %v", err)
	}
	if took := time.Since(start); took < 700*time.Millisecond {
		t.Errorf("taken after %s", took)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}
