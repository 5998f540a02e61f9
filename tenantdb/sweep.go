package tenantdb

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const releaseSlots = `
with dead as (
    update freehold.reservations r set slot = false
     where r.slot and r.node <> all($1) and r.created_at < now() - $2::interval
 returning r.api_key
), back as (
    select k.api_key, count(*)::int as slots
      from dead d cross join lateral (values (''), (d.api_key)) as k (api_key) group by k.api_key
), counted as (
    update freehold.tenant_counters c set in_flight = c.in_flight - b.slots
      from back b where c.api_key = b.api_key
)
select count(*)::int from dead`

// In the order in which a settlement takes them, should one be alive after all.
const lockDead = `
select r.id from freehold.reservations r
 where r.node <> all($1) and r.created_at < now() - $2::interval order by r.id for update`

const lockAllCounters = `
select c.api_key from freehold.tenant_counters c order by c.api_key for no key update`

// ReleaseSlots gives back the slots, not the tokens, of requests older than grace
// whose process isn't among live. It isn't fenced.
func (db *DB) ReleaseSlots(ctx context.Context, live []uuid.UUID, grace time.Duration) (n int, err error) {
	if n, err = db.dead(ctx, releaseSlots, live, grace); err != nil {
		return 0, fmt.Errorf("release slots: %w", err)
	}
	return n, nil
}

// What a dead process left is interrupted: nobody knows what of it was used, so the
// month's limit takes all that was granted, and the bill nothing.
const sweepDead = `
with freed as (
    delete from freehold.reservations r
     where r.node <> all($1) and r.created_at < now() - $2::interval
 returning r.id, r.month, r.tokens, r.api_key, r.slot, r.audit, r.idempotency_key, r.created_at
), told as materialized (
    select f.id, f.audit, f.api_key, f.idempotency_key, p.request_id, p.kind, p.model, p.created_at,
           case when p.input is not null then uuid_send(gen_random_uuid()) end as salt, p.input
      from freed f join freehold.predictions p on p.id = f.id
), hashed as materialized (
    select t.id, sha256(t.salt || convert_to(t.input::text, 'UTF8') || '\x00'::bytea) as payload from told t
), ended as (
    update freehold.predictions p
       set state = 'interrupted', settled_at = now(), salt = t.salt, payload_hash = h.payload
      from told t join hashed h on h.id = t.id
     where p.id = t.id and p.state = 'in_progress'
), billed as (
    insert into freehold.usage_ledger (id, request_id, api_key, kind, model, state, prompt_tokens, completion_tokens, at)
    select t.id, t.request_id, t.api_key, t.kind, t.model, 'interrupted', 0, 0, t.created_at from told t
        on conflict (id) do nothing
), audited as (
    insert into freehold.audit_log (id, at, actor, action, subject, request_id, detail, payload_hash)
    select t.id, now(), 'key:' || t.api_key, 'prediction', 'pred_' || t.id::text, t.request_id,
           json_build_object('kind', t.kind, 'model', t.model, 'state', 'interrupted'), h.payload
      from told t join hashed h on h.id = t.id where t.audit
        on conflict (id) do nothing
), forgotten as (
    delete from freehold.idempotency_keys i using told t
     where i.api_key = t.api_key and i.key = t.idempotency_key and i.prediction = t.id
), back as (
    select k.api_key, f.month, sum(f.tokens)::bigint as tokens, count(*) filter (where f.slot)::int as slots
      from freed f cross join lateral (values (''), (f.api_key)) as k (api_key)
     group by k.api_key, f.month
), counted as (
    update freehold.tenant_counters c
       set reserved = c.reserved - coalesce(b.tokens, 0), used = c.used + coalesce(b.tokens, 0),
           in_flight = c.in_flight - b.slots
      from (select k.api_key, sum(k.slots)::int as slots,
                   sum(k.tokens) filter (where k.month = n.month)::bigint as tokens
              from back k join freehold.tenant_counters n on n.api_key = k.api_key
             group by k.api_key) as b
     where c.api_key = b.api_key
)
select count(*)::int from freed`

// Sweep settles, as interrupted, requests older than grace whose process isn't
// among live. What such a process has spooled must have been settled before. It
// isn't fenced.
func (db *DB) Sweep(ctx context.Context, live []uuid.UUID, grace time.Duration) (n int, err error) {
	if n, err = db.dead(ctx, sweepDead, live, grace); err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	return n, nil
}

func (db *DB) dead(ctx context.Context, sql string, live []uuid.UUID, grace time.Duration) (n int, err error) {
	live = slices.Clone(live)
	if live == nil {
		live = []uuid.UUID{}
	}
	b := new(pgx.Batch)
	b.Queue(lockDead, live, grace)
	b.Queue(lockAllCounters)
	b.Queue(sql, live, grace).QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
	return n, db.send(ctx, b)
}
