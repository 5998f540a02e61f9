package need

import (
	"context"
	"errors"
	"time"

	"freehold/catalog"
)

// BackedUp is a tenant with how it stands with its backups, as commands and the
// operators' API tell of it.
type BackedUp struct {
	catalog.Tenant
	Backup *BackupState `json:"backup,omitempty"`
}

// BackupState is how a tenant stands with its backups.
type BackupState struct {
	NewestAt   *time.Time `json:"newest_at"` // nil: it has none
	Age        int64      `json:"age_seconds" doc:"Of the newest backup, or of the tenant when it has none."`
	Target     int64      `json:"target_seconds" doc:"The oldest that its newest backup should be; 0: there is no target."`
	Overdue    bool       `json:"overdue"`
	ProvedAt   *time.Time `json:"proved_at" doc:"When one of its backups was last restored on trial, and found whole."`
	ProofError string     `json:"proof_error" doc:"Why the last one that was tried was not whole."`
}

// BackupStates tells of the tenants whose newest backup is older than so much, or that
// have none in that time.
func BackupStates(ctx context.Context, cat *catalog.Catalog, than time.Duration) (map[catalog.TenantID]BackupState, error) {
	views, err := cat.BackupViews(ctx, catalog.BackupFilter{OlderThan: than})
	if err != nil {
		return nil, err
	}
	of := make(map[catalog.TenantID]BackupState, len(views))
	for _, v := range views {
		of[v.Tenant] = BackupState{
			NewestAt: v.NewestAt, Age: int64(v.Age.Seconds()), Target: int64(v.Target.Seconds()), Overdue: v.Overdue,
			ProvedAt: v.ProvedAt, ProofError: v.ProofError,
		}
	}
	return of, nil
}

// EveryPlan names the schedule of all plans that have none of their own.
const EveryPlan = "*"

// Schedule is how tenants of a plan are backed up, as commands and the operators' API
// tell of it.
type Schedule struct {
	Plan       string    `json:"plan" doc:"A plan; * is every plan that has no schedule of its own."`
	Every      string    `json:"every" doc:"How old the newest backup may be, such as 6h or 1d; or never."`
	Keep       string    `json:"keep" doc:"How long a backup is kept; the newest always."`
	ProveEvery string    `json:"prove_every" doc:"How often one is restored on trial; or never."`
	UpdatedAt  time.Time `json:"updated_at"`
}

// ScheduleOf puts a plan in these words.
func ScheduleOf(p catalog.BackupPlan) Schedule {
	s := Schedule{Plan: p.Plan, Every: rhythm(p.Every), Keep: Age(p.Keep), ProveEvery: rhythm(p.ProveEvery), UpdatedAt: p.UpdatedAt}
	if s.Plan == "" {
		s.Plan = EveryPlan
	}
	return s
}

// never is how often what isn't done is done.
const never = "never"

func rhythm(d time.Duration) string {
	if d == 0 {
		return never
	}
	return Age(d)
}

// ScheduleChange is what of a schedule is to change; an empty field doesn't.
type ScheduleChange struct {
	Plan       string `json:"plan" doc:"A plan; * is every plan that has no schedule of its own."`
	Every      string `json:"every,omitempty" doc:"How old the newest backup may be, such as 6h or 1d; or never."`
	Keep       string `json:"keep,omitempty" doc:"How long a backup is kept."`
	ProveEvery string `json:"prove_every,omitempty" doc:"How often one is restored on trial; or never."`
}

// Apply sets a schedule, from what it was, or what the plan of all others says.
// Errors: catalog.ErrInvalid, which names the field.
func (c ScheduleChange) Apply(ctx context.Context, cat *catalog.Catalog) (Schedule, error) {
	plan, err := currentPlan(ctx, cat, planNamed(c.Plan))
	if err != nil {
		return Schedule{}, err
	}
	var errs []error
	for _, f := range []struct {
		name, text string
		into       *time.Duration
		never      bool
	}{{"every", c.Every, &plan.Every, true}, {"keep", c.Keep, &plan.Keep, false}, {"prove_every", c.ProveEvery, &plan.ProveEvery, true}} {
		switch {
		case f.text == "":
		case f.never && (f.text == never || f.text == "0"):
			*f.into = 0
		default:
			d, err := catalog.ParseAge(f.name, f.text)
			errs = append(errs, err)
			*f.into = d
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Schedule{}, err
	}
	if plan, err = cat.SetBackupPlan(ctx, plan); err != nil {
		return Schedule{}, err
	}
	return ScheduleOf(plan), nil
}

// RemoveSchedule has a plan's tenants be backed up as those of every other plan.
func RemoveSchedule(ctx context.Context, cat *catalog.Catalog, plan string) error {
	return cat.RemoveBackupPlan(ctx, planNamed(plan))
}

// planNamed is a plan as the catalog has it.
func planNamed(name string) string {
	if name == EveryPlan {
		return ""
	}
	return name
}

// currentPlan is a plan's schedule, or what it would begin with.
func currentPlan(ctx context.Context, cat *catalog.Catalog, name string) (catalog.BackupPlan, error) {
	list, err := cat.BackupPlans(ctx)
	now := catalog.BackupPlan{}
	for _, one := range list {
		if one.Plan == name {
			return one, err
		}
		if one.Plan == "" {
			now = one
		}
	}
	now.Plan = name
	return now, err
}
