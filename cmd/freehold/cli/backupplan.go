package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/cmd/freehold/need"
)

func (e *env) backupCmd() *cobra.Command {
	return group("backup", "Tenants' backups: how often, kept for how long, how often proved (one tenant's: freehold tenant backup)",
		group("plan", "How tenants of a plan are backed up", e.backupPlanList(), e.backupPlanSet(), e.backupPlanRemove()))
}

func (e *env) backupPlanList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List how tenants are backed up, by plan", Args: usageArgs(cobra.NoArgs),
		RunE: e.with(func(ctx context.Context, p *app.Platform, _ []string) error {
			plans, err := p.Catalog.BackupPlans(ctx)
			if err != nil {
				return err
			}
			list := []need.Schedule{}
			for _, plan := range plans {
				list = append(list, need.ScheduleOf(plan))
			}
			return e.showSchedules(list, list...)
		}),
	}
}

func (e *env) showSchedules(value any, list ...need.Schedule) error {
	t := table{head: []string{"plan", "every", "kept for", "proved every"}}
	for _, s := range list {
		if s.Plan == need.EveryPlan {
			s.Plan += " (every other)"
		}
		t.add(s.Plan, s.Every, s.Keep, s.ProveEvery)
	}
	return e.show(value, t)
}

func (e *env) backupPlanSet() *cobra.Command {
	var change need.ScheduleChange
	c := &cobra.Command{
		Use: "set PLAN", Short: "Set how tenants of a plan are backed up", Args: usageArgs(cobra.ExactArgs(1)),
		Long: `Set how tenants of a plan are backed up. PLAN '*' is every plan that has no schedule of
its own. What isn't said stays as it is; a plan's first schedule is that of '*', but for
what is said.`,
		Example: "  freehold backup plan set enterprise --every 6h --keep 90d --prove-every 7d\n  freehold backup plan set '*' --every 24h",
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			if change == (need.ScheduleChange{}) {
				return fmt.Errorf("%w: say one or more of --every, --keep, --prove-every", errUsage)
			}
			change.Plan = args[0]
			now, err := change.Apply(ctx, p.Catalog)
			if err != nil {
				return err
			}
			detail := map[string]any{"plan": now.Plan, "every": now.Every, "keep": now.Keep, "prove_every": now.ProveEvery}
			if err := audit(ctx, p, "backup_plan.set", catalog.TenantID{}, detail); err != nil {
				return err
			}
			return e.showSchedules(now, now)
		}),
	}
	fl := c.Flags()
	fl.StringVar(&change.Every, "every", "", "how old the newest backup may be: a `time` such as 6h or 1d, or never")
	fl.StringVar(&change.Keep, "keep", "", "how long a backup is kept, a `time` such as 12h or 30d; the newest always")
	fl.StringVar(&change.ProveEvery, "prove-every", "", "how often one is restored on trial: a `time` such as 30d, or never")
	return c
}

func (e *env) backupPlanRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove PLAN", Short: "Have a plan's tenants be backed up as those of every other plan", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			if err := need.RemoveSchedule(ctx, p.Catalog, args[0]); err != nil {
				return err
			}
			if err := audit(ctx, p, "backup_plan.remove", catalog.TenantID{}, map[string]any{"plan": args[0]}); err != nil {
				return err
			}
			if e.output == "json" {
				return e.json(map[string]any{"plan": args[0], "removed": true})
			}
			e.say("plan %s is backed up as every other one is: freehold backup plan list", args[0])
			return nil
		}),
	}
}
