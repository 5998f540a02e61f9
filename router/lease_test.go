package router_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/router"
	"freehold/tenantdb"
)

func TestBorrow_BusyUntilTheDeadline(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, func(c *router.Config) { c.ConnsPerTenant = 1 })
	release := s.occupy(t, s.ids[0], 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	start := time.Now()
	err := s.For(s.ids[0], 1).Borrow(ctx, tenantdb.Interactive, func(context.Context, *tenantdb.DB) error { return nil })
	if !errors.Is(err, router.ErrBusy) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, tenantdb.ErrUnavailable) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	s.visit(t, s.ids[0], 1)
}

// Who waits for a connection of a pool that is renewed gets one of the new pool,
// although the old one's borrower stays.
func TestBorrow_WaiterFollowsARenewedPool(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, func(c *router.Config) { c.ConnsPerTenant = 1 })
	id := s.ids[0]
	release := s.occupy(t, id, 1)
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.visit(t, id, 1)
	}()
	time.Sleep(20 * time.Millisecond)
	s.Invalidate(id, s.book.change(id, func(r *catalog.Route) { r.ServerID = "two" }))
	select {
	case <-served:
	case <-time.After(2 * time.Second):
		t.Error("still waiting at the old pool")
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	<-served
}

func TestBorrow_EpochBelowTheFence(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, nil)
	conn, err := pgx.Connect(t.Context(), s.dbs[0].OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `update freehold.tenant_identity set fence = 5`); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(t.Context())
	err = s.For(s.ids[0], 4).Borrow(t.Context(), tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) error {
		_, _, err := whoami(ctx, db)
		return err
	})
	if !errors.Is(err, tenantdb.ErrFenced) {
		t.Errorf("got %v, want ErrFenced", err)
	}
	s.visit(t, s.ids[0], 5)
}

func TestBorrow_ErrorAndPanicGiveTheConnectionBack(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, func(c *router.Config) { c.ConnsPerTenant = 1 })
	own := errors.New("fn's own")
	err := s.For(s.ids[0], 1).Borrow(t.Context(), tenantdb.Interactive,
		func(context.Context, *tenantdb.DB) error { return own })
	if !errors.Is(err, own) || err.Error() != own.Error() {
		t.Errorf("got %v, want fn's own error unchanged", err)
	}
	func() {
		defer func() {
			if recover() != "fn's own" {
				t.Error("the panic was lost")
			}
		}()
		_ = s.For(s.ids[0], 1).Borrow(t.Context(), tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) error {
			return db.Tx(ctx, func(pgx.Tx) error { panic("fn's own") })
		})
	}()
	if got := s.Stats(); got.Pinned != 0 || got.Leases != 0 {
		t.Errorf("still lent: %+v", got)
	}
	s.visit(t, s.ids[0], 1)
}

// A connection lost inside fn is fn's error; the next borrow gets a new one.
func TestBorrow_LostConnection(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, func(c *router.Config) { c.ConnsPerTenant = 1 })
	err := s.For(s.ids[0], 1).Borrow(t.Context(), tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) error {
		_, pid, err := whoami(ctx, db)
		if err != nil {
			return err
		}
		super(t, `select pg_terminate_backend($1, 2000)::int`, pid)
		_, _, err = whoami(ctx, db)
		return err
	})
	if !errors.Is(err, tenantdb.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	s.visit(t, s.ids[0], 1)
}

// A client that goes away in mid-statement doesn't cost a connection.
func TestBorrow_CancelledStatementKeepsItsConnection(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, func(c *router.Config) { c.ConnsPerTenant = 1 })
	pid := s.visit(t, s.ids[0], 1)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	err := s.For(s.ids[0], 1).Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) error {
		return db.Tx(ctx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `select pg_sleep(10)`)
			return err
		})
	})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 2*time.Second {
		t.Errorf("got %v after %s, want the caller's own deadline", err, time.Since(start))
	}
	if got := s.visit(t, s.ids[0], 1); got != pid {
		t.Error("the connection was lost")
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	s := setup(t, 2, nil)
	release := s.occupy(t, s.ids[0], 1)
	s.visit(t, s.ids[1], 1)
	soonEnough, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Close(soonEnough); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("closed over a lease: %v", err)
	}
	s.refused(t, s.ids[0], 1, tenantdb.Interactive, router.ErrClosed)
	s.refused(t, s.ids[1], 1, tenantdb.Settle, router.ErrClosed)
	s.Invalidate(s.ids[0], 9)
	if err := release(); err != nil {
		t.Errorf("the lease was harmed: %v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if got := s.Stats(); got.Pools+got.Closing+got.Opening+got.Conns+got.Leases != 0 {
		t.Errorf("left over: %+v", got)
	}
}

// Closing ends a cold open and tells those who wait for it.
func TestClose_DuringAColdOpen(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, nil)
	s.book.hold = make(chan struct{}) // never closed: only Close ends the look-up
	done := make(chan error, 1)
	go func() {
		done <- s.For(s.ids[0], 1).Borrow(context.WithoutCancel(t.Context()), tenantdb.Interactive,
			func(context.Context, *tenantdb.DB) error { return nil })
	}()
	soon(t, "at the door", func() bool { return s.Stats().Opening == 1 })
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, router.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}
