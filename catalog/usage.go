package catalog

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Usage is what a tenant used of a model on a day (UTC), or in a month.
type Usage struct {
	Day              time.Time `json:"-"`
	Model            string    `json:"model"`
	Requests         int64     `json:"requests"`
	PromptTokens     int64     `json:"prompt_tokens"`
	CompletionTokens int64     `json:"completion_tokens"`
	Cost             int64     `json:"cost_nano"` // 10⁻⁹ of the bill's currency
}

// What was used can't become less: where a database was restored from a backup, the
// greater figure is the bill's.
const upsertUsage = `
insert into usage_daily as u (tenant, day, model, requests, prompt_tokens, completion_tokens, cost)
select $1, n.day, n.model, n.requests, n.prompt, n.completion, n.cost
  from unnest($2::date[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
       as n (day, model, requests, prompt, completion, cost)
 order by n.day, n.model
on conflict (tenant, day, model) do update
   set requests = greatest(u.requests, excluded.requests),
       prompt_tokens = greatest(u.prompt_tokens, excluded.prompt_tokens),
       completion_tokens = greatest(u.completion_tokens, excluded.completion_tokens),
       cost = greatest(u.cost, excluded.cost),
       rolled_at = now()`

// RollUp writes a tenant's totals, each of a whole day, any number of times.
func (c *Catalog) RollUp(ctx context.Context, id TenantID, days []Usage) error {
	if len(days) == 0 {
		return nil
	}
	n := len(days)
	day, model := make([]time.Time, n), make([]string, n)
	requests, prompt, completion, cost := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i, u := range days {
		day[i], model[i], requests[i], prompt[i], completion[i] = u.Day, u.Model, u.Requests, u.PromptTokens, u.CompletionTokens
		cost[i] = u.Cost
	}
	_, err := c.writer.Exec(ctx, upsertUsage, id, day, model, requests, prompt, completion, cost)
	return wrap("roll up usage", err)
}

// By month, since that is what a bill is for; day is the month's first.
const selectMonths = `
select date_trunc('month', day)::date as day, model, sum(requests)::bigint as requests,
       sum(prompt_tokens)::bigint as prompt_tokens, sum(completion_tokens)::bigint as completion_tokens,
       least(sum(cost), 9223372036854775807)::bigint as cost
  from usage_daily where tenant = $1
 group by 1, 2 order by 1, 2`

// UsageByMonth reads what a tenant used, a line for each month and model. Day is
// the month's first.
func (c *Catalog) UsageByMonth(ctx context.Context, id TenantID) ([]Usage, error) {
	rows, err := c.writer.Query(ctx, selectMonths, id)
	if err != nil {
		return nil, wrap("read usage", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Usage])
	return list, wrap("read usage", err)
}
