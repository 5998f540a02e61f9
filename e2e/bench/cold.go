package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"freehold/tenantdb"
)

// identity is what a bare connection asks to know where it stands, as the router
// does on each new one.
const identity = `
select i.tenant, current_database(), session_user, current_user
  from freehold.tenant_identity i`

// coldOpen sets a tenant's first borrow, on a router that knows nothing yet, beside
// a bare connection with the same query. They take turns on the same tenant.
func (a *arena) coldOpen(ctx context.Context, b *bench) error {
	var cold, bare, ratio []float64
	for round := range b.opt.rounds {
		b.progress("cold_open, round %d of %d", round+1, b.opt.rounds)
		var took [2][]float64
		for i, began := 0, time.Now(); time.Since(began) < 2*b.opt.slot; i++ {
			tenant := a.all.at(round, 0, i)
			measures := [2]func(context.Context, int) (time.Duration, error){a.coldBorrow, a.bareConnect}
			for turn := range measures {
				who := (turn + i) % 2
				d, err := measures[who](ctx, tenant)
				if err != nil {
					return err
				}
				took[who] = append(took[who], d.Seconds()*1000)
				// The server is still busy ending the last one.
				time.Sleep(3 * time.Millisecond)
			}
		}
		cold, bare = append(cold, median(took[0])), append(bare, median(took[1]))
		ratio = append(ratio, cold[round]/bare[round])
	}
	return errors.Join(
		b.emit("cold_open", "ratio", atMost(1.10), ratio, fmt.Sprintf("%.3g ms / %.3g ms", median(cold), median(bare))),
		b.emit("cold_open_ms", "ms", nil, cold, ""),
	)
}

func (a *arena) coldBorrow(ctx context.Context, tenant int) (time.Duration, error) {
	r, err := a.newRouted(plenty, connsPerTenant, nil)
	if err != nil {
		return 0, err
	}
	defer r.close()
	began := time.Now()
	err = r.visit(ctx, tenant, func(context.Context, *tenantdb.DB) error { return nil })
	return time.Since(began), err
}

func (a *arena) bareConnect(ctx context.Context, tenant int) (time.Duration, error) {
	cfg := a.peerConfig(tenant, "bare")
	began := time.Now()
	conn, err := pgconn.ConnectConfig(ctx, &cfg.Config)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, identity).ReadAll()
	return time.Since(began), err
}
