package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

const (
	// Of the days on which something was settled since, all of it: totals are
	// absolute, so that a day is rolled up any number of times.
	selectUsage = `
with days as (
    select distinct (l.at at time zone 'utc')::date as day from freehold.usage_ledger l where l.settled_at >= $1
)
select d.day, l.model, count(*) as requests, sum(l.prompt_tokens)::bigint as prompt_tokens,
       sum(l.completion_tokens)::bigint as completion_tokens,
       least(sum(l.cost), 9223372036854775807)::bigint as cost
  from days d join freehold.usage_ledger l
    on l.at >= d.day::timestamp at time zone 'utc' and l.at < (d.day + 1)::timestamp at time zone 'utc'
 group by 1, 2 order by 1, 2`

	// Before there was a ledger, what had ended counted, without a price.
	selectUsageBefore = `
select (p.created_at at time zone 'utc')::date as day, p.model, count(*) as requests,
       coalesce(sum(p.prompt_tokens), 0)::bigint as prompt_tokens,
       coalesce(sum(p.completion_tokens), 0)::bigint as completion_tokens, 0::bigint as cost
  from freehold.predictions p
 where p.state <> 'in_progress'
 group by 1, 2 order by 1, 2`
)

// late is how much earlier than its commit a settlement may be dated.
const late = 2 * time.Minute

// rollUp writes what a tenant used, by day and model, into the catalog: totals
// without content, of each day on which something was settled since. It returns how
// many lines it wrote.
func (v *visit) rollUp(ctx context.Context, since time.Time) (lines int, err error) {
	var rows pgx.Rows // with the query's error
	if v.billed {
		rows, _ = v.conn.Query(ctx, selectUsage, since)
	} else {
		rows, _ = v.conn.Query(ctx, selectUsageBefore)
	}
	days, err := pgx.CollectRows(rows, pgx.RowToStructByName[catalog.Usage])
	if err != nil {
		return 0, fmt.Errorf("read usage: %w", translate(ctx, err))
	}
	return len(days), v.cat.RollUp(ctx, v.tenant.ID, days)
}

// rollUpAll makes a tenant's last bill.
func (f *Fleet) rollUpAll(ctx context.Context, t catalog.Tenant) error {
	v, err := f.enter(ctx, t)
	if err != nil {
		return err
	}
	defer closeConn(ctx, v.conn)
	_, err = v.rollUp(ctx, time.Time{})
	return err
}
