package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// A row of the tenant's own counters that no key is of: the ping changes a row of
	// the very table that an admission changes.
	insertPing = `insert into freehold.tenant_counters (api_key) values ('ping') on conflict do nothing`
	ping       = `update freehold.tenant_counters set used = used + 1 where api_key = 'ping'`
)

// admit has twenty callers ask one tenant, at 30 % of what they reach when each asks
// again at once, and takes the time until the engine is asked: limits, reservation
// and all, and the policy before them. The peer is one caller, alone, who commits
// the update of one row.
func (e *estate) admit(ctx context.Context, b *bench) error {
	const callers = 20
	d, err := e.openDomain(ctx, "freehold_admit", e.address())
	if err != nil {
		return err
	}
	who, err := d.customer(ctx, "hot", 1e12, 1000)
	if err != nil {
		return err
	}
	l, err := d.openLocal(ctx, who)
	if err != nil {
		return err
	}
	defer l.close()
	route, err := d.cat.Route(ctx, who.ID)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, route.Config.Copy())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, insertPing); err != nil {
		return err
	}
	body := askedBody("Are there seats in the third row?", false)
	one := func(ctx context.Context) (admitted time.Time, err error) {
		v, err := l.chat(ctx, body)
		if err != nil {
			return time.Time{}, err
		}
		return v.began, nil
	}
	most, err := closed(ctx, callers, b.opt.slot, func(ctx context.Context, _, _ int) error {
		_, err := one(ctx)
		return err
	}).whole()
	if err != nil {
		return err
	}
	var tails []float64
	hot := &side{name: "admit, 20 callers", turn: func(ctx context.Context, round int, d time.Duration) (float64, error) {
		took, err := punctual(ctx, callers, 0.3*most, d, uint64(round+1), one)
		tails = append(tails, p99(took))
		return median(milliseconds(took)), err
	}}
	alone := &side{name: "ping, alone", turn: func(ctx context.Context, _ int, d time.Duration) (float64, error) {
		var took []time.Duration
		for end := time.Now().Add(d); time.Now().Before(end); {
			began := time.Now()
			if _, err := conn.Exec(ctx, ping); err != nil {
				return 0, err
			}
			took = append(took, time.Since(began))
		}
		return median(milliseconds(took)), nil
	}}
	for _, s := range []*side{hot, alone} {
		if _, err := s.turn(ctx, 0, b.opt.slot/4); err != nil {
			return err
		}
	}
	tails = nil
	if err := b.play(ctx, "admit", hot, alone); err != nil {
		return err
	}
	return errors.Join(
		b.emit("admit_p50_vs_ping", "ratio", atMost(1.5), ratios(hot.rounds, alone.rounds), fmt.Sprintf("%s / %s ms",
			figure(median(hot.rounds)), figure(median(alone.rounds)))),
		b.emit("admit_p99_ms", "ms", atMost(20), tails,
			fmt.Sprintf("%s requests a second, settled too, of at most %s", figure(0.3*most), figure(most))),
	)
}

// punctual has callers ask at a mean rate together, each at the moments of a
// Poisson process, and returns how long each took until it was admitted: from its
// moment when its caller was late with the one before, else from when it was sent.
func punctual(ctx context.Context, callers int, rate float64, d time.Duration, seed uint64,
	one func(context.Context) (admitted time.Time, err error),
) ([]time.Duration, error) {
	var (
		mu    sync.Mutex // guards took
		took  []time.Duration
		first firstError
		all   sync.WaitGroup
	)
	began := time.Now()
	for caller := range callers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(caller)))
			for due := began; ctx.Err() == nil; {
				due = due.Add(time.Duration(random.ExpFloat64() * float64(callers) / rate * float64(time.Second)))
				if due.Sub(began) > d {
					return
				}
				from := due
				if wait := time.Until(due); wait > 0 {
					time.Sleep(wait)
					from = time.Now()
				}
				admitted, err := one(ctx)
				if err != nil {
					first.keep(err)
					return
				}
				mu.Lock()
				took = append(took, admitted.Sub(from))
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return took, errors.Join(first.err, ctx.Err())
}
