package catalog

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	takeLead = `
update rollouts set token = token + 1, worker = $2, lease_until = now() + $3::interval, heartbeat_at = now()
 where id = $1 and state = 'running' and ($4 or lease_until is null or lease_until <= now())
returning token`

	// Who is alive goes on with what it has, whoever leads.
	carryClaims = `
update rollout_targets x set token = r.token
  from rollouts r
 where r.id = $1 and x.rollout = r.id and x.state = 'running' and x.token = r.token - 1 and x.lease_until > now()`
)

// LeadRollout leads a running rollout that nobody leads, under the next token. With
// takeOver it leads whoever did, and what all had taken can be taken anew at once;
// without, others go on with what they have. led says whether it leads; ErrNotFound.
func (c *Catalog) LeadRollout(ctx context.Context, id string, by Taker, takeOver bool) (r Rollout, led bool, err error) {
	if by.Worker == "" {
		return r, false, invalid(wrong("worker", "missing"))
	}
	ctx, cancel, err := whole(ctx)
	if err != nil {
		return r, false, wrap("lead rollout", err)
	}
	defer cancel()
	err = c.changeRollout(ctx, "lead rollout", id, func(tx pgx.Tx, _ Rollout) error {
		tag, err := tx.Exec(ctx, takeLead, id, by.Worker, by.Lease, takeOver)
		if led = err == nil && tag.RowsAffected() > 0; led && !takeOver {
			_, err = tx.Exec(ctx, carryClaims, id)
		}
		if err != nil {
			return err
		}
		r, err = queryRollout(ctx, tx, ` where r.id = $1`, id)
		return err
	})
	if err != nil {
		return Rollout{}, false, err
	}
	return r, led, nil
}

const (
	leaveTargets = `
update rollout_targets x set state = 'gone', lease_until = null, ended_at = now()
  from tenants t, rollouts r
 where r.id = $1 and x.rollout = r.id and t.id = x.tenant
   and (t.state in ('suspended', 'deleting', 'deleted')
          and (x.state = 'waiting' or x.state = 'running' and (x.token < r.token or x.lease_until <= now()))
        or t.state in ('deleting', 'deleted') and x.state = 'failed')`

	followMoves = `
update rollout_targets x set server_id = t.server_id
  from tenants t
 where x.rollout = $1 and x.state in ('waiting', 'running', 'failed') and t.id = x.tenant and t.server_id <> x.server_id`

	// One that was done and is below the target again was restored from before.
	addNewcomers = `
insert into rollout_targets as x (rollout, tenant, server_id, wave, from_version, version)
select r.id, t.id, t.server_id, (select max(w.n) from rollout_waves w where w.rollout = r.id), v.version, v.version
  from rollouts r
  join tenants t on t.state in ('active', 'moving')
 cross join lateral (select case r.stream when 'freehold' then t.schema_version else t.product_version end as version) v
 where r.id = $1 and v.version < r.target and ` + unmet + `
    on conflict (rollout, tenant) do update
       set server_id = excluded.server_id, wave = excluded.wave, version = excluded.version, state = 'waiting',
           attempts = 0, next_at = now(), lease_until = null, ended_at = null, kind = '', file = '', error = ''`

	// A look-up for each of the few tenants that are below the target by then.
	unmet = `coalesce((select x.state from rollout_targets x where x.rollout = r.id and x.tenant = t.id), 'gone') in ('gone', 'done')`
)

// Newcomers has the rollout meet tenants that are below its target, and aren't its
// targets, or are gone from it, or went back: they are targets of the last wave, and
// wait. added counts them. Targets that wait, or whose worker is dead, of tenants that
// are suspended or being deleted are gone; others follow their tenants to their
// servers. token is of who leads: ErrLost.
func (c *Catalog) Newcomers(ctx context.Context, id string, token int64) (added int, err error) {
	err = c.leading(ctx, "add newcomers", Rollout{ID: id, Token: token}, func(tx pgx.Tx, _ Rollout) error {
		var batch pgx.Batch
		batch.Queue(leaveTargets, id)
		batch.Queue(followMoves, id)
		batch.Queue(addNewcomers, id).Exec(func(tag pgconn.CommandTag) error {
			added = int(tag.RowsAffected())
			return nil
		})
		return tx.SendBatch(ctx, &batch).Close()
	})
	return added, err
}

const beginWave = `
update rollout_waves set begun_at = coalesce(begun_at, now()) where rollout = $1 and n = $2`

// BeginWave records that a wave has begun; twice is once. r is of who leads: ErrLost.
func (c *Catalog) BeginWave(ctx context.Context, r Rollout, n int) error {
	return c.leading(ctx, "begin wave", r, func(tx pgx.Tx, _ Rollout) error {
		return execOne(ctx, tx, beginWave, r.ID, n)
	})
}

