package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
)

func (e *env) tenantSuspend() *cobra.Command {
	return e.tenantState("suspend", "Stop serving a tenant, on every node before this returns; its data stays", app.NeedCatalog,
		func(p *app.Platform) func(context.Context, catalog.TenantID) error { return p.Fleet.Suspend })
}

// What the tenant's nodes could not settle lies in the object store.
func (e *env) tenantResume() *cobra.Command {
	return e.tenantState("resume", "Serve a suspended tenant again", app.NeedCatalog|app.NeedS3,
		func(p *app.Platform) func(context.Context, catalog.TenantID) error { return p.Fleet.Resume })
}

// tenantState makes a command that moves a tenant to another state. Where it is
// there already, nothing changes but what an earlier call left undone.
func (e *env) tenantState(verb, short string, need app.Need, change func(*app.Platform) func(context.Context, catalog.TenantID) error) *cobra.Command {
	return &cobra.Command{
		Use: verb + " SLUG", Short: short, Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.withAll(need, func(ctx context.Context, p *app.Platform, args []string) error {
			t, err := tenant(ctx, p, args[0])
			if err != nil {
				return err
			}
			err = change(p)(ctx, t.ID)
			if stands(err) {
				err = errors.Join(err, audit(ctx, p, "tenant."+verb, t.ID, map[string]any{"slug": t.Slug}))
			}
			if err != nil {
				return named("tenant", t.Slug, hinted(t, again(err)))
			}
			if t, err = p.Catalog.Tenant(ctx, t.ID); err != nil {
				return err
			}
			if e.output == "json" {
				return e.json(t)
			}
			e.say("%s is %s", t.Slug, t.State)
			return nil
		}),
	}
}
