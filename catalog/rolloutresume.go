package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	// A deadline that is over was for those who watched it then.
	resumeRollout = `
update rollouts
   set state = 'running', reason = '', token = token + 1, worker = '', lease_until = null, ended_at = null,
       deadline = case when deadline > now() then deadline end
 where id = $1`

	retryTargets = `
update rollout_targets set state = 'waiting', attempts = 0, next_at = now(), ended_at = null
 where rollout = $1 and state = 'failed'`

	// Those that wait for another try are due as well: somebody looks after it now.
	hastenTargets = `
update rollout_targets set attempts = 0, next_at = now()
 where rollout = $1 and state = 'waiting' and (attempts > 0 or next_at > now())`

	// What a wave's soak and gate are counted from.
	reopenWaves = `
update rollout_waves set migrated_at = null where rollout = $1 and passed_at is null`
)

// ResumeRollout has an open rollout go on: what failed waits for another try, what
// workers had can be taken anew at once, and nobody leads. It is written to
// operator_audit. A deadline that is over no longer counts. ErrNotFound, ErrConflict
// for one that is done or aborted.
func (c *Catalog) ResumeRollout(ctx context.Context, id, actor string) (r Rollout, err error) {
	if err := invalid(line("actor", actor, maxName)); err != nil {
		return r, fmt.Errorf("resume rollout: %w", err)
	}
	err = c.changeRollout(ctx, "resume rollout", id, func(tx pgx.Tx, now Rollout) error {
		if !now.Open() {
			return fmt.Errorf("resume rollout: it is %s: %w", now.State, ErrConflict)
		}
		for _, sql := range []string{resumeRollout, retryTargets, hastenTargets, reopenWaves} {
			if _, err := tx.Exec(ctx, sql, id); err != nil {
				return err
			}
		}
		if r, err = queryRollout(ctx, tx, ` where r.id = $1`, id); err != nil {
			return err
		}
		return auditRollout(ctx, tx, actor, "rollout.resume", map[string]any{
			"rollout": id, "stream": r.Stream, "target": r.Target, "was": now.State,
		})
	})
	if err != nil {
		return Rollout{}, err
	}
	return r, nil
}

const abortRollout = `
update rollouts set state = 'aborted', reason = left($2, 1000), ended_at = now(), worker = '', lease_until = null
 where id = $1`

// AbortRollout ends an open rollout where it is: what was migrated stays so, and what
// is under way is recorded when it ends. It is written to operator_audit. ErrNotFound,
// ErrConflict for one that is done or aborted.
func (c *Catalog) AbortRollout(ctx context.Context, id, actor, reason string) (r Rollout, err error) {
	if err := invalid(line("actor", actor, maxName)); err != nil {
		return r, fmt.Errorf("abort rollout: %w", err)
	}
	reason = storable(reason)
	err = c.changeRollout(ctx, "abort rollout", id, func(tx pgx.Tx, now Rollout) error {
		if !now.Open() {
			return fmt.Errorf("abort rollout: it is %s: %w", now.State, ErrConflict)
		}
		if _, err := tx.Exec(ctx, abortRollout, id, reason); err != nil {
			return err
		}
		if r, err = queryRollout(ctx, tx, ` where r.id = $1`, id); err != nil {
			return err
		}
		return auditRollout(ctx, tx, actor, "rollout.abort", map[string]any{
			"rollout": id, "stream": r.Stream, "target": r.Target, "was": now.State, "reason": cut(reason, maxTargetError),
		})
	})
	if err != nil {
		return Rollout{}, err
	}
	return r, nil
}