const waveMigrated = `
update rollout_waves set migrated_at = coalesce(migrated_at, now()) where rollout = $1 and n = $2`

// WaveMigrated records that nothing of a wave is left to do; twice is once. r is of
// who leads: ErrLost.
func (c *Catalog) WaveMigrated(ctx context.Context, r Rollout, n int) error {
	return c.leading(ctx, "end wave", r, func(tx pgx.Tx, _ Rollout) error {
		return execOne(ctx, tx, waveMigrated, r.ID, n)
	})
}

const (
	passWave = `
update rollout_waves set passed_at = coalesce(passed_at, now()), health = $3 where rollout = $1 and n = $2`

	// A wave that was passed before leads nobody back.
	nextWave = `
update rollouts r set wave = $2 + 1
 where r.id = $1 and r.wave = $2 and exists (select from rollout_waves w where w.rollout = r.id and w.n = $2 + 1)`

	beginNextWave = `
update rollout_waves w set begun_at = coalesce(w.begun_at, now())
  from rollouts r where r.id = $1 and w.rollout = r.id and w.n = r.wave`
)

// WavePassed records that soak and gate are behind a wave, and what the gate saw, and
// begins the next one, if there is one. r is of who leads: ErrLost; ErrConflict when
// the rollout isn't running.
func (c *Catalog) WavePassed(ctx context.Context, r Rollout, n int, health any) error {
	seen, err := json.Marshal(health)
	if err != nil {
		return invalid(wrong("health", "not JSON"))
	}
	return c.leading(ctx, "pass wave", r, func(tx pgx.Tx, now Rollout) error {
		if now.State != RolloutRunning {
			return fmt.Errorf("pass wave: the rollout is %s: %w", now.State, ErrConflict)
		}
		if err := execOne(ctx, tx, passWave, r.ID, n, seen); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, nextWave, r.ID, n); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, beginNextWave, r.ID)
		return err
	})
}

const haltRollout = `
update rollouts set state = 'halted', reason = left($2, 1000) where id = $1 and state = 'running'`

// HaltRollout has nothing new begun until a person has the rollout go on; one that
// isn't running stays as it is. r is of who leads: ErrLost.
func (c *Catalog) HaltRollout(ctx context.Context, r Rollout, reason string) error {
	return c.leading(ctx, "halt rollout", r, func(tx pgx.Tx, _ Rollout) error {
		_, err := tx.Exec(ctx, haltRollout, r.ID, storable(reason))
		return err
	})
}

const (
	selectUnmet = `
select exists (select from rollout_targets x where x.rollout = r.id and x.state in ('waiting', 'running')) as busy,
       exists (select from rollout_targets x where x.rollout = r.id and x.state = 'failed') as owed,
       exists (select from tenants t
                where t.state in ('active', 'moving')
                  and case r.stream when 'freehold' then t.schema_version else t.product_version end < r.target
                  and ` + unmet + `) as came
  from rollouts r where r.id = $1`

	endRollout = `
update rollouts set state = $2, ended_at = now(), worker = '', lease_until = null where id = $1`
)

// EndRollout ends a running rollout: it is done when no target failed, else partial.
// Nothing changes, and it is returned as it is, while a target waits or is being
// migrated, and when tenants below the target came since Newcomers was called. A
// tenant that becomes active afterwards is held to the target. r is of who leads:
// ErrLost.
func (c *Catalog) EndRollout(ctx context.Context, r Rollout) (ended Rollout, err error) {
	err = c.leading(ctx, "end rollout", r, func(tx pgx.Tx, now Rollout) error {
		ended = now
		if now.State != RolloutRunning {
			return nil
		}
		// Two statements: what is seen is what was there once the lock was had.
		if _, err := tx.Exec(ctx, holdActivation); err != nil {
			return err
		}
		var busy, owed, came bool
		if err := tx.QueryRow(ctx, selectUnmet, r.ID).Scan(&busy, &owed, &came); err != nil || busy || came {
			return err
		}
		state := RolloutDone
		if owed {
			state = RolloutPartial
		}
		if _, err := tx.Exec(ctx, endRollout, r.ID, state); err != nil {
			return err
		}
		ended, err = queryRollout(ctx, tx, ` where r.id = $1`, r.ID)
		return err
	})
	if err != nil {
		return Rollout{}, err
	}
	return ended, nil
}

// execOne runs an update of a row that has to be there.
func execOne(ctx context.Context, tx pgx.Tx, sql string, args ...any) error {
	tag, err := tx.Exec(ctx, sql, args...)
	if err == nil && tag.RowsAffected() == 0 {
		err = pgx.ErrNoRows
	}
	return err
}
