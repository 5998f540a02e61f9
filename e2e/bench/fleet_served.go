package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/router"
	"freehold/tenantdb"
)

const (
	// servedPart of the capacity is what is asked for while tenants are migrated.
	servedPart = 0.3
	// servedCallers find out the capacity.
	servedCallers = 16
	// servedPatience is each request's deadline, as a node's statements have it.
	servedPatience = 5 * time.Second
	// quietTurns is how many turns long it is looked how tenants are served otherwise:
	// a rollout takes about as long.
	quietTurns = 5
)

// berth serves a harbour's tenants as a node does: by what its cache of the catalog
// says, which hears of each tenant that was migrated. Close it.
type berth struct {
	router  *router.Router
	tenants []catalog.Tenant
	stop    context.CancelFunc
	running errgroup.Group // the cache
}

func (h *harbour) serve(ctx context.Context) (_ *berth, err error) {
	schema, err := latest()
	if err != nil {
		return nil, err
	}
	cache := catalog.NewCache(h.cat, catalog.CacheConfig{NodeName: "bench", Version: "bench", SchemaMin: 1, SchemaMax: schema})
	n := &berth{tenants: h.tenants}
	n.router, err = router.New(router.Config{
		Route: cache.Route, ConnsPerTenant: connsPerTenant, SchemaMin: 1, SchemaMax: schema,
		// Nothing goes for want of room, or because it is let alone for a turn.
		MaxPools: len(h.tenants) + 1, IdleTimeout: 10 * time.Minute,
	})
	if err != nil {
		return nil, err
	}
	cache.OnChange(n.router.Invalidate)
	cache.OnMoving(n.router.Drain)
	var running context.Context
	running, n.stop = context.WithCancel(context.WithoutCancel(ctx)) // until it is closed
	n.running.Go(func() error { return cache.Run(running) })
	for end := time.Now().Add(20 * time.Second); !cache.Ready(); time.Sleep(5 * time.Millisecond) {
		if ctx.Err() != nil || time.Now().After(end) {
			return nil, errors.Join(errors.New("the node is not ready"), ctx.Err(), n.close(ctx))
		}
	}
	return n, nil
}

// visit serves one request of a tenant, which reads and writes the table that the
// migrations alter.
func (n *berth) visit(ctx context.Context, tenant int) error {
	ctx, cancel := context.WithTimeout(ctx, servedPatience)
	defer cancel()
	t := n.tenants[tenant]
	return n.router.For(t.ID, t.Epoch).Borrow(ctx, tenantdb.Interactive, selectInsert)
}

// visitAny is a request of a tenant at random.
func (n *berth) visitAny(ctx context.Context, _, _ int) error {
	return n.visit(ctx, rand.IntN(len(n.tenants)))
}

// visitAll opens every tenant's pool.
func (n *berth) visitAll(ctx context.Context) error {
	var visiting errgroup.Group
	visiting.SetLimit(4)
	for i := range n.tenants {
		visiting.Go(func() error { return n.visit(ctx, i) })
	}
	return visiting.Wait()
}

func (n *berth) close(ctx context.Context) error {
	// The run may have been interrupted, and this must be done all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	err := n.router.Close(ctx)
	n.stop()
	return errors.Join(err, n.running.Wait())
}

// served compares the p99 of requests while their tenants are migrated with what it is
// otherwise.
func (y *shipyard) served(ctx context.Context, b *bench) (err error) {
	defer b.fewRounds()()
	h, err := y.manyTenants(ctx, b)
	if err != nil {
		return err
	}
	n, err := h.serve(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close(ctx)) }()
	if err := n.visitAll(ctx); err != nil {
		return err
	}
	var capacity float64
	for range 2 { // the first lets the pools grow
		if capacity, err = closed(ctx, servedCallers, b.opt.slot, n.visitAny).whole(); err != nil {
			return err
		}
	}
	rate := servedPart * capacity
	b.progress("  capacity %.0f/s, of which %.0f/s are asked for", capacity, rate)

	failed := make([]float64, b.opt.rounds)
	p99Of := func(round int, t tally, latencies []time.Duration) (float64, error) {
		failed[round] += float64(t.failed)
		if t.failed > 0 {
			b.progress("  %d of %d requests failed: %v", t.failed, t.failed+t.done, t.err)
		}
		if t.done == 0 {
			return 0, errors.Join(errors.New("no request was answered"), t.err)
		}
		return p99(latencies), nil
	}
	quiet := &side{name: "served", turn: func(ctx context.Context, round int, d time.Duration) (float64, error) {
		t, latencies := open(ctx, rate, crowd, quietTurns*d, uint64(round), n.visitAny)
		return p99Of(round, t, latencies)
	}}
	var took []float64
	migrated := &side{name: "served while migrated", turn: func(ctx context.Context, round int, _ time.Duration) (float64, error) {
		var (
			t         tally
			latencies []time.Duration
			asking    sync.WaitGroup
		)
		// The end of the rollout is that of the load; who has asked is answered.
		during, end := context.WithCancel(ctx)
		defer end()
		asking.Go(func() {
			t, latencies = open(during, rate, crowd, time.Hour, uint64(1000+round), func(_ context.Context, caller, i int) error {
				return n.visitAny(ctx, caller, i)
			})
		})
		d, err := h.rollOut(ctx, 0)
		end()
		asking.Wait()
		if err != nil {
			return 0, err
		}
		took = append(took, d.Seconds())
		return p99Of(round, t, latencies)
	}}
	if err := b.play(ctx, "served", quiet, migrated); err != nil {
		return err
	}
	note := fmt.Sprintf("%s ms / %s ms; %d tenants migrated in %s s", figure(median(migrated.rounds)),
		figure(median(quiet.rounds)), len(h.tenants), figure(median(took)))
	return errors.Join(
		b.emit("served_p99", "ratio", atMost(2), ratios(migrated.rounds, quiet.rounds), note),
		b.emitWorst("served_failed", "requests", atMost(0), failed, ""),
	)
}
