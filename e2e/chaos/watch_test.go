package chaos_test

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// A tenant's role logs in nowhere but from a node: its sessions are all of the
// routers', also before they have said their name.
const countBackends = `
select count(*) from pg_stat_activity
 where backend_type = 'client backend' and (starts_with(usename, 't_') or application_name like 'freehold-router%')`

const sampleEvery = 3 * time.Millisecond

// watch counts the routers' backends until ctx ends, through every crash. It
// returns how often, and the most.
func (o *operator) watch(ctx context.Context) (samples, most int) {
	for ctx.Err() == nil {
		err := asSuper(ctx, o.superURL, func(conn *pgx.Conn) error {
			for ctx.Err() == nil {
				var n int
				if err := conn.QueryRow(ctx, countBackends).Scan(&n); err != nil {
					return err
				}
				samples++
				most = max(most, n)
				if n > o.server.Budget {
					o.wrong(budget, "%d backends at %s, budget %d", n, clock(now()), o.server.Budget)
				}
				time.Sleep(sampleEvery)
			}
			return nil
		})
		if err != nil {
			time.Sleep(sampleEvery)
		}
	}
	return samples, most
}

const (
	sumShares = `select coalesce(sum(granted), 0) from budget_shares`
	// A few times a second do: what was once too much stays for a while.
	sumEvery = 20 * time.Millisecond
)

// audit sums the nodes' shares until ctx ends.
func (o *operator) audit(ctx context.Context) {
	conn, err := pgx.Connect(ctx, o.catalogURL(address(o.catalogs)))
	if err != nil {
		o.wrong(budget, "look at shares: %v", err)
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for ctx.Err() == nil {
		var sum int
		if err := conn.QueryRow(ctx, sumShares).Scan(&sum); err != nil && ctx.Err() == nil {
			o.wrong(budget, "look at shares: %v", err)
			return
		}
		if sum > o.server.Budget {
			o.wrong(budget, "shares of %d at %s, budget %d", sum, clock(now()), o.server.Budget)
		}
		time.Sleep(sumEvery)
	}
}

// gone waits until no backend of a router's is left.
func (o *operator) gone() {
	ctx, cancel := call()
	defer cancel()
	err := asSuper(ctx, o.superURL, func(conn *pgx.Conn) error {
		for end := time.Now().Add(3 * time.Second); ; time.Sleep(sampleEvery) {
			var n int
			if err := conn.QueryRow(ctx, countBackends).Scan(&n); err != nil || n == 0 {
				return err
			}
			if time.Now().After(end) {
				o.wrong(left, "%d backends", n)
				return nil
			}
		}
	})
	if err != nil {
		o.wrong(left, "look at backends: %v", err)
	}
}
