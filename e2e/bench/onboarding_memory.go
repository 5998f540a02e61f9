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

// most is how many tenants the case is about.
const most = 100_000

// registered measures what a node keeps of tenants that a catalog has: as much as
// it can when each was asked for once and there is room for every one, which is
// the case; with the room that a node has; and when nobody asks.
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
	n := min(most, rowsAlone*b.opt.tenants)
	ids, err := g.register(ctx, name, cat, keys, n)
	if err != nil {
		return err
	}
	b.progress("registered %d tenants", n)
	// What every process has, whatever the number of tenants: the pool's statements.
	if _, err := cat.Route(ctx, ids[0]); err != nil {
		return err
	}
	idle, all, err := nodeMemory(ctx, cat, ids, n)
	if err != nil {
		return err
	}
	_, bounded, err := nodeMemory(ctx, cat, ids, 0)
	if err != nil {
		return err
	}
	note := fmt.Sprintf("live heap, each route known; %s with the room that a node has, %s when nobody asked",
		figure(scaled(bounded, n)), figure(idle))
	if n < most {
		note += fmt.Sprintf("; %d tenants, scaled", n)
	}
	return b.emit("catalog_100k_mb", "MB", atMost(100), []float64{scaled(all, n)}, note)
}

// scaled is what n tenants cost, for as many as the case is about.
func scaled(mb float64, n int) float64 { return mb * most / float64(n) }

// nodeMemory runs a node's cache, with room for so many routes (0: what a node
// has), and returns the megabytes that it keeps when it knows the clock, and when
// each route was asked for.
func nodeMemory(ctx context.Context, cat *catalog.Catalog, ids []catalog.TenantID, room int) (idle, visited float64, err error) {
	before := heap()
	cache := catalog.NewCache(cat, catalog.CacheConfig{NodeName: "bench", Version: "bench", MaxRoutes: room})
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
	idle = megabytes(heap() - before)
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
	visited = megabytes(heap() - before)
	runtime.KeepAlive(cache)
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
