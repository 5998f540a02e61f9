package catalog

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Due is a tenant that a worker is sent to.
type Due struct {
	Tenant TenantID
	Server string // by name
	Daily  bool   // what is looked after once a day is due too
	// RolledTo is what the last Visit said: nil is nothing.
	RolledTo *time.Time
	// Until is when somebody else is sent, unless Visited was called.
	Until time.Time
}

// Visit is what a worker did at a tenant's.
type Visit struct {
	// Next is when to come again; nil: when somebody asks for it.
	Next *time.Duration
	// Daily says that what is looked after once a day was.
	Daily bool
	// RolledTo is a moment of the database's own clock: what was settled before it
	// is in the tenant's daily usage. Nil: as before.
	RolledTo *time.Time
	// Unsealed is the time of the oldest audit row that was left without a seal;
	// zero: of none, nil: nobody could look.
	Unsealed *time.Time
	// Spooled counts the settlements that were left in the object store; nil: nobody
	// could look.
	Spooled *int
	// Error says for people what failed, without secrets; empty: nothing did.
	Error string
	// Cut says that it was stopped: whether it would have failed stays as it was.
	Cut bool
}

// Only one row is touched, so that who marks waits for nobody who takes many.
const upsertDue = `
insert into tenant_due as d (tenant, due_at)
select t.id, now() + $2::interval from tenants t where t.id = $1 and t.state not in ('deleting', 'deleted')
on conflict (tenant) do update set due_at = excluded.due_at where excluded.due_at < d.due_at`

// MarkDue has a worker visit a tenant that soon, or sooner if that was asked for. A
// visit that goes on is no visit: there will be one more after it. Tenants that are
// being deleted, or aren't there, are left alone.
func (c *Catalog) MarkDue(ctx context.Context, id TenantID, in time.Duration) error {
	_, err := c.writer.Exec(ctx, upsertDue, id, in)
	return wrap("mark tenant due", err)
}

// An hour less than a day: a day's visits don't move on around the clock.
const upsertDaily = `
insert into tenant_due as d (tenant, due_at)
select t.id, now() + random() * $1::interval from tenants t left join tenant_due x on x.tenant = t.id
 where t.state in ('active', 'suspended') and (x.daily_at is null or x.daily_at < now() - interval '23 hours')
   and (x.due_at is null or x.due_at > now() + $1::interval)
on conflict (tenant) do update set due_at = least(d.due_at, excluded.due_at)`

// MarkDaily marks every tenant due that nobody has looked after for a day, spread
// over a while.
func (c *Catalog) MarkDaily(ctx context.Context, over time.Duration) error {
	_, err := c.writer.Exec(ctx, upsertDaily, over)
	return wrap("mark tenants due", err)
}

const (
	// Whoever took these is dead, or so late that it is thought to be.
	expireLeases = `
update tenant_due d set due_at = least(d.due_at, d.leased_until), leased_until = null
 where d.tenant in (select x.tenant from tenant_due x where x.leased_until <= now() for update skip locked)`

	takeDue = `
with due as (
    select d.tenant, s.name as server from tenant_due d
      join tenants t on t.id = d.tenant
      join servers s on s.id = t.server_id
     where d.due_at <= now() and d.leased_until is null and t.state in ('active', 'suspended')
       and s.state <> 'down' and s.name <> all($3::text[])
     order by d.due_at, d.tenant limit $1
       for update of d skip locked)
update tenant_due d set due_at = 'infinity', leased_until = now() + $2::interval
  from due where d.tenant = due.tenant
returning d.tenant, due.server, coalesce(d.daily_at < now() - interval '20 hours', true) as daily, d.rolled_to,
          d.leased_until as until`
)

// TakeDue takes up to limit tenants that are due, those that wait longest first, for
// as long as the lease: nobody else is sent to them until then, or until Visited.
// Those on the servers named in without wait on.
func (c *Catalog) TakeDue(ctx context.Context, limit int, lease time.Duration, without []string) (list []Due, err error) {
	if without == nil {
		without = []string{}
	}
	var batch pgx.Batch
	batch.Queue(expireLeases)
	collect(&batch, &list, takeDue, limit, lease, without)
	if err := c.writer.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, wrap("take due tenants", err)
	}
	return list, nil
}

const updateVisited = `
update tenant_due
   set due_at = least(due_at, coalesce(now() + $3::interval, 'infinity')), leased_until = null, visited_at = now(),
       daily_at = case when $4 then now() else daily_at end, rolled_to = coalesce($5, rolled_to),
       unsealed_at = case when $6 then $7 else unsealed_at end, spooled = coalesce($8, spooled),
       error = case when $10 then error else left($9, 1000) end,
       failing_since = case when $10 then failing_since when $9 <> '' then coalesce(failing_since, now()) end
 where tenant = $1 and leased_until = $2`

// Visited ends what TakeDue began. Of a worker whose lease ran out nothing is kept:
// somebody else is there by now, or was.
func (c *Catalog) Visited(ctx context.Context, d Due, v Visit) error {
	looked, unsealed := v.Unsealed != nil, v.Unsealed
	if looked && unsealed.IsZero() {
		unsealed = nil
	}
	why := strings.ReplaceAll(strings.ToValidUTF8(v.Error, ""), "\x00", "")
	_, err := c.writer.Exec(ctx, updateVisited, d.Tenant, d.Until, v.Next, v.Daily, v.RolledTo, looked, unsealed, v.Spooled, why, v.Cut)
	return wrap("record visit", err)
}

// Kinds of trouble with visits.
const (
	VisitFails = "failing"  // it fails again and again
	VisitSpool = "spooled"  // settlements are left in the object store
	VisitAudit = "unsealed" // audit rows are without a seal
)

// VisitTrouble is tenants whose visits don't do what they should, for some minutes.
type VisitTrouble struct {
	Kind    string
	Count   int
	Tenants []string
	Error   string // the oldest's
	Oldest  time.Duration
}

// A tenant is in one trouble: the first that explains the others.
const selectVisitTrouble = `
select x.kind, count(*) as count, (array_agg(x.slug order by x.since))[1:3] as tenants,
       (array_agg(x.error order by x.since))[1] as error, max(now() - x.since) as oldest
  from (select t.slug, d.error,
               case when d.spooled > 0 then 'spooled' when d.failing_since is not null then 'failing' else 'unsealed' end as kind,
               coalesce(d.failing_since, d.unsealed_at) as since
          from tenant_due d join tenants t on t.id = d.tenant join servers s on s.id = t.server_id
         where (d.failing_since is not null or d.unsealed_at is not null)
           and t.state in ('active', 'suspended') and s.state <> 'down') x
 where x.since < now() - interval '5 minutes'
 group by x.kind order by x.kind`
