package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	haltLate = `
update rollouts set state = 'halted', reason = 'its deadline has passed'
 where id = $1 and state = 'running' and deadline <= now()`

	// Most turns are sooner than it matters.
	keepLead = `
update rollouts set lease_until = now() + $3::interval, heartbeat_at = now(), worker = $4
 where id = $1 and token = $2 and state = 'running' and lease_until < now() + $3::interval * 0.8`

	// Only what is being done has a lease.
	keepTargets = `
update rollout_targets set lease_until = now() + $4::interval
 where rollout = $1 and tenant = any ($2::uuid[]) and worker = $3 and lease_until < now() + $4::interval * 0.6`

	// Of a claim that was recorded before nothing changes: its worker asks again, since
	// it heard no answer. To be given back without a reason was no try.
	recordTargets = `
with given as (
    select g.tenant, g.claim, g.state, g.version, g.millis, g.after, g.kind, g.file, g.error
      from unnest($2::uuid[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::text[],
                  $10::text[]) as g (tenant, claim, state, version, millis, after, kind, file, error)),
recorded as (
    update rollout_targets x
       set state = g.state, version = case when g.version > 0 then g.version else x.version end, millis = g.millis,
           kind = g.kind, file = g.file, error = g.error, lease_until = null,
           next_at = now() + g.after * interval '1 millisecond',
           attempts = x.attempts - case when g.state = 'waiting' and g.kind = '' then 1 else 0 end,
           ended_at = case when g.state <> 'waiting' then now() end
      from given g
     where x.rollout = $1 and x.tenant = g.tenant and x.claim = g.claim and x.lease_until is not null)
select g.tenant from given g
 where not exists (select from rollout_targets x where x.rollout = $1 and x.tenant = g.tenant and x.claim = g.claim)`

	haltFailing = `
update rollouts r
   set state = 'halted',
       reason = format('%s of %s tenants failed, and the budget of %s bears %s', n.failed, n.targets, r.options ->> 'budget', n.borne)
  from (select c.failed, c.targets,
               case when right(c.budget, 1) = '%' then floor(c.targets * rtrim(c.budget, '%')::numeric / 100)::bigint
                    else c.budget::bigint end as borne
          from (select b.options ->> 'budget' as budget, count(*) filter (where x.state = 'failed') as failed, count(*) as targets
                  from rollouts b join rollout_targets x on x.rollout = b.id where b.id = $1 group by b.id) c) n
 where r.id = $1 and r.state = 'running' and n.failed > n.borne`

	// A few probes of an index for each server and wave, whatever the number of targets,
	// and written so that no other plan is thought of: these tables have grown since
	// they were last analyzed. Nobody else claims meanwhile: the rollout's row is held.
	// What is next, but isn't active or is at another server by now, is put where it
	// belongs, so that it isn't in the way of others. Who is being moved or restored has
	// to stay as it is until that ends.
	claimTargets = `
with on_now as (
    select r.id, r.token, r.wave, (r.options ->> 'parallel')::int as parallel
      from rollouts r where r.id = $1 and r.state = 'running' and ($2::bigint = 0 or r.token = $2)),
free as materialized (
    select r.id, r.token, r.wave, s.id as server,
           greatest(r.parallel - (select count(*) from rollout_targets x
                                   where x.rollout = r.id and x.server_id = s.id and x.state = 'running'
                                     and x.token = r.token and x.lease_until > now()), 0) as n
      from on_now r cross join servers s where s.id <> all ($4::uuid[])),
due as materialized (
    select d.tenant
      from free f
     cross join lateral (
           select c.tenant, c.wave, c.next_at
             from ((select x.tenant, x.wave, x.next_at
                      from rollout_targets x
                     where x.rollout = f.id and x.server_id = f.server and x.state = 'running' and x.wave <= f.wave
                       and (x.token < f.token or x.lease_until <= now()))
                   union all
                   (select w.tenant, w.wave, w.next_at
                      from rollout_waves v
                     cross join lateral (
                           select x.tenant, x.wave, x.next_at
                             from rollout_targets x
                            where x.rollout = f.id and x.server_id = f.server and x.state = 'waiting' and x.wave = v.n
                              and x.next_at <= now()
                            order by x.next_at, x.tenant limit f.n) w
                     where v.rollout = f.id and v.n <= f.wave)) c
            order by c.wave, c.next_at, c.tenant limit f.n) d
     where f.n > 0
     order by d.wave, d.next_at, d.tenant limit $3),
placed as (
    select x.tenant, t.slug, t.database, t.server_id, s.name as server, r.token, t.state = 'moving' or b.busy as later,
           case when t.state in ('suspended', 'deleting', 'deleted') then 'gone'
                when t.state = 'active' and t.server_id = x.server_id and not b.busy then 'running' else 'waiting' end as state
      from on_now r
     cross join rollout_targets x
      join tenants t on t.id = x.tenant
      join servers s on s.id = t.server_id
     cross join lateral (
           select exists (select from operations o
                           where o.tenant = t.id and o.state in ('waiting', 'running') and o.kind in ('move', 'restore')) as busy) b
     where x.rollout = $1 and x.tenant = any (array(select tenant from due))),
claimed as (
    update rollout_targets x
       set state = p.state, server_id = p.server_id,
           attempts = x.attempts + case p.state when 'running' then 1 else 0 end, claim = x.claim + 1, token = p.token,
           worker = case p.state when 'running' then $5 else '' end,
           lease_until = case p.state when 'running' then now() + $6::interval end,
           next_at = case when p.later then now() + interval '1 second' else x.next_at end,
           began_at = case p.state when 'running' then now() else x.began_at end,
           ended_at = case p.state when 'gone' then now() end
      from placed p
     where x.rollout = $1 and x.tenant = any (array(select tenant from due)) and p.tenant = x.tenant
    returning x.tenant, p.slug, p.server, p.server_id::text as server_id, p.database, x.from_version as "from",
              x.attempts, x.claim, x.state)
select c.tenant, c.slug, c.server, c.server_id, c.database, c."from", c.attempts, c.claim
  from claimed c where c.state = 'running'`

	// Enough are counted to tell whether there are any.
	selectLeft = `
select coalesce(sum(o.n), 0) as left_over,
       coalesce(extract(epoch from greatest(min(o.next_at) - now(), interval '0')) * 1000, 0)::bigint as next_ms
  from rollouts r
  join rollout_waves w on w.rollout = r.id and w.n <= r.wave
 cross join servers s
 cross join lateral (
       select count(*) as n, min(u.next_at) as next_at
         from ((select x.next_at from rollout_targets x
                 where x.rollout = r.id and x.server_id = s.id and x.state = 'waiting' and x.wave = w.n
                 order by x.next_at limit 10)
               union all
               (select null from rollout_targets x
                 where x.rollout = r.id and x.server_id = s.id and x.state = 'running' and x.wave = w.n limit 10)) u) o
 where r.id = $1`

	lockTenants = `
select t.id from tenants t where t.id = any ($1::uuid[]) order by t.id for no key update`

	// One number for all of them, taken last.
	updateTenantVersions = `
with given as (
    select g.tenant, g.claim, g.version, g.needs
      from unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[]) as g (tenant, claim, version, needs)),
changed as (
    select t.id, r.stream, g.version, g.needs
      from given g
      join rollouts r on r.id = $1
      join rollout_targets x on x.rollout = r.id and x.tenant = g.tenant and x.claim = g.claim
      join tenants t on t.id = g.tenant and t.state <> 'deleted'
     where case r.stream when 'freehold' then t.schema_version <> g.version or g.needs >= 0 and t.schema_needs <> g.needs
                         else t.product_version <> g.version end),
number as materialized (select catalog_tick(false) as seq where exists (select from changed))
update tenants t
   set schema_version = case c.stream when 'freehold' then c.version else t.schema_version end,
       schema_needs = case when c.stream = 'freehold' and c.needs >= 0 then c.needs else t.schema_needs end,
       product_version = case c.stream when 'product' then c.version else t.product_version end,
       epoch = number.seq, updated_at = now()
  from changed c cross join number where t.id = c.id`
)

