package router_test

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/router"
	"freehold/tenantdb"
)

// Room for one pool and a crowd of tenants: every borrow makes an eviction, and
// none may cost a borrower its connection or its transaction.
func TestG4_EvictionNeverClosesUnderItsBorrower(t *testing.T) {
	t.Parallel()
	tenants, workers, long := 4, 12, time.Second
	if pgtest.Long() {
		tenants, workers, long = 12, 32, 20*time.Second
	}
	s := setup(t, tenants, func(c *router.Config) { c.MaxPools, c.ConnsPerTenant = 1, 2 })

	end := time.Now().Add(long)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for time.Now().Before(end) {
				err := s.For(s.ids[rand.IntN(tenants)], 1).Borrow(t.Context(), tenantdb.Interactive, twoSteps)
				if err != nil {
					t.Errorf("harmed: %v", err)
					return
				}
			}
		})
	}
	if pgtest.Long() { // and renewals among the evictions
		all.Go(func() {
			for time.Now().Before(end) {
				id := s.ids[rand.IntN(tenants)]
				s.Invalidate(id, s.book.change(id, func(r *catalog.Route) { r.ServerID = strconv.Itoa(rand.Int()) }))
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	all.Wait()
	if got := s.Stats(); got.Evictions == 0 || got.Pools > 1 {
		t.Errorf("want evictions and at most one pool, have %+v", got)
	}
}

// twoSteps is a transaction that breaks when its connection is closed between.
func twoSteps(ctx context.Context, db *tenantdb.DB) error {
	return db.Tx(ctx, func(tx pgx.Tx) error {
		var before, after int64
		if err := tx.QueryRow(ctx, `select pg_backend_pid()`).Scan(&before); err != nil {
			return err
		}
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
		return tx.QueryRow(ctx, `select pg_backend_pid()`).Scan(&after)
	})
}

func TestG4_RenewalNeverClosesUnderItsBorrower(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, func(c *router.Config) { c.CloseTimeout = 50 * time.Millisecond })
	id := s.ids[0]
	release := s.occupy(t, id, 1)
	epoch := s.book.change(id, func(r *catalog.Route) { r.ServerID = "two" })
	s.Invalidate(id, epoch)
	s.visit(t, id, epoch)
	time.Sleep(150 * time.Millisecond) // well after CloseTimeout
	if got := s.Stats(); got.Closing != 1 || got.Leases != 1 || got.OldestLease < 100*time.Millisecond {
		t.Errorf("want the old pool waiting for its borrower, have %+v", got)
	}
	if err := release(); err != nil {
		t.Errorf("harmed: %v", err)
	}
	soon(t, "the old pool closed", func() bool { return s.Stats().Closing == 0 })
}

// All pinned: the bound gives way, and is kept again as soon as a pin is off.
func TestG4_AllPinnedExceedsTheBoundForThatLong(t *testing.T) {
	t.Parallel()
	s := setup(t, 3, func(c *router.Config) { c.MaxPools = 1 })
	var releases []func() error
	for _, id := range s.ids {
		releases = append(releases, s.occupy(t, id, 1))
	}
	if got := s.Stats(); got.Pools != 3 || got.Pinned != 3 || got.Evictions != 0 {
		t.Errorf("want three pinned, have %+v", got)
	}
	for _, release := range releases {
		if err := release(); err != nil {
			t.Error(err)
		}
	}
	if got := s.Stats(); got.Pools != 1 || got.Pinned != 0 || got.Evictions != 2 {
		t.Errorf("want one left, have %+v", got)
	}
}
