package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"freehold/catalog"
)

// manyTenants is how many the case is about.
const manyTenants = 100_000

// registered measures what a node keeps of tenants that a catalog has: when nobody
// asks for them, and, which is the case, when each was asked for once and there is
// room for every route. By itself a node has room for a fifth of them.
func (h *hatchery) registered(ctx context.Context, b *bench) error {
	g, err := openGround(ctx, b)
	if err != nil {
		return err
	}
	defer g.close()
	keys, err := catalog.NewKeyset()
	if err != nil {
		return err
	}
	const name = "freehold_registered"
	cat, err := g.openCatalog(ctx, name, keys)
	if err != nil {
		return err
	}
	n := min(manyTenants, rowsAlone*b.opt.tenants)
	ids, err := g.register(ctx, name, cat, keys, n)
	if err != nil {
		return err
	}
	b.progress("registered %d tenants", n)
	// What every process has, however many tenants there are.
	if _, err := cat.Route(ctx, ids[0]); err != nil {
		return err
	}
	idle, visited, err := nodeMemory(ctx, cat, ids)
	if err != nil {
		return err
	}
	note := fmt.Sprintf("live heap with every route known; %s when nobody asked", figure(megabytes(idle)))
	if n < manyTenants {
		note += fmt.Sprintf("; %d tenants, scaled", n)
	}
	return b.emit("catalog_100k_mb", "MB", atMost(100), []float64{scaled(megabytes(visited), n)}, note)
}

// scaled is what n tenants cost, for as many as the case is about.
func scaled(mb float64, n int) float64 { return mb * manyTenants / float64(n) }

// leastRoute is less than a route can be: who keeps less hasn't kept them.
const leastRoute = 100 // bytes

// nodeMemory runs a node's cache and returns the bytes that it keeps: when it has
// read the clock, and when each route was asked for.
func nodeMemory(ctx context.Context, cat *catalog.Catalog, ids []catalog.TenantID) (idle, visited int64, err error) {
	before := heap()
	cache := catalog.NewCache(cat, catalog.CacheConfig{NodeName: "bench", Version: "bench", MaxRoutes: len(ids)})
	running, stop := context.WithCancel(ctx)
	var run errgroup.Group
	run.Go(func() error { return cache.Run(running) })
	defer func() {
		stop()
		err = errors.Join(err, run.Wait())
	}()
	for end := time.Now().Add(10 * time.Second); !cache.Ready(); {
		if time.Now().After(end) || ctx.Err() != nil {
			return 0, 0, errors.New("the node doesn't come to know the clock")
		}
		time.Sleep(10 * time.Millisecond)
	}
	idle = heap() - before
	var asking errgroup.Group
	asking.SetLimit(8) // as many as a node reads at a time
	for _, id := range ids {
		asking.Go(func() error {
			_, err := cache.Route(ctx, id, 1)
			return err
		})
	}
	if err := asking.Wait(); err != nil {
		return 0, 0, err
	}
	visited = heap() - before
	runtime.KeepAlive(cache)
	if visited < int64(len(ids))*leastRoute {
		return 0, 0, fmt.Errorf("%d bytes for %d routes: they aren't kept", visited, len(ids))
	}
	return idle, visited, nil
}

// heap is what is in use.
func heap() int64 {
	var m runtime.MemStats
	for range 3 { // pools give back what they keep after two
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func megabytes(bytes int64) float64 { return float64(bytes) / 1e6 }
