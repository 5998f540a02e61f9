package router_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/router"
	"freehold/tenantdb"
)

// tell changes a tenant's state and tells the router.
func (s *bundle) tell(id catalog.TenantID, state catalog.State) (epoch int64) {
	epoch = s.book.change(id, func(r *catalog.Route) { r.State = state })
	s.Invalidate(id, epoch)
	return epoch
}

// move has the tenant moving, as every class of borrower sees it.
func (s *bundle) move(t testing.TB, id catalog.TenantID) (epoch int64) {
	t.Helper()
	epoch = s.tell(id, catalog.Moving)
	soon(t, "the tenant's pool out of use", func() bool { return s.Stats().Pools == 0 && s.Stats().Opening == 0 })
	return epoch
}

func TestPause_RequestsWaitForTheEndOfAMove(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, func(c *router.Config) { c.PauseWait = 8 * time.Second })
	id := s.ids[0]
	s.visit(t, id, 1)
	s.move(t, id)
	var all sync.WaitGroup
	served := make(chan time.Time, 6)
	for range 2 {
		for _, class := range []tenantdb.Class{tenantdb.Interactive, tenantdb.Settle, tenantdb.Background} {
			all.Go(func() {
				if err := s.For(id, 1).Borrow(t.Context(), class, nothing); err != nil {
					t.Errorf("class %d: %v", class, err)
				}
				served <- time.Now()
			})
		}
	}
	soon(t, "all wait", func() bool { return s.explain(t, id).Waiting == 6 })
	time.Sleep(50 * time.Millisecond)
	if len(served) > 0 {
		t.Error("served while it moves")
	}
	// On to another server, which is the same Postgres here.
	s.Invalidate(id, s.book.change(id, func(r *catalog.Route) { r.State, r.ServerID = catalog.Active, "two" }))
	end := time.Now()
	all.Wait()
	if took := time.Since(end); took > 3*time.Second {
		t.Errorf("served %s after the move", took)
	}
}

// News of a move's end may be lost: it is found out within about a second.
func TestPause_EndsWithoutNews(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, func(c *router.Config) { c.PauseWait = 8 * time.Second })
	id := s.ids[0]
	s.move(t, id)
	done := make(chan error, 1)
	go func() { done <- s.For(id, 1).Borrow(t.Context(), tenantdb.Interactive, nothing) }()
	soon(t, "it waits", func() bool { return s.explain(t, id).Waiting == 1 })
	s.book.change(id, func(r *catalog.Route) { r.State = catalog.Active })
	start := time.Now()
	if err := <-done; err != nil || time.Since(start) > 4*time.Second {
		t.Errorf("%v after %s", err, time.Since(start))
	}
}

func TestPause_IsBounded(t *testing.T) {
	t.Parallel()
	const wait, queue = 400 * time.Millisecond, 2
	s := setup(t, 1, func(c *router.Config) { c.PauseWait, c.PauseQueue = wait, queue })
	id := s.ids[0]
	s.move(t, id)
	var all sync.WaitGroup
	for range queue {
		all.Go(func() {
			start := time.Now()
			s.refused(t, id, 1, tenantdb.Interactive, router.ErrMoving)
			if took := time.Since(start); took < wait || took > wait+2*time.Second {
				t.Errorf("refused after %s, want %s", took, wait)
			}
		})
	}
	soon(t, "the queue is full", func() bool { return s.explain(t, id).Waiting == queue })
	start := time.Now()
	s.refused(t, id, 1, tenantdb.Interactive, router.ErrMoving)
	if took := time.Since(start); took > wait/2 {
		t.Errorf("one too many was refused after %s", took)
	}
	all.Wait()
	if got := s.explain(t, id).Waiting; got != 0 {
		t.Errorf("%d still wait", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := s.For(id, 1).Borrow(ctx, tenantdb.Interactive, nothing); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want its own cancellation", err)
	}
}

// A move waits for who is inside, whose connection isn't cut, and until the
// server has no session of the tenant's any more.
func TestG4_AMoveWaitsForItsBorrowers(t *testing.T) {
	t.Parallel()
	s := setup(t, 2, nil)
	id := s.ids[0]
	release := s.occupy(t, id, 1)
	epoch := s.book.change(id, func(r *catalog.Route) { r.State = catalog.Moving })
	impatient, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.Drain(impatient, id, epoch); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("drained over a borrower: %v", err)
	}
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(t.Context(), id, epoch) }()
	select {
	case err := <-drained:
		t.Fatalf("drained over a borrower: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := release(); err != nil {
		t.Errorf("harmed: %v", err)
	}
	select {
	case err := <-drained:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(3 * time.Second):
		t.Fatal("not drained")
	}
	if n := backends(t, s.dbs[0].Database); n != 0 {
		t.Errorf("drained, and the server has %d sessions", n)
	}
	// Who has nothing is drained at once, and so is who was drained before.
	start := time.Now()
	for _, id := range s.ids {
		if err := s.Drain(t.Context(), id, epoch); err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(start); took > 500*time.Millisecond {
		t.Errorf("took %s", took)
	}
	s.refused(t, id, epoch, tenantdb.Interactive, router.ErrMoving)
}

// While the catalog can't be read nothing is drained, and nothing is spun on.
func TestDrain_WaitsForTheCatalog(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, nil)
	id := s.ids[0]
	s.visit(t, id, 1)
	s.book.fail(catalog.ErrUnavailable)
	asked := s.book.asked()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := s.Drain(ctx, id, 2); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drained: %v", err)
	}
	if n := s.book.asked() - asked; n < 2 || n > 30 {
		t.Errorf("%d look-ups in 300 ms", n)
	}
	s.book.fail(nil)
	epoch := s.book.change(id, func(r *catalog.Route) { r.State = catalog.Moving })
	if err := s.Drain(t.Context(), id, epoch); err != nil {
		t.Error(err)
	}
}

// Nobody is served for a suspended tenant: who is inside when it is suspended
// loses the connection a second later, at work or not.
func TestG5_BorrowedConnectionsOfASuspendedTenantEnd(t *testing.T) {
	t.Parallel()
	s := setup(t, 2, nil)
	id, neighbour := s.ids[0], s.ids[1]
	spared := s.occupy(t, neighbour, 1)
	idle := s.occupy(t, id, 1)
	busy := make(chan error, 1)
	go func() {
		busy <- s.For(id, 1).Borrow(t.Context(), tenantdb.Interactive, sleepFor(20*time.Second))
	}()
	soon(t, "both inside", func() bool { return s.explain(t, id).Leased == 2 })
	epoch := s.tell(id, catalog.Suspended)
	start := time.Now()
	soon(t, "refused", func() bool {
		return errors.Is(s.For(id, epoch).Borrow(t.Context(), tenantdb.Interactive, nothing), router.ErrSuspended)
	})
	if took := time.Since(start); took > time.Second {
		t.Errorf("refused after %s", took)
	}
	select {
	case err := <-busy:
		if !errors.Is(err, tenantdb.ErrUnavailable) {
			t.Errorf("at work: %v, want ErrUnavailable", err)
		}
	case <-time.After(4 * time.Second):
		t.Error("still at work")
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("ended after %s, want about a second", took)
	}
	soon(t, "no session left", func() bool { return backends(t, s.dbs[0].Database) == 0 })
	if err := idle(); !errors.Is(err, tenantdb.ErrUnavailable) {
		t.Errorf("at rest: %v, want ErrUnavailable", err)
	}
	if err := spared(); err != nil {
		t.Errorf("another tenant's borrower: %v", err)
	}
}
