package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// budgetBound gives the router 40 connections for a hundred tenants. Its yardstick
// is what could be reached if every request that misses the best fixed choice of
// tenants cost one connection and all else were free.
func (a *arena) budgetBound(ctx context.Context, b *bench) error {
	const callers = 64
	// As many as keep the server busy; more of them are no quicker.
	const connecting = 8
	budget := a.n * 2 / 5
	// By name, and no other router has any left.
	if err := a.settle(ctx, routerName); err != nil {
		return err
	}
	r, err := a.newRouted(budget, connsPerTenant, nil)
	if err != nil {
		return err
	}
	defer r.close()

	connects := &side{name: "connect and close", turn: func(ctx context.Context, round int, d time.Duration) (float64, error) {
		return closed(ctx, connecting, d, func(ctx context.Context, caller, i int) error {
			conn, err := pgconn.ConnectConfig(ctx, &a.peerConfig(a.all.at(round, caller, i), "connect").Config)
			if err != nil {
				return err
			}
			return conn.Close(ctx)
		}).whole()
	}}
	var bound []*side
	for _, w := range works {
		bound = append(bound, steady("routed", a.all, callers, r.visit, w))
	}
	// Watching takes its part of the processor, so it has a turn of its own.
	var excess []float64
	watched := &side{name: "routed and watched", turn: func(ctx context.Context, round int, d time.Duration) (float64, error) {
		s := sample(3*time.Millisecond, func() (int64, error) { return a.backends(ctx, routerName) })
		rate, err := bound[0].turn(ctx, round, d)
		most, serr := s.end()
		excess = append(excess, float64(max(0, most-int64(budget))))
		return rate, errors.Join(err, serr)
	}}
	if err := b.play(ctx, "budget_bound", append(bound, connects, watched)...); err != nil {
		return err
	}
	r.explain(b)
	misses := idealMisses(a.n, budget)
	var pairs []pair
	for _, s := range bound {
		ideal := &side{name: "ideal"}
		for _, rate := range connects.rounds {
			ideal.rounds = append(ideal.rounds, rate/misses)
		}
		pairs = append(pairs, pair{s, ideal})
	}
	b.progress("  %.1f %% of requests miss the best choice of %d tenants", 100*misses, budget)
	return errors.Join(
		b.emitWorse("budget_bound", atLeast(0.7), pairs...),
		b.emitWorst("budget_excess", "backends", atMost(0), excess, fmt.Sprintf("above %d, at any sample", budget)),
	)
}

// budgetHot has a working set that fits the budget.
func (a *arena) budgetHot(ctx context.Context, b *bench) error {
	const callers = 64
	budget, hot := a.n*2/5, a.n/5
	capped, err := a.newRouted(budget, connsPerTenant, nil)
	if err != nil {
		return err
	}
	defer capped.close()
	free, err := a.newRouted(plenty, connsPerTenant, nil)
	if err != nil {
		return err
	}
	defer free.close()
	if err := errors.Join(capped.visitAll(ctx, hot), free.visitAll(ctx, hot)); err != nil {
		return err
	}
	pairs := a.against(callers, newZipf(hot), "within a budget", capped.visit, "without", free.visit)
	if err := b.play(ctx, "budget_hot", sides(pairs...)...); err != nil {
		return err
	}
	return b.emitWorse("budget_hot", atLeast(0.95), pairs...)
}
