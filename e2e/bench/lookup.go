package main

import (
	"context"
	"errors"
	"runtime"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"freehold/catalog"
	"freehold/tenantdb"
)

// lookup measures a borrow of a warm tenant that sends nothing: look-up, recency,
// pin, connection, and all of it given back. Beside it stand what a plain pool's
// Acquire and Release cost, and a look-up in an LRU that does nothing else.
func (a *arena) lookup(ctx context.Context, b *bench) error {
	r, err := a.newRouted(plenty, connsPerTenant, nil)
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.visitAll(ctx, minTenants); err != nil {
		return err
	}
	pools, err := openArray(ctx, minTenants, connsPerTenant, a.plain("array"))
	if err != nil {
		return err
	}
	defer pools.close()
	table, err := lru.New[catalog.TenantID, *routed](a.n)
	if err != nil {
		return err
	}
	for _, id := range r.ids {
		table.Add(id, r)
	}

	nothing := func(context.Context, *tenantdb.DB) error { return nil }
	kept := func(err error) {
		if err != nil {
			b.progress("lookup: %v", err)
		}
	}
	var allocs []float64
	borrow := timed("borrow", func(i int) { kept(r.visit(ctx, i%minTenants, nothing)) })
	acquire := timed("pool's acquire", func(i int) {
		conn, err := pools.pools[i%minTenants].Acquire(ctx)
		kept(err)
		if err == nil {
			conn.Release()
		}
	})
	get := timed("hashicorp's Get", func(i int) { table.Get(r.ids[i%len(r.ids)]) })
	// What a borrow allocates beyond the same connection without a router, handed
	// over as the same DB.
	count := &side{name: "allocations", turn: func(context.Context, int, time.Duration) (float64, error) {
		n := mallocs(10_000, func(i int) { kept(r.visit(ctx, i%minTenants, nothing)) }) -
			mallocs(10_000, func(i int) {
				conn, err := pools.pools[i%minTenants].Acquire(ctx)
				kept(err)
				if err == nil {
					handed = tenantdb.On(conn, 1)
					kept(nothing(ctx, handed))
					conn.Release()
				}
			})
		allocs = append(allocs, n)
		return n, nil
	}}
	if err := b.play(ctx, "lookup", borrow, acquire, get, count); err != nil {
		return err
	}
	return errors.Join(
		b.emitWorst("lookup_allocs", "allocations", atMost(0), allocs, "a borrow and its return, beyond a plain pool's"),
		b.emit("lookup_ns", "ns", nil, borrow.rounds, "a whole borrow and its return"),
		b.emit("pool_acquire_ns", "ns", nil, acquire.rounds, "a plain pool's, and its release"),
		b.emit("hashicorp_get_ns", "ns", nil, get.rounds, ""),
	)
}

// handed keeps the compiler from leaving out what is handed to a borrower.
var handed *tenantdb.DB

// timed is a side that returns how many nanoseconds a call takes.
func timed(name string, call func(i int)) *side {
	return &side{name: name, turn: func(ctx context.Context, _ int, d time.Duration) (float64, error) {
		const batch = 256
		began, i := time.Now(), 0
		for time.Since(began) < d && ctx.Err() == nil {
			for range batch {
				call(i)
				i++
			}
		}
		return float64(time.Since(began).Nanoseconds()) / float64(i), nil
	}}
}

// mallocs is how many allocations a call makes, on the average of n, rounded down:
// what others do meanwhile is a fraction.
func mallocs(n int, call func(i int)) float64 {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	call(0)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range n {
		call(i)
	}
	runtime.ReadMemStats(&after)
	return float64((after.Mallocs - before.Mallocs) / uint64(n))
}
