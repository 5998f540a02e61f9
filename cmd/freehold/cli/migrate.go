package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/migrations"
	"freehold/tenantdb/fleet"
)

func (e *env) migrateCmd() *cobra.Command {
	var o fleet.MigrateOptions
	up := &cobra.Command{
		Use: "up", Short: "Bring every tenant's database to this binary's schema", Args: usageArgs(cobra.NoArgs),
		RunE: e.with(func(ctx context.Context, p *app.Platform, _ []string) error {
			if o.Parallel < 1 {
				return fmt.Errorf("%w: --parallel is at least 1", errUsage)
			}
			b := e.bar()
			o.Progress = func(done, failed, total int) { b.draw("migrating", done+failed, total) }
			results, err := p.Fleet.MigrateAll(ctx, o)
			b.end()
			if err != nil && !errors.Is(err, fleet.ErrPartial) {
				if o.Tenant != "" {
					return named("tenant", o.Tenant, err)
				}
				return err
			}
			return errors.Join(e.showMigration(results), err)
		}),
	}
	up.Flags().IntVar(&o.Parallel, "parallel", 4, "how many databases at once")
	up.Flags().StringVar(&o.Tenant, "tenant", "", "only this tenant")

	status := &cobra.Command{
		Use: "status", Short: "Show which schema each tenant's database has, as the catalog knows it", Args: usageArgs(cobra.NoArgs),
		RunE: e.with(func(ctx context.Context, p *app.Platform, _ []string) error { return e.migrateStatus(ctx, p) }),
	}
	return group("migrate", "Schema of the tenants' databases", up, status)
}

func (e *env) showMigration(results []fleet.MigrateResult) error {
	if e.output == "json" {
		return e.json(results)
	}
	done := 0
	for _, r := range results {
		if r.Err == nil {
			done++
			continue
		}
		e.say("failed: %s at version %d: %s", r.Slug, r.From, r.Reason)
	}
	latest, err := migrations.Tenant().Latest()
	if err != nil {
		return err
	}
	e.say("%d of %d tenants at version %d", done, len(results), latest)
	return nil
}

func (e *env) migrateStatus(ctx context.Context, p *app.Platform) error {
	latest, err := migrations.Tenant().Latest()
	if err != nil {
		return err
	}
	type row struct {
		Tenant  string `json:"tenant"`
		Version int64  `json:"version"`
		Target  int64  `json:"target"`
		State   string `json:"state"`
	}
	rows, tab := []row{}, table{head: []string{"tenant", "version", "target", "state"}}
	behind := 0
	f := catalog.TenantFilter{Limit: 500}
	for {
		page, err := p.Catalog.Tenants(ctx, f)
		if err != nil {
			return err
		}
		for _, t := range page {
			state := "current"
			switch {
			case t.SchemaVersion < latest:
				state = "behind"
				behind++
			case t.SchemaVersion > latest:
				state = "ahead of this binary"
			}
			rows = append(rows, row{t.Slug, t.SchemaVersion, latest, state})
			tab.add(t.Slug, strconv.FormatInt(t.SchemaVersion, 10), strconv.FormatInt(latest, 10), state)
		}
		if len(page) < f.Limit {
			break
		}
		f.After = page[len(page)-1].Slug
	}
	if err := e.show(rows, tab); err != nil {
		return err
	}
	if behind > 0 {
		sayTo(e.err, "%s behind: freehold migrate up", plural(behind, "tenant"))
	}
	return nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