// RolloutTurn is a worker's turn at a rollout, in one transaction and one round trip:
// what ended is recorded where the claim is still the worker's, in the tenants' rows
// too; leases are kept; targets are claimed, of the waves up to the current one, of
// tenants that are active, and on each server up to the rollout's options.Parallel
// over all workers. A target can be claimed when it waits and is due, or when its
// worker gave no sign of life for its lease or had it under an older token than the
// rollout's. The rollout is halted once more targets failed than its budget bears,
// and when its deadline has passed; what is under way then is recorded when it ends.
//
// ErrLost when Lead isn't the rollout's token any more: what ended was recorded, and
// nothing was claimed. ErrNotFound. The same turn again does no harm.
func (c *Catalog) RolloutTurn(ctx context.Context, t Turn) (taken TurnTaken, err error) {
	if _, err := uuid.Parse(t.Rollout); err != nil {
		return taken, fmt.Errorf("take turn: %w", ErrNotFound)
	}
	if t.Want > 0 && t.Taker.Worker == "" {
		return taken, invalid(wrong("worker", "missing"))
	}
	// Claims that nobody knows of would be held for as long as the lease.
	ctx, cancel, err := whole(ctx)
	if err != nil {
		return taken, wrap("take turn", err)
	}
	defer cancel()
	var found []Rollout
	var left, next int64
	batch := t.queue(&taken)
	collect(batch, &found, selectRollouts+` where r.id = $1`, t.Rollout)
	batch.Queue(selectLeft, t.Rollout).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&left, &next}, func() error { return nil })
		return err
	})
	// Last, as the clock is held until the end.
	t.queueVersions(batch)
	if err := c.writer.SendBatch(ctx, batch).Close(); err != nil {
		return TurnTaken{}, wrap("take turn", err)
	}
	if len(found) == 0 {
		return TurnTaken{}, fmt.Errorf("take turn: %w", ErrNotFound)
	}
	taken.Rollout = found[0]
	taken.Left, taken.NextIn = int(left), time.Duration(next)*time.Millisecond
	if t.Lead != 0 && t.Lead != taken.Rollout.Token {
		return taken, fmt.Errorf("take turn: %w", ErrLost)
	}
	return taken, nil
}

