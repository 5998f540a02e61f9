package main

import (
	"context"
	"errors"
	"fmt"
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

// admit has twenty callers ask one tenant, one request after another, and takes
// the time until the engine is asked: limits, reservation and all, and the policy
// before them. The peer is one caller, alone, who commits the update of one row.
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
	var tails, rates []float64
	hot := &side{name: "admit, 20 callers", turn: func(ctx context.Context, _ int, d time.Duration) (float64, error) {
		var mu sync.Mutex // guards took
		var took []time.Duration
		t := closed(ctx, callers, d, func(ctx context.Context, _, _ int) error {
			began := time.Now()
			v, err := l.chat(ctx, body)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, v.began.Sub(began))
			return nil
		})
		rate, err := t.whole()
		rates, tails = append(rates, rate), append(tails, p99(took))
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
	tails, rates = nil, nil
	if err := b.play(ctx, "admit", hot, alone); err != nil {
		return err
	}
	return errors.Join(
		b.emit("admit_p50_vs_ping", "ratio", atMost(1.5), ratios(hot.rounds, alone.rounds), fmt.Sprintf("%s / %s ms",
			figure(median(hot.rounds)), figure(median(alone.rounds)))),
		b.emit("admit_p99_ms", "ms", atMost(20), tails,
			figure(median(rates))+" requests a second of the one tenant, settled too"),
	)
}
