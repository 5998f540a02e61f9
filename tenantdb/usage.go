package tenantdb

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// UsageLine is what was used of a model on a day (UTC). Cost is in nano-units.
type UsageLine struct {
	Day              time.Time
	Model            string
	Requests         int64
	PromptTokens     int64
	CompletionTokens int64
	Cost             int64
}

// Usage is what was used in a month.
type Usage struct {
	Lines []UsageLine // by day and model
	// Month is the month that is going on for the limit (its first day), with the
	// tokens of it that are used, and those that requests at work may still use.
	Month          time.Time
	Used, Reserved int64
}

const (
	selectUsage = `
select (l.at at time zone 'utc')::date as day, l.model, count(*) as requests,
       sum(l.prompt_tokens)::bigint as prompt_tokens, sum(l.completion_tokens)::bigint as completion_tokens,
       least(sum(l.cost), 9223372036854775807)::bigint as cost
  from freehold.usage_ledger l
 where l.at >= $1 and l.at < $2
 group by 1, 2 order by 1, 2`

	// A month rolls over in its row when the next request comes.
	selectMonth = `
select m.month, case when c.month < m.month then 0 else c.used end, case when c.month < m.month then 0 else c.reserved end
  from freehold.tenant_counters c,
       (select greatest(date_trunc('month', now() at time zone 'utc')::date, x.month) as month
          from freehold.tenant_counters x where x.api_key = '') m
 where c.api_key = ''`
)

// Usage reads the ledger of the month that begins at that moment (UTC), as of one
// moment. ErrFenced.
func (db *DB) Usage(ctx context.Context, month time.Time) (u Usage, err error) {
	b := db.fenced()
	b.Queue(selectUsage, month, month.AddDate(0, 1, 0)).Query(func(rows pgx.Rows) (err error) {
		u.Lines, err = pgx.CollectRows(rows, pgx.RowToStructByName[UsageLine])
		return err
	})
	b.Queue(selectMonth).QueryRow(func(row pgx.Row) error { return row.Scan(&u.Month, &u.Used, &u.Reserved) })
	if err := db.send(ctx, b); err != nil {
		return Usage{}, fmt.Errorf("read usage: %w", err)
	}
	return u, nil
}
