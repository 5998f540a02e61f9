package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// BackupPlan says how tenants of a plan are backed up.
type BackupPlan struct {
	Plan       string        `json:"plan"`        // empty: of every plan that has no row
	Every      time.Duration `json:"every"`       // the oldest that the newest backup should be; 0: never
	Keep       time.Duration `json:"keep"`        // for how long; the newest for ever
	ProveEvery time.Duration `json:"prove_every"` // how often one is restored on trial; 0: never
	UpdatedAt  time.Time     `json:"updated_at"`
}

const (
	minBackupEvery = 10 * time.Minute
	minBackupKeep  = time.Hour
	minProveEvery  = time.Hour
	maxBackupTime  = 100 * 365 * 24 * time.Hour
)

func (p BackupPlan) check() []error {
	errs := []error{optional(p.Plan, match("plan", p.Plan, shortPattern, "lower-case letters, digits, dots, dashes, 64 at most"))}
	for _, f := range []struct {
		name       string
		value, low time.Duration
		never      bool // 0 has a meaning
	}{
		{"every", p.Every, minBackupEvery, true},
		{"keep", p.Keep, minBackupKeep, false},
		{"prove_every", p.ProveEvery, minProveEvery, true},
	} {
		if f.never && f.value == 0 {
			continue
		}
		if f.value < f.low || f.value > maxBackupTime {
			or := ""
			if f.never {
				or = "0, or "
			}
			errs = append(errs, wrong(f.name, "want %s%s to 100 years", or, f.low))
		}
	}
	return errs
}

const selectBackupPlans = `
select plan, every, keep, prove_every, updated_at from backup_plans order by plan`

// BackupPlans lists them by plan: first the one that holds for all plans that aren't
// listed.
func (c *Catalog) BackupPlans(ctx context.Context) ([]BackupPlan, error) {
	rows, err := c.writer.Query(ctx, selectBackupPlans)
	if err != nil {
		return nil, wrap("list backup plans", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[BackupPlan])
	return list, wrap("list backup plans", err)
}

const upsertBackupPlan = `
insert into backup_plans as p (plan, every, keep, prove_every) values ($1, $2, $3, $4)
    on conflict (plan) do update set every = excluded.every, keep = excluded.keep, prove_every = excluded.prove_every,
       updated_at = now()
returning p.updated_at`

// SetBackupPlan sets how tenants of a plan are backed up from now on; what is older
// than Keep goes with the next backup, within the hour at the latest. ErrInvalid
// names the field.
func (c *Catalog) SetBackupPlan(ctx context.Context, p BackupPlan) (BackupPlan, error) {
	if err := invalid(p.check()...); err != nil {
		return p, fmt.Errorf("set backup plan: %w", err)
	}
	err := c.writer.QueryRow(ctx, upsertBackupPlan, p.Plan, p.Every, p.Keep, p.ProveEvery).Scan(&p.UpdatedAt)
	return p, wrap("set backup plan", err)
}

const deleteBackupPlan = `delete from backup_plans where plan = $1`

// RemoveBackupPlan has a plan's tenants be backed up as those of every other plan.
// Twice is no error; ErrInvalid for the plan of all others.
func (c *Catalog) RemoveBackupPlan(ctx context.Context, plan string) error {
	if plan == "" {
		return fmt.Errorf("remove backup plan: %w", invalid(wrong("plan", "the one of all others stays")))
	}
	_, err := c.writer.Exec(ctx, deleteBackupPlan, plan)
	return wrap("remove backup plan", err)
}
