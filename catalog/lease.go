package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Taker is who works on an operation, and how long it stays theirs without a
// sign of life.
type Taker struct {
	Worker string
	Lease  time.Duration
}

// takeTime bounds the taking of an operation.
const takeTime = 5 * time.Second

// whole is ctx for the taking of an operation: begun, it is ended, whatever becomes
// of the caller, who would otherwise not know that the operation is in its hands;
// it would be in nobody's then, for as long as the lease.
func whole(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeTime)
	return ctx, cancel, nil
}

const takeColumns = `
   set state = 'running', token = token + 1, worker = $1, lease_until = now() + $2::interval, heartbeat_at = now(),
       attempts = attempts + 1, error = '', ended_at = null, cancel = cancel and state <> 'failed'`

// Two of a tenant can't be due at once, so the one that is due longest is also
// the next tenant's.
const takeNext = `
update operations` + takeColumns + `
 where id = (select id from operations
              where (state = 'waiting' and run_at <= now() or state = 'running' and lease_until < now())
                and kind = any($3)
                and not exists (select from chores where name = '` + RestoreChore + `' and error <> '')
              order by run_at limit 1 for update skip locked)
returning id::text`

// NextOperation takes the operation of one of the kinds that is due longest: one
// that waits, or one whose worker gave no sign of life for its lease. It returns
// false when there is none, and until a restore has come to its end.
func (c *Catalog) NextOperation(ctx context.Context, by Taker, kinds ...string) (Operation, bool, error) {
	ctx, cancel, err := whole(ctx)
	if err != nil {
		return Operation{}, false, wrap("take operation", err)
	}
	defer cancel()
	rows, err := c.writer.Query(ctx, takeNext, by.Worker, by.Lease, kinds)
	if err != nil {
		return Operation{}, false, wrap("take operation", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(ids) == 0 {
		return Operation{}, false, wrap("take operation", err)
	}
	o, err := c.Operation(ctx, ids[0])
	return o, err == nil, err
}

const takeOne = `
update operations` + takeColumns + `
 where id = $3 and (state in ('waiting', 'failed') or state = 'running' and lease_until < now())`

// TakeOperation takes one operation, also before it is due and when it failed.
// *Busy while another worker has it, ErrConflict when it has ended.
func (c *Catalog) TakeOperation(ctx context.Context, id string, by Taker) (Operation, error) {
	ctx, cancel, err := whole(ctx)
	if err != nil {
		return Operation{}, wrap("take operation", err)
	}
	defer cancel()
	tag, err := c.writer.Exec(ctx, takeOne, by.Worker, by.Lease, id)
	if err != nil {
		return Operation{}, wrap("take operation", err)
	}
	o, err := c.Operation(ctx, id)
	switch {
	case err != nil || tag.RowsAffected() > 0:
		return o, err
	case o.State == OperationRunning:
		return o, fmt.Errorf("take operation: %w", &Busy{o})
	default:
		return o, fmt.Errorf("take operation: it is %s: %w", o.State, ErrConflict)
	}
}

// takeIn is TakeOperation in a transaction that holds the tenant's row.
func takeIn(ctx context.Context, tx pgx.Tx, id string, by Taker) (Operation, error) {
	tag, err := tx.Exec(ctx, takeOne, by.Worker, by.Lease, id)
	if err != nil {
		return Operation{}, err
	}
	o, err := readOperation(ctx, tx, ` where o.id = $1`, id)
	if err == nil && tag.RowsAffected() == 0 {
		err = &Busy{o}
	}
	return o, err
}

const keepOperation = `
update operations set lease_until = now() + $3::interval, heartbeat_at = now()
 where id = $1 and token = $2 and state = 'running'
returning cancel`

// KeepOperation is the sign of life of who has an operation; ErrLost when it is
// theirs no longer, ErrCancelled when it should stop after its step.
func (c *Catalog) KeepOperation(ctx context.Context, o Operation, lease time.Duration) error {
	return c.heldLoosely(ctx, "keep operation", keepOperation, o.ID, o.Token, lease)
}

// held runs an update of who has an operation, which returns whether to cancel.
func (c *Catalog) held(ctx context.Context, op, sql string, args ...any) error {
	var batch pgx.Batch
	return c.heldIn(ctx, &batch, op, sql, args...)
}

// Nobody waits for the disk to have this: what it says is less than what was done,
// also when the catalog's server crashes.
const loosely = `select set_config('synchronous_commit', 'off', true)`

// heldLoosely is held for what may be lost with a crash of the catalog's server:
// how far a step is, since each can be done again.
func (c *Catalog) heldLoosely(ctx context.Context, op, sql string, args ...any) error {
	var batch pgx.Batch
	batch.Queue(loosely)
	return c.heldIn(ctx, &batch, op, sql, args...)
}

func (c *Catalog) heldIn(ctx context.Context, batch *pgx.Batch, op, sql string, args ...any) error {
	var cancel []bool
	batch.Queue(sql, args...).Query(func(rows pgx.Rows) (err error) {
		cancel, err = pgx.CollectRows(rows, pgx.RowTo[bool])
		return err
	})
	switch err := c.writer.SendBatch(ctx, batch).Close(); {
	case err != nil:
		return wrap(op, err)
	case len(cancel) == 0:
		return fmt.Errorf("%s: %w", op, ErrLost)
	case cancel[0]:
		return fmt.Errorf("%s: %w", op, ErrCancelled)
	}
	return nil
}

// Locked, so that a step is recorded before another worker takes the operation, or
// not at all.
const mine = `
with mine as (select id, cancel from operations
               where id = $1 and token = $2 and state = 'running' for share)`

// A step that the operation doesn't list is of a newer release than its beginning:
// deletions wait for days.
const beginStep = mine + `, begun as (
insert into operation_steps as s (operation, n, name, state, started_at)
select mine.id, (select coalesce(max(n), 0) + 1 from operation_steps where operation = mine.id), $3, 'running', now()
  from mine where not mine.cancel
    on conflict (operation, name) do update set state = 'running', started_at = now(), ended_at = null, error = '')
select cancel from mine`

// BeginStep records that a step has begun; ErrLost, and ErrCancelled, when it has
// not.
func (c *Catalog) BeginStep(ctx context.Context, o Operation, name string) error {
	return c.heldLoosely(ctx, "begin step", beginStep, o.ID, o.Token, name)
}

const endStep = mine + `
update operation_steps s set state = case when $4 = '' then 'done' else 'failed' end, ended_at = now(), error = $4
  from mine where s.operation = mine.id and s.name = $3
returning false`

// EndStep records that a step is done, or why it failed; ErrLost.
func (c *Catalog) EndStep(ctx context.Context, o Operation, name, failure string) error {
	return c.heldLoosely(ctx, "end step", endStep, o.ID, o.Token, name, failure)
}

const endOperation = `
update operations
   set state = $3, error = $4, run_at = case when $3 = 'waiting' then now() + $5::interval else run_at end,
       lease_until = null, ended_at = case when $3 = 'waiting' then null else now() end
 where id = $1 and token = $2 and state = 'running'
returning false`

// EndOperation gives an operation up: done, failed, cancelled, or waiting for
// another try after a while. ErrLost.
func (c *Catalog) EndOperation(ctx context.Context, o Operation, state, failure string, after time.Duration) error {
	return c.held(ctx, "end operation", endOperation, o.ID, o.Token, state, failure, after)
}

const releaseOperation = `
update operations set state = 'waiting', run_at = now(), lease_until = null, attempts = greatest(attempts - 1, 0)
 where id = $1 and token = $2 and state = 'running'
returning false`

// ReleaseOperation gives an operation up that nothing is wrong with, because its
// worker stops: the next one goes on at once, and it was no try. ErrLost.
func (c *Catalog) ReleaseOperation(ctx context.Context, o Operation) error {
	return c.held(ctx, "release operation", releaseOperation, o.ID, o.Token)
}

const ignoreCancel = `
update operations set cancel = false where id = $1 and token = $2 and state = 'running' returning false`

// IgnoreCancel has an operation go on that was asked to stop when it was too late
// for that. ErrLost.
func (c *Catalog) IgnoreCancel(ctx context.Context, o Operation) error {
	return c.held(ctx, "go on with operation", ignoreCancel, o.ID, o.Token)
}
