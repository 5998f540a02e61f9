package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"freehold/catalog"
)

const (
	drainTenants = 20
	// They have so many megabytes, evenly spread, where the large tenant has a thousand.
	drainLeast, drainMost = 20.0, 50.0
	// drainRounds is how many there are at most, and drainNodes acknowledge each move.
	drainRounds = 3
	drainNodes  = 2
	drainAtOnce = 4
)

// moveDrain has the same tenants leave one server for the other, back and forth: one
// move at a time, and several. Nobody asks them anything meanwhile, but two nodes
// serve them, and acknowledge.
func moveDrain(ctx context.Context, b *bench) error {
	rounds := b.opt.rounds
	b.opt.rounds = min(rounds, drainRounds)
	defer func() { b.opt.rounds = rounds }()
	d, err := openDocks(ctx, b, 2, drainNodes)
	if err != nil {
		return err
	}
	defer d.close()
	var last customer
	for i := range drainTenants {
		mb := (drainLeast + (drainMost-drainLeast)*float64(i)/(drainTenants-1)) * float64(b.opt.mb) / 1024
		if last, err = d.dockTenant(ctx, b, fmt.Sprintf("drained-%02d", i), mb); err != nil {
			return err
		}
	}
	drained := func(name string, parallel int) *side {
		return &side{name: name, turn: func(ctx context.Context, _ int, _ time.Duration) (float64, error) {
			if err := d.calm(ctx); err != nil {
				return 0, err
			}
			from, err := d.where(ctx, last.ID)
			if err != nil {
				return 0, err
			}
			took, err := d.drain(ctx, quayName(from), quayName(1-from), parallel)
			b.progress("  %s: %.1f s", name, took.Seconds())
			return took.Seconds(), err
		}}
	}
	one, many := drained("one at a time", 1), drained(fmt.Sprintf("%d at a time", drainAtOnce), drainAtOnce)
	if err := b.play(ctx, "drain", one, many); err != nil {
		return err
	}
	return b.emit("drain_parallel", "ratio", atLeast(2), ratios(one.rounds, many.rounds), fmt.Sprintf(
		"%d tenants: %s s, %s s", drainTenants, figure(median(one.rounds)), figure(median(many.rounds))))
}

// drain has all tenants of one server move to another.
func (d *docks) drain(ctx context.Context, from, to string, parallel int) (time.Duration, error) {
	active := catalog.ServerActive // the last drain left it draining
	if _, err := d.cat.SetServer(ctx, to, catalog.ServerPatch{State: &active}); err != nil {
		return 0, err
	}
	began := time.Now()
	run, err := d.fleet.BeginDrain(ctx, catalog.DrainSpec{Server: from, To: to, Actor: "bench", Parallel: parallel})
	if err != nil {
		return 0, err
	}
	status, err := d.fleet.RunDrain(ctx, run.ID, nil)
	took := time.Since(began)
	if err != nil {
		return took, err
	}
	if status.State != catalog.DrainDone {
		return took, fmt.Errorf("%w: the drain is %s", errNotMoved, status.State)
	}
	left, err := d.cat.Tenants(ctx, catalog.TenantFilter{Server: from, Limit: 1})
	if err == nil && len(left) > 0 {
		err = errors.Join(errNotMoved, errors.New("somebody still lives on server "+from))
	}
	return took, err
}
