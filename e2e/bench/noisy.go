package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"freehold/tenantdb"
)

// The noisy neighbour's scene: quiet tenants and one more share a budget that
// gives each three connections. A request holds its connection for 20 ms without
// the processor, because the queue for connections is what is looked at: from
// each other's use of the processor the tenants of one server aren't kept.
const (
	quietTenants = 15
	noisyBudget  = 3 * (quietTenants + 1)
	noisyTenant  = quietTenants
	// quietPart of the capacity is what the quiet ones ask for together.
	quietPart = 0.3
	// noisyTimes its fair share is what the neighbour asks for.
	noisyTimes = 50
	// patience is each request's deadline.
	patience = time.Second
	// crowd is how many requests of a tenant can be out.
	crowd = 1000
)

// noisy compares the quiet ones' p99 with and without the neighbour: through the
// router, whose limit for one tenant is set to the whole budget here, and through
// a queue of the same size that is first come, first served.
func (a *arena) noisy(ctx context.Context, b *bench) error {
	r, err := a.newRouted(noisyBudget, noisyBudget, nil)
	if err != nil {
		return err
	}
	defer r.close()
	pools, err := openArray(ctx, quietTenants+1, noisyBudget, a.plain("fifo"))
	if err != nil {
		return err
	}
	defer pools.close()
	slots := make(chan struct{}, noisyBudget)
	fifo := func(ctx context.Context, tenant int, run func(context.Context, *tenantdb.DB) error) error {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-slots }()
		return pools.visit(ctx, tenant, run)
	}

	// All alike and as much as goes through: what a fair share is a part of. The
	// first run lets the pools grow.
	var capacity float64
	for range 2 {
		if capacity, err = closed(ctx, noisyBudget, b.opt.slot, func(ctx context.Context, _, _ int) error {
			return fifo(ctx, rand.IntN(quietTenants+1), hold)
		}).whole(); err != nil {
			return err
		}
	}
	s := scene{quiet: quietPart * capacity, loud: noisyTimes * capacity / (quietTenants + 1)}
	b.progress("  capacity %.0f/s, the quiet ones ask for %.0f/s together, the neighbour for %.0f/s",
		capacity, s.quiet, s.loud)

	alone, failedAlone := s.side("routed, alone", r.visit, false)
	with, failed := s.side("routed, with the neighbour", r.visit, true)
	fifoAlone, _ := s.side("first come, alone", fifo, false)
	fifoWith, _ := s.side("first come, with the neighbour", fifo, true)
	if err := b.play(ctx, "noisy", alone, with, fifoAlone, fifoWith); err != nil {
		return err
	}
	for i := range *failed {
		(*failed)[i] += (*failedAlone)[i]
	}
	note := func(with, alone *side) string {
		return fmt.Sprintf("%.3g ms / %.3g ms", median(with.rounds), median(alone.rounds))
	}
	return errors.Join(
		b.emit("noisy_p99", "ratio", atMost(2), ratios(with.rounds, alone.rounds), note(with, alone)),
		b.emit("noisy_p99_fifo", "ratio", nil, ratios(fifoWith.rounds, fifoAlone.rounds), note(fifoWith, fifoAlone)),
		b.emit("noisy_p99_alone_ms", "ms", nil, alone.rounds, ""),
		b.emitWorst("noisy_failed", "requests", nil, *failed, "of the quiet ones, routed"),
	)
}

// scene is how many requests a second they ask for.
type scene struct{ quiet, loud float64 }

// side returns the quiet ones' p99 in milliseconds, and counts those that failed.
func (s scene) side(name string, through door, neighbour bool) (*side, *[]float64) {
	failed := new([]float64)
	visit := func(ctx context.Context, tenant int) error {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		return through(ctx, tenant, hold)
	}
	return &side{name: name, turn: func(ctx context.Context, round int, d time.Duration) (float64, error) {
		var loud sync.WaitGroup
		if neighbour {
			// Its queue stands when the quiet ones begin.
			const head = 200 * time.Millisecond
			loud.Go(func() {
				open(ctx, s.loud, crowd, head+d, uint64(round), func(ctx context.Context, _, _ int) error {
					return visit(ctx, noisyTenant)
				})
			})
			time.Sleep(head)
		}
		t, latencies := open(ctx, s.quiet, crowd, d, uint64(1000+round), func(ctx context.Context, _, _ int) error {
			return visit(ctx, rand.IntN(quietTenants))
		})
		loud.Wait()
		*failed = append(*failed, float64(t.failed))
		if t.done == 0 {
			return 0, errors.Join(errors.New("no request was answered"), t.err)
		}
		return p99(latencies), nil
	}}, failed
}
