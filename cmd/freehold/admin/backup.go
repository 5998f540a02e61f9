package admin

import (
	"context"
	"strconv"

	"freehold/catalog"
	"freehold/cmd/freehold/need"
	"freehold/cmd/freehold/rest"
	"freehold/tenantdb/fleet"
)

var backupQuery = []rest.Query{{Name: "prove", Type: "boolean", Summary: "Restore it on trial afterwards, and compare every table."}}

func (s *server) backupTenant(ctx context.Context, who operator, r *rest.Request) (op catalog.Operation, err error) {
	o := fleet.BackupOptions{Actor: string(who)}
	if text := r.Query("prove"); text != "" {
		if o.Prove, err = strconv.ParseBool(text); err != nil {
			return op, rest.Bad("prove", "Want true or false.")
		}
	}
	t, err := s.catalog.TenantBySlug(ctx, r.Param("slug"))
	if err != nil {
		return op, err
	}
	if op, err = s.fleet.BeginBackup(ctx, t.ID, o); err != nil {
		return op, err
	}
	s.audit(ctx, who, r, "tenant.backup", t.ID, map[string]any{"slug": t.Slug, "operation": op.ID, "prove": o.Prove})
	return op, nil
}

func (s *server) backups(ctx context.Context, _ operator, r *rest.Request) (page rest.List[catalog.TenantBackup], err error) {
	t, err := s.catalog.TenantBySlug(ctx, r.Param("slug"))
	if err != nil {
		return page, err
	}
	list, err := s.catalog.TenantBackups(ctx, t.ID)
	return rest.NewList(list, false, nil), err
}

func (s *server) backupPlans(ctx context.Context, _ operator, _ *rest.Request) (page rest.List[need.Schedule], err error) {
	plans, err := s.catalog.BackupPlans(ctx)
	if err != nil {
		return page, err
	}
	var list []need.Schedule
	for _, p := range plans {
		list = append(list, need.ScheduleOf(p))
	}
	return rest.NewList(list, false, nil), nil
}

func (s *server) setBackupPlan(ctx context.Context, who operator, r *rest.Request, in need.ScheduleChange) (need.Schedule, error) {
	now, err := in.Apply(ctx, s.catalog)
	if err != nil {
		return now, err
	}
	s.audit(ctx, who, r, "backup_plan.set", catalog.TenantID{}, map[string]any{
		"plan": now.Plan, "every": now.Every, "keep": now.Keep, "prove_every": now.ProveEvery,
	})
	return now, nil
}

func (s *server) removeBackupPlan(ctx context.Context, who operator, r *rest.Request) (deleted, error) {
	plan := r.Param("name")
	if err := need.RemoveSchedule(ctx, s.catalog, plan); err != nil {
		return deleted{}, err
	}
	s.audit(ctx, who, r, "backup_plan.remove", catalog.TenantID{}, map[string]any{"plan": plan})
	return deleted{plan, "backup_plan", true}, nil
}
