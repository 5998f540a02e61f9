package catalog

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// lockWork has workers choose one after the other: each choice sees those before,
	// so that limits and turns are exact.
	lockWork = `select pg_advisory_xact_lock(hashtext('work'))`

	// workIsDue is of w alone.
	workIsDue = `(w.state = 'waiting' and w.run_at <= now() or w.state = 'running' and w.lease_until < now())`

	// workCanRun is of w, its tenant t and the tenant's configuration c. What is
	// cancelled is only cleared up, for which there is no limit. A worker that has been
	// silent may still be at work: till keepWork surely refuses it, it counts.
	workCanRun = workIsDue + ` and t.state = 'active'
   and (w.cancel or c.fine_tuning_running_limit >
        (select count(*) from work_queue r
          where r.tenant = w.tenant and r.id <> w.id and r.state = 'running' and r.lease_until > now() - interval '5 minutes'))`

	// Tokens follow the time: a catalog that comes back from a backup, or work that is
	// enqueued anew, doesn't give those again that the tenant's database knows.
	takeWork = `
with chosen as (
select w.id, w.tenant
  from work_queue w join tenants t on t.id = w.tenant join tenant_config c on c.tenant = w.tenant
  left join work_turns u on u.tenant = w.tenant
 where w.trainer = any($3) and ` + workCanRun + `
   and not exists (select from chores where name = '` + RestoreChore + `' and error <> '')
 order by u.turned_at nulls first, w.created_at, w.id limit 1
), turned as (
insert into work_turns (tenant, turned_at) select tenant, clock_timestamp() from chosen
    on conflict (tenant) do update set turned_at = excluded.turned_at
)
update work_queue w
   set state = 'running', token = greatest(w.token + 1, (extract(epoch from clock_timestamp()) * 1000)::bigint), worker = $1,
       lease_until = clock_timestamp() + $2::interval, heartbeat_at = clock_timestamp(), attempts = w.attempts + 1
  from chosen join tenants t on t.id = chosen.tenant
 where w.id = chosen.id and ` + workIsDue + `
returning w.id::text, w.tenant, t.slug, w.trainer, w.stage, w.token, w.attempts, w.cancel, w.error, w.created_at, w.lease_until`
)

// TakeWork takes a piece of work that needs one of the trainers: one that is due, or
// whose worker gave no sign of life for its lease. It is of the active tenant below
// its fine_tuning_running_limit whose last turn lies furthest back, and that
// tenant's oldest. It returns false when there is none, and until a restore has come
// to its end.
func (c *Catalog) TakeWork(ctx context.Context, by Taker, trainers []string) (item WorkItem, found bool, err error) {
	ctx, cancel, err := whole(ctx)
	if err != nil {
		return item, false, wrap("take work", err)
	}
	defer cancel()
	var taken []WorkItem
	var batch pgx.Batch
	batch.Queue(lockWork)
	collect(&batch, &taken, takeWork, by.Worker, by.Lease, trainers)
	if err := c.writer.SendBatch(ctx, &batch).Close(); err != nil || len(taken) == 0 {
		return item, false, wrap("take work", err)
	}
	return taken[0], true, nil
}

// A tenant that isn't active any more gets its work back: that was no try. Who has
// been silent for longer than a limit waits (workCanRun) is refused a minute before,
// which is longer than any statement takes.
//
//nolint:gosec // a token's number, no credential
const keepWork = `
update work_queue w
   set state = case when t.state = 'active' then 'running' else 'waiting' end,
       lease_until = case when t.state = 'active' then now() + $3::interval end,
       run_at = case when t.state = 'active' then w.run_at else now() end,
       attempts = case when t.state = 'active' then w.attempts else greatest(w.attempts - 1, 0) end,
       heartbeat_at = now()
  from tenants t
 where t.id = w.tenant and w.id = $1 and w.token = $2 and w.state = 'running' and w.lease_until > now() - interval '4 minutes'
returning t.state = 'active', w.cancel`

// KeepWork is the sign of life of who has a piece of work. ErrLost when it is theirs
// no longer, also because its tenant isn't active, or because no sign came for
// minutes; ErrCancelled when it is to be stopped: it is still theirs to end.
func (c *Catalog) KeepWork(ctx context.Context, item WorkItem, lease time.Duration) error {
	var kept, active, cancel bool
	var batch pgx.Batch
	batch.Queue(loosely)
	batch.Queue(keepWork, item.ID, item.Token, lease).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&active, &cancel}, func() error {
			kept = true
			return nil
		})
		return err
	})
	switch err := c.writer.SendBatch(ctx, &batch).Close(); {
	case err != nil:
		return wrap("keep work", err)
	case !kept || !active:
		return fmt.Errorf("keep work: %w", ErrLost)
	case cancel:
		return fmt.Errorf("keep work: %w", ErrCancelled)
	}
	return nil
}

const releaseWork = `
update work_queue w
   set state = 'waiting', stage = $3, lease_until = null,
       run_at = now() + case when w.cancel then interval '0' else $4::interval end,
       error = left($5, 1000),
       attempts = case when w.stage <> $3 then 0 when $5 = '' then greatest(w.attempts - 1, 0) else w.attempts end
 where w.id = $1 and w.token = $2 and w.state = 'running'`

// ReleaseWork gives a piece of work back, which waits for a while and then for the
// next worker: at its next stage, or at the same one because of why, a text for
// operators without content. Without one nothing was wrong, its worker stops: that
// was no try. ErrLost.
func (c *Catalog) ReleaseWork(ctx context.Context, item WorkItem, stage string, in time.Duration, why string) error {
	if err := invalid(oneOf("stage", stage, WorkValidate, WorkTrain)); err != nil {
		return fmt.Errorf("release work: %w", err)
	}
	why = strings.ReplaceAll(strings.ToValidUTF8(why, ""), "\x00", "")
	return c.ownWork(ctx, "release work", releaseWork, item.ID, item.Token, stage, in, why)
}

const endWork = `delete from work_queue where id = $1 and token = $2 and state = 'running'`

// EndWork takes a piece of work out of the queue: it is done, one way or another.
// ErrLost.
func (c *Catalog) EndWork(ctx context.Context, item WorkItem) error {
	return c.ownWork(ctx, "end work", endWork, item.ID, item.Token)
}

// ownWork runs a statement on work that is the caller's; ErrLost when it isn't.
func (c *Catalog) ownWork(ctx context.Context, op, sql string, args ...any) error {
	tag, err := c.writer.Exec(ctx, sql, args...)
	if err == nil && tag.RowsAffected() == 0 {
		return fmt.Errorf("%s: %w", op, ErrLost)
	}
	return wrap(op, err)
}
