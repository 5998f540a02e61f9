package router_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/router"
	"freehold/tenantdb"
)

func TestColdOpen_OnceForACrowd(t *testing.T) {
	t.Parallel()
	const crowd = 200
	s := setup(t, 1, nil)
	s.book.hold = make(chan struct{})
	var all sync.WaitGroup
	for range crowd {
		all.Go(func() {
			if err := s.For(s.ids[0], 1).Borrow(t.Context(), tenantdb.Interactive, nothing); err != nil {
				t.Error(err)
			}
		})
	}
	soon(t, "the crowd at the door", func() bool { return s.Stats().Opening == 1 })
	time.Sleep(50 * time.Millisecond)
	close(s.book.hold)
	all.Wait()
	if got := s.Stats(); s.book.asked() != 1 || got.Pools != 1 || got.Misses != 1 || got.Conns > 4 || got.Pinned != 0 {
		t.Errorf("want one look-up and one pool, have %d and %+v", s.book.asked(), got)
	}
}

func TestColdOpen_OutlivesItsFirstCaller(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, nil)
	s.book.hold = make(chan struct{})
	first, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		gone <- s.For(s.ids[0], 1).Borrow(first, tenantdb.Interactive,
			func(context.Context, *tenantdb.DB) error { return nil })
	}()
	soon(t, "the first at the door", func() bool { return s.Stats().Opening == 1 })
	var others sync.WaitGroup
	for range 5 {
		others.Go(func() { s.visit(t, s.ids[0], 1) })
	}
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) || errors.Is(err, router.ErrBusy) {
		t.Errorf("first: got %v, want its own cancellation", err)
	}
	close(s.book.hold)
	others.Wait()
	if s.book.asked() != 1 {
		t.Errorf("%d look-ups, want 1", s.book.asked())
	}
}

func TestColdOpen_Unreachable(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, func(c *router.Config) { c.OpenTimeout = 300 * time.Millisecond })
	id := s.ids[0]
	sound := s.book.routes[id].Config

	// A port where nobody listens.
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(closed.Addr().(*net.TCPAddr).Port)
	_ = closed.Close()
	epoch := s.book.change(id, func(r *catalog.Route) { r.Config.Port = port })
	s.refused(t, id, epoch, tenantdb.Interactive, tenantdb.ErrUnavailable)

	// A host that takes connections and never answers.
	hole, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hole.Close() })
	epoch = s.book.change(id, func(r *catalog.Route) { r.Config.Port = uint16(hole.Addr().(*net.TCPAddr).Port) })
	start := time.Now()
	s.refused(t, id, epoch, tenantdb.Interactive, tenantdb.ErrUnavailable)
	if took := time.Since(start); took > time.Second {
		t.Errorf("refused after %s, want the open timeout", took)
	}
	impatient, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = s.For(id, epoch).Borrow(impatient, tenantdb.Interactive, func(context.Context, *tenantdb.DB) error { return nil })
	if !errors.Is(err, tenantdb.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("impatient: got %v, want ErrUnavailable and its deadline", err)
	}

	// A failed open is not remembered.
	epoch = s.book.change(id, func(r *catalog.Route) { r.Config = sound })
	s.visit(t, id, epoch)
}

// A refused login makes the router ask the catalog again before it gives up.
func TestColdOpen_LooksAgainWhenTheLoginIsRefused(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, nil)
	id := s.ids[0]
	sound := s.book.routes[id]
	stale := sound
	stale.Config = sound.Config.Copy()
	stale.Config.Password = "rotated away"
	var asked []int64
	r, err := router.New(router.Config{Route: func(_ context.Context, _ catalog.TenantID, minEpoch int64) (catalog.Route, error) {
		asked = append(asked, minEpoch) // one flight at a time: no lock needed
		if minEpoch > stale.Epoch {
			fresh := sound
			fresh.Epoch = 2
			return fresh, nil
		}
		return stale, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(context.Background()) })
	(&bundle{Router: r}).visit(t, id, 1)
	if len(asked) != 2 || asked[0] != 1 || asked[1] != 2 {
		t.Errorf("asked for epochs %v, want 1, then 2", asked)
	}
}

// A server, or a role, without a connection left is busy and not away.
func TestColdOpen_ServerFull(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, nil)
	alterRole(t, s.dbs[0].Role, "connection limit 0")
	s.refused(t, s.ids[0], 1, tenantdb.Interactive, router.ErrBusy)
	alterRole(t, s.dbs[0].Role, "connection limit -1")
	s.visit(t, s.ids[0], 1)
}

func TestColdOpen_FailureTellsNoSecret(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer // one flight at a time writes it
	s := setup(t, 1, func(c *router.Config) { c.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
	const secret = "a-password-nobody-may-read"
	epoch := s.book.change(s.ids[0], func(r *catalog.Route) { r.Config.Password = secret })
	err := s.For(s.ids[0], epoch).Borrow(t.Context(), tenantdb.Interactive,
		func(context.Context, *tenantdb.DB) error { return nil })
	if !errors.Is(err, tenantdb.ErrUnavailable) || !strings.Contains(err.Error(), "28P01") {
		t.Errorf("got %v, want ErrUnavailable with its SQLSTATE", err)
	}
	if all := err.Error() + logged.String(); strings.Contains(all, secret) || !strings.Contains(all, s.ids[0].String()) {
		t.Errorf("want the tenant and no secret in %q", all)
	}
}

// First the connection goes, then the pool that has none.
func TestPool_IdleOnesGoAndComeBack(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, func(c *router.Config) { c.IdleTimeout = 50 * time.Millisecond })
	s.visit(t, s.ids[0], 1)
	soon(t, "no connection left", func() bool { return s.Stats().Conns == 0 && backends(t, s.dbs[0].Database) == 0 })
	soon(t, "no pool left", func() bool { return s.Stats().Pools == 0 && s.Stats().Closing == 0 })
	s.visit(t, s.ids[0], 1)
}