// queue queues all but the answer's own columns and the tenants' versions.
func (t Turn) queue(taken *TurnTaken) *pgx.Batch {
	batch := &pgx.Batch{}
	if len(t.Ended) == 0 {
		batch.Queue(loosely) // what a crash takes away is a lease that is over soon
	}
	batch.Queue(lockRollout, t.Rollout)
	if t.Lead != 0 {
		batch.Queue(keepLead, t.Rollout, t.Lead, t.Taker.Lease, t.Taker.Worker)
	}
	batch.Queue(haltLate, t.Rollout)
	t.queueEnded(batch, &taken.Lost)
	if len(t.Held) > 0 {
		batch.Queue(keepTargets, t.Rollout, t.Held, t.Taker.Worker, t.Taker.Lease)
	}
	if t.Want > 0 {
		none := t.None
		if none == nil {
			none = []string{}
		}
		collect(batch, &taken.Claims, claimTargets, t.Rollout, t.Lead, t.Want, none, t.Taker.Worker, t.Taker.Lease)
	}
	return batch
}

func (t Turn) queueEnded(batch *pgx.Batch, lost *[]TenantID) {
	if len(t.Ended) == 0 {
		return
	}
	var tenants []TenantID
	var claims, versions, millis, after []int64
	var states, kinds, files, texts []string
	failed := false
	for _, e := range t.Ended {
		failed = failed || e.State == TargetFailed
		tenants, claims = append(tenants, e.Tenant), append(claims, e.Claim)
		states, versions = append(states, e.State), append(versions, e.Version)
		millis, after = append(millis, e.Took.Milliseconds()), append(after, e.After.Milliseconds())
		kinds, files = append(kinds, e.Kind), append(files, storable(e.File))
		texts = append(texts, cut(storable(e.Error), maxTargetError))
	}
	batch.Queue(recordTargets, t.Rollout, tenants, claims, states, versions, millis, after, kinds, files, texts).
		Query(func(rows pgx.Rows) (err error) {
			*lost, err = pgx.CollectRows(rows, pgx.RowTo[TenantID])
			return err
		})
	if failed {
		batch.Queue(haltFailing, t.Rollout)
	}
}

// queueVersions has the tenants' rows say what their databases have now.
func (t Turn) queueVersions(batch *pgx.Batch) {
	var tenants []TenantID
	var claims, versions, needs []int64
	for _, e := range t.Ended {
		if e.Version > 0 {
			tenants, claims = append(tenants, e.Tenant), append(claims, e.Claim)
			versions, needs = append(versions, e.Version), append(needs, e.Needs)
		}
	}
	if len(tenants) > 0 {
		batch.Queue(lockTenants, tenants)
		batch.Queue(updateTenantVersions, t.Rollout, tenants, claims, versions, needs)
	}
}

// maxTargetError bounds what is kept of a failure, in bytes.
const maxTargetError = 2000

// cut is text up to a length, in whole characters.
func cut(text string, bytes int) string {
	if len(text) <= bytes {
		return text
	}
	return storable(text[:bytes])
}
