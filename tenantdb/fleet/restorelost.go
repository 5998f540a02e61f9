package fleet

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

const (
	// Of requests at work nobody knows anything any more, and no answer of theirs will
	// come.
	forgetReservations = `delete from freehold.reservations`
	forgetClaims       = `delete from freehold.idempotency_keys i where not i.done`

	// What was billed and isn't in the ledger goes into it, a row for each request: the
	// first of a day and model bears the difference.
	billLost = `
insert into freehold.usage_ledger (id, request_id, api_key, kind, model, state, prompt_tokens, completion_tokens, cost, at)
select gen_random_uuid(), '', '', 'restored', d.model, 'succeeded',
       case when r.n = 1 then d.prompt else 0 end, case when r.n = 1 then d.completion else 0 end,
       case when r.n = 1 then d.cost else 0 end, least(d.day::timestamp at time zone 'utc' + interval '12 hours', greatest(now(), d.day::timestamp at time zone 'utc'))
  from (select n.day, n.model, greatest(n.requests - coalesce(h.requests, 0), 0) as requests,
               greatest(n.prompt - coalesce(h.prompt, 0), 0) as prompt,
               greatest(n.completion - coalesce(h.completion, 0), 0) as completion,
               greatest(n.cost - coalesce(h.cost, 0), 0) as cost
          from unnest($1::text[]::date[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
               as n (day, model, requests, prompt, completion, cost)
          left join (select (l.at at time zone 'utc')::date as day, l.model, count(*) as requests,
                            sum(l.prompt_tokens)::bigint as prompt, sum(l.completion_tokens)::bigint as completion,
                            least(sum(l.cost), 9223372036854775807)::bigint as cost
                       from freehold.usage_ledger l group by 1, 2) h
            on h.day = n.day and h.model = n.model) d
 cross join lateral generate_series(1, greatest(d.requests, case when d.prompt + d.completion + d.cost > 0 then 1 else 0 end)) as r (n)`

	// The month's tokens are at least what the ledger says by now.
	countLost = `
insert into freehold.tenant_counters as c (api_key, month, used)
select '', m.month, coalesce((select sum(l.prompt_tokens + l.completion_tokens) from freehold.usage_ledger l
                               where l.at >= m.month::timestamp at time zone 'utc'), 0)
  from (select date_trunc('month', now() at time zone 'utc')::date as month) m
on conflict (api_key) do update
   set used = greatest(excluded.used, case when c.month = excluded.month then c.used else 0 end), month = excluded.month`
	freeCounters = `update freehold.tenant_counters set reserved = 0, in_flight = 0`
)

// settleLost makes the backup's ledger and counters say what the catalog knows to
// have been used since: the database that said it is lost.
func (c *carrying) settleLost(ctx context.Context) error {
	days, err := c.cat.UsageByDay(ctx, c.tenant.ID)
	if err != nil {
		return err
	}
	n := len(days)
	day, model := make([]string, n), make([]string, n)
	requests, prompt, completion, cost := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i, u := range days {
		day[i], model[i], requests[i], prompt[i] = u.Day.Format(time.DateOnly), u.Model, u.Requests, u.PromptTokens
		completion[i], cost[i] = u.CompletionTokens, u.Cost
	}
	if _, err := c.to.Exec(ctx, billLost, day, model, requests, prompt, completion, cost); err != nil {
		return err
	}
	for _, sql := range []string{countLost, freeCounters, forgetReservations, forgetClaims} {
		if _, err := c.to.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

const selectLastHead = `select s.n, s.head from freehold.audit_seals s order by s.n desc limit 1`

// rewindAudit notes where the audit of a database ends whose newer one is lost, named
// after who restored it: else that would read as a chain whose end was cut off.
func (f *Fleet) rewindAudit(ctx context.Context, conn *pgx.Conn, t catalog.Tenant, actor string) error {
	head := catalog.AuditHead{Tenant: t.ID, Head: make([]byte, 32)}
	rows, _ := conn.Query(ctx, selectLastHead) // its error is in rows
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h catalog.AuditHead, err error) {
		return h, row.Scan(&h.N, &h.Head)
	})
	if err != nil {
		return translate(ctx, err)
	}
	if len(found) > 0 {
		head.N, head.Head = found[0].N, found[0].Head
	}
	noted, proven, err := f.cat.AuditHead(ctx, t.ID)
	if err != nil || noted.N <= head.N && proven.N <= head.N {
		return err
	}
	return f.cat.RewindAuditHead(ctx, actor, head)
}
