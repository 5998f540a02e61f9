package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Stages of a piece of work.
const (
	WorkValidate = "validate"
	WorkTrain    = "train"
)

// WorkItem is a piece of work that a tenant has asked for, in the hands of a worker.
// What it is about is in the tenant's database, under the same id.
type WorkItem struct {
	ID         string
	Tenant     TenantID
	Slug       string
	Trainer    string
	Stage      string // WorkValidate or WorkTrain
	Token      int64  // of who has it: each taker's is higher than all before
	Attempts   int    // of this stage, the taker's own too
	Cancel     bool   // it is to be stopped: there is only to clear up
	Error      string // of the last try
	CreatedAt  time.Time
	LeaseUntil time.Time
}

// WorkSpec is what a piece of work is made from.
type WorkSpec struct {
	ID      string // a uuid
	Tenant  TenantID
	Trainer string // what a worker needs to have: builtin, openai or command:<name>
}

// TooMuchWork is returned when a tenant has as much work waiting and running as it
// may have.
type TooMuchWork struct{ Limit int }

func (e *TooMuchWork) Error() string {
	return fmt.Sprintf("%d jobs wait or run, as many as there may be", e.Limit)
}

const (
	selectWorkRoom = `
select c.fine_tuning_queue_limit, (select count(*) from work_queue w where w.tenant = c.tenant),
       exists (select from work_queue w where w.tenant = c.tenant and w.id = $2)
  from tenant_config c where c.tenant = $1`

	insertWork = `insert into work_queue (id, tenant, trainer) values ($1, $2, $3)`
)

// Enqueue has work done. The same id twice is one piece of work. *TooMuchWork when
// the tenant's fine_tuning_queue_limit is reached, ErrConflict unless it is active,
// ErrNotFound for one that isn't there.
func (c *Catalog) Enqueue(ctx context.Context, spec WorkSpec) error {
	if err := invalid(workID(spec.ID), match("trainer", spec.Trainer, trainPattern, "a trainer's name")); err != nil {
		return fmt.Errorf("enqueue work: %w", err)
	}
	var full *TooMuchWork
	// The tenant's row is locked: its limit is exact, whoever enqueues at the same time.
	_, err := c.changeTenant(ctx, "enqueue work", spec.Tenant, func(tx pgx.Tx, state State) (bool, error) {
		if state != Active {
			return false, fmt.Errorf("enqueue work: tenant is %s: %w", state, ErrConflict)
		}
		var limit, have int
		var known bool
		if err := tx.QueryRow(ctx, selectWorkRoom, spec.Tenant, spec.ID).Scan(&limit, &have, &known); err != nil || known {
			return false, err
		}
		if have >= limit {
			full = &TooMuchWork{limit}
			return false, nil
		}
		_, err := tx.Exec(ctx, insertWork, spec.ID, spec.Tenant, spec.Trainer)
		return false, err // no node has to know
	})
	if err == nil && full != nil {
		return fmt.Errorf("enqueue work: %w", full)
	}
	return err
}

func workID(id string) error {
	if _, err := uuid.Parse(id); err != nil {
		return wrong("id", "want a uuid")
	}
	return nil
}

// Work that nobody has taken yet has left nothing anywhere.
const (
	cancelWork    = `update work_queue set cancel = true, run_at = least(run_at, now()) where id = $1`
	dropUntouched = `delete from work_queue where id = $1 and token = 0`
)

// CancelWork has work stopped: whoever has it is told, and what somebody had is
// taken at once by the next worker, to clear up. What nobody has had yet is gone
// from the queue. To be gone already is no error.
func (c *Catalog) CancelWork(ctx context.Context, id string) error {
	if err := invalid(workID(id)); err != nil {
		return fmt.Errorf("cancel work: %w", err)
	}
	// One after the other: a worker that takes it in between has it, and is told.
	var batch pgx.Batch
	batch.Queue(cancelWork, id)
	batch.Queue(dropUntouched, id)
	return wrap("cancel work", c.writer.SendBatch(ctx, &batch).Close())
}

// DropWork takes work away whose job never came to be. Once a worker has had it, it
// stays, and is that worker's to end.
func (c *Catalog) DropWork(ctx context.Context, id string) error {
	if err := invalid(workID(id)); err != nil {
		return fmt.Errorf("drop work: %w", err)
	}
	_, err := c.writer.Exec(ctx, dropUntouched, id)
	return wrap("drop work", err)
}

// WorkView is how the queue does, over all tenants.
type WorkView struct {
	Waiting, Running int
	Oldest           time.Duration // age of the oldest that waits; 0 without any
	Failing          []WorkTrouble // tried three times or more, and failed the last time
	// Idle is work that is due, that no limit holds back, and that no worker takes:
	// none has its trainer, or none is there.
	Idle []WorkTrouble
}

// WorkTrouble is work in the same trouble that needs the same trainer.
type WorkTrouble struct {
	Trainer   string
	Count     int
	OfTenants int
	Tenants   []string      // slugs of the first of them
	Waited    time.Duration // of what is idle: the longest that it is due
	Error     string        // of what fails: the last one
}

const (
	countWork = `
select count(*) filter (where state = 'waiting'), count(*) filter (where state = 'running'),
       coalesce(max(now() - created_at) filter (where state = 'waiting'), interval '0')
  from work_queue`

	troubleColumns = `
select x.trainer, count(*) as count, count(distinct x.slug) as of_tenants, (array_agg(distinct x.slug))[1:3] as tenants,
       max(x.waited) as waited, coalesce((array_agg(x.error order by x.heartbeat_at desc nulls last))[1], '') as error`

	failingWork = troubleColumns + `
  from (select w.trainer, t.slug, w.error, w.heartbeat_at, interval '0' as waited
          from work_queue w join tenants t on t.id = w.tenant
         where w.attempts >= 3 and w.error <> '') x
 group by x.trainer order by x.trainer`

	// Where workers are busy there is a queue: that is none's fault for a while, and
	// where the same trainer is at work for as long as it takes.
	idleWork = troubleColumns + `
  from (select w.trainer, t.slug, w.error, w.heartbeat_at, now() - coalesce(w.lease_until, w.run_at) as waited
          from work_queue w join tenants t on t.id = w.tenant join tenant_config c on c.tenant = w.tenant
         where ` + workCanRun + `) x
 where x.waited > interval '2 minutes'
   and not exists (select from work_queue r where r.trainer = x.trainer and r.state = 'running' and r.lease_until > now())
   and (x.waited > interval '30 minutes'
        or not exists (select from work_queue r where r.state = 'running' and r.lease_until > now()))
 group by x.trainer order by x.trainer`
)

// Work looks at the queue, without naming what is asked for.
func (c *Catalog) Work(ctx context.Context) (v WorkView, err error) {
	var batch pgx.Batch
	v.queue(&batch)
	return v, wrap("look at work", c.writer.SendBatch(ctx, &batch).Close())
}

func (v *WorkView) queue(batch *pgx.Batch) {
	batch.Queue(countWork).QueryRow(func(row pgx.Row) error { return row.Scan(&v.Waiting, &v.Running, &v.Oldest) })
	collect(batch, &v.Failing, failingWork)
	collect(batch, &v.Idle, idleWork)
}
