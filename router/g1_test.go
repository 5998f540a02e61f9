package router_test

import (
	"context"
	"errors"
	"math/rand/v2"
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

// A route that is wrong in the catalog, or a database swapped under a right one,
// ends in a refusal and never in another tenant's rows.
func TestG1_ForeignConnectionIsRefusedAndClosed(t *testing.T) {
	t.Parallel()
	s := setup(t, 2, nil)
	a, b := s.ids[0], s.ids[1]
	swapped := s.book.routes[b]
	swapped.Tenant = a
	own := s.book.routes[a]
	s.book.routes[a] = swapped

	for range 3 {
		s.refused(t, a, 1, tenantdb.Interactive, tenantdb.ErrForeign)
	}
	soon(t, "no connection left on the server", func() bool { return backends(t, s.dbs[1].Database) == 0 })
	if got := s.Stats(); got.Pools != 0 || got.OpenErrors != 3 {
		t.Errorf("want nothing kept and 3 refusals, have %+v", got)
	}

	s.book.change(a, func(r *catalog.Route) { r.Config = own.Config })
	s.visit(t, a, 1)
	s.visit(t, b, 1)
}

// A pool that was sound when it was opened proves each later connection too.
func TestG1_ForeignConnectionOfAWarmPool(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, nil)
	id, db := s.ids[0], s.dbs[0]
	release := s.occupy(t, id, 1)
	// The identity moves to another tenant while the pool is open, as after a
	// restore into the wrong place.
	overwrite(t, db, catalog.NewTenantID())
	s.refused(t, id, 1, tenantdb.Interactive, tenantdb.ErrForeign)
	if err := release(); err != nil {
		t.Errorf("the borrow that was under way: %v", err)
	}
	soon(t, "the whole pool closed", func() bool {
		return s.Stats().Conns == 0 && s.Stats().Pools == 0 && backends(t, db.Database) == 0
	})
	overwrite(t, db, id)
	s.visit(t, id, 1)
}

func TestG1_NoRowOfAnotherTenantUnderChaos(t *testing.T) {
	t.Parallel()
	const pools = 3
	tenants, workers, long, bound := 8, 16, 1500*time.Millisecond, 2*time.Second
	if pgtest.Long() {
		tenants, workers, long, bound = 24, 32, 20*time.Second, 10*time.Second
	}
	s := setup(t, tenants, func(c *router.Config) { c.MaxPools, c.ConnsPerTenant = pools, 2 })

	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	var served, refused, lost atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for ctx.Err() == nil {
				id := s.ids[rand.IntN(tenants)]
				one, cancel := context.WithTimeout(t.Context(), bound)
				if rand.IntN(5) == 0 {
					time.AfterFunc(time.Duration(rand.IntN(8000))*time.Microsecond, cancel)
				}
				err := s.For(id, 1).Borrow(one, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) error {
					got, _, err := whoami(ctx, db)
					if err == nil && got != id {
						t.Errorf("stood in the database of %s, want %s", got, id)
					}
					return err
				})
				cancel()
				switch {
				case err == nil:
					served.Add(1)
				case errors.Is(err, context.Canceled):
					refused.Add(1)
				case pgtest.Long() && errors.Is(err, tenantdb.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded):
					lost.Add(1) // its backend was killed
				default:
					t.Errorf("untyped or undue: %v", err)
					return
				}
			}
		})
	}
	all.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			id := s.ids[rand.IntN(tenants)]
			epoch := s.book.change(id, func(r *catalog.Route) {
				if n%2 == 0 {
					r.ServerID = [...]string{"one", "two"}[rand.IntN(2)]
				}
			})
			s.Invalidate(id, epoch)
			time.Sleep(5 * time.Millisecond)
		}
	})
	if pgtest.Long() {
		all.Go(func() { s.killBackends(ctx, t) })
	}
	all.Wait()
	if served.Load() < 20 {
		t.Errorf("served %d only", served.Load())
	}
	soon(t, "the bound kept, nothing pinned", func() bool {
		got := s.Stats()
		return got.Pools <= pools && got.Pinned == 0 && got.Leases == 0 && got.Closing == 0
	})
	t.Logf("served %d, cancelled %d, lost %d, %+v", served.Load(), refused.Load(), lost.Load(), s.Stats())
}

// killBackends ends a random tenant's connections, at work or not, until ctx ends.
func (s *bundle) killBackends(ctx context.Context, t *testing.T) {
	conn, err := pgx.Connect(t.Context(), pgtest.SuperURL(t))
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for ctx.Err() == nil {
		_, err := conn.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity where datname = $1`,
			s.dbs[rand.IntN(len(s.dbs))].Database)
		if err != nil {
			t.Error(err)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}
