package router_test

import (
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/router"
	"freehold/tenantdb"
)

// watcher looks at the server all the time, as its superuser.
type watcher struct {
	most    atomic.Int64
	samples atomic.Int64
	stop    func()
}

const countNode = `
select count(*) from pg_stat_activity
 where backend_type = 'client backend' and application_name like 'freehold-router/' || $1 || '%'`

// watch samples the backends of the nodes whose names begin with node, until the
// test ends or stop is called. also is called with every sample.
func watch(t testing.TB, node string, also func()) *watcher {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pgtest.SuperURL(t))
	if err != nil {
		t.Fatal(err)
	}
	w, stopped, done := &watcher{}, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = conn.Close(context.Background()) }()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stopped:
				return
			case <-tick.C:
			}
			var n int64
			if err := conn.QueryRow(context.Background(), countNode, node).Scan(&n); err != nil {
				t.Error(err)
				return
			}
			w.most.Store(max(w.most.Load(), n))
			w.samples.Add(1)
			if also != nil {
				also()
			}
		}
	}()
	w.stop = sync.OnceFunc(func() {
		close(stopped)
		<-done
	})
	t.Cleanup(w.stop)
	return w
}

// within fails the test unless the budget was reached and never exceeded.
func (w *watcher) within(t testing.TB, budget int64) {
	t.Helper()
	w.stop()
	if most := w.most.Load(); most > budget || most < budget-1 || w.samples.Load() < 50 {
		t.Errorf("at most %d backends in %d samples, want the budget of %d to be used and kept", most, w.samples.Load(), budget)
	}
}

func nodeName() string { return rand.Text()[:10] }

// budget gives every tenant's server n connections.
func (s *bundle) budget(n int) {
	for _, id := range s.ids {
		s.book.change(id, func(r *catalog.Route) { r.Budget = n })
	}
}

// isTyped reports whether a caller of Borrow can tell what happened.
func isTyped(err error) bool {
	for _, known := range []error{
		router.ErrBusy, router.ErrMoving, router.ErrSuspended, router.ErrUnknown, router.ErrClosed,
		tenantdb.ErrUnavailable, catalog.ErrUnavailable, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// Callers who go away and connections that break, over four times as many
// tenants as the server takes connections.
func TestG3_BudgetUnderCancelsAndBrokenConnections(t *testing.T) {
	t.Parallel()
	const budget, tenants, callers = 5, 20, 24
	long := 1500 * time.Millisecond
	if pgtest.Long() {
		long = 15 * time.Second
	}
	node := nodeName()
	s := setup(t, tenants, func(c *router.Config) { c.Node, c.ConnsPerTenant = node, 3 })
	s.budget(budget)
	w := watch(t, node, func() {
		if got := s.Stats().Conns; got > budget {
			t.Errorf("%d connections by the router's own count, budget %d", got, budget)
		}
	})

	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	var all sync.WaitGroup
	var served, failed atomic.Int64
	for range callers {
		all.Go(func() {
			for ctx.Err() == nil {
				one, leave := context.WithTimeout(t.Context(), 5*time.Second)
				if mathrand.IntN(5) == 0 {
					time.AfterFunc(mathrand.N(20*time.Millisecond), leave)
				}
				id := s.ids[mathrand.IntN(tenants)]
				err := s.For(id, 1).Borrow(one, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) error {
					_, _, err := whoami(ctx, db)
					return err
				})
				leave()
				switch {
				case err == nil:
					served.Add(1)
				case isTyped(err):
					failed.Add(1)
				default:
					t.Errorf("untyped: %v", err)
				}
			}
		})
	}
	all.Go(func() {
		for ctx.Err() == nil {
			super(t, `
select count(pg_terminate_backend(pid)) from (
  select pid from pg_stat_activity where application_name = 'freehold-router/' || $1
   order by random() limit 1) as one`, node)
			time.Sleep(30 * time.Millisecond)
		}
	})
	all.Wait()
	if served.Load() < 20 {
		t.Errorf("served %d only, %d failed", served.Load(), failed.Load())
	}
	for _, id := range s.ids { // and everybody in the end
		all.Go(func() {
			soon(t, "served", func() bool {
				return s.For(id, 1).Borrow(t.Context(), tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) error {
					_, _, err := whoami(ctx, db)
					return err
				}) == nil
			})
		})
	}
	all.Wait()
	w.within(t, budget)
	t.Logf("served %d, failed %d, %d samples, %+v", served.Load(), failed.Load(), w.samples.Load(), s.Stats())
}

// A connection counts until the server has closed its end: room for one pool and
// a crowd, so that connections are closed as fast as they are made.
func TestG3_ClosingConnectionsCount(t *testing.T) {
	t.Parallel()
	const budget, tenants, callers = 5, 12, 10
	long := time.Second
	if pgtest.Long() {
		long = 10 * time.Second
	}
	node := nodeName()
	s := setup(t, tenants, func(c *router.Config) {
		c.Node, c.MaxPools, c.ConnsPerTenant = node, 1, 2
		c.QueueWait, c.OpenTimeout = time.Minute, time.Minute // it is about their number, not their speed
	})
	s.budget(budget)
	w := watch(t, node, nil)
	end := time.Now().Add(long)
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for time.Now().Before(end) {
				s.visit(t, s.ids[mathrand.IntN(tenants)], 1)
			}
		})
	}
	all.Wait()
	w.within(t, budget)
	if got := s.Stats(); got.Evictions < 10 {
		t.Errorf("too few evictions: %+v", got)
	}
}

// A connection whose end doesn't reach the server is a backend still: nobody gets
// its place before the server says that it is gone.
func TestG3_AConnectionCountsUntilItsBackendIsGone(t *testing.T) {
	t.Parallel()
	hold := 500 * time.Millisecond
	if pgtest.Long() {
		hold = 7 * time.Second // more than an end may take
	}
	for name, asks := range map[string]bool{"waits": false, "asks": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t, 2, func(c *router.Config) {
				c.QueueWait = time.Minute
				if asks {
					c.Backends = alive(pgtest.SuperURL(t))
				}
			})
			s.budget(1)
			far, near := s.ids[0], s.ids[1]
			at := newRelay(t, "127.0.0.7:0", s.book.routes[far])
			s.book.change(far, at.through)
			s.visit(t, far, 1)
			at.lose()
			done := make(chan error, 1)
			go func() { done <- s.For(near, 1).Borrow(t.Context(), tenantdb.Interactive, nothing) }()
			select {
			case err := <-done:
				t.Errorf("served beside a backend that lives: %v", err)
			case <-time.After(hold):
			}
			if n := backends(t, s.dbs[0].Database); n != 1 {
				t.Fatalf("%d backends of the first, want the one", n)
			}
			at.hush(false) // cut: both ends see it
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(5 * time.Second):
				t.Error("not served")
			}
		})
	}
}

// alive is Config.Backends, as the fleet's is.
func alive(url string) func(context.Context, string, []uint32) ([]uint32, error) {
	return func(ctx context.Context, _ string, pids []uint32) ([]uint32, error) {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return nil, err
		}
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		rows, err := conn.Query(ctx, `select pid from pg_stat_activity where pid = any($1::int[])`, pids)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowTo[uint32])
	}
}
