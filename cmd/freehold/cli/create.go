package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/tenantdb/fleet"
)

func (e *env) tenantCreate() *cobra.Command {
	var (
		spec         catalog.TenantSpec
		labels, pins []string
		noWait       bool
	)
	c := &cobra.Command{
		Use: "create SLUG", Short: "Onboard a tenant: database, prefix, configuration, API key, welcome mail", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.withAll(app.NeedCatalog|app.NeedS3, func(ctx context.Context, p *app.Platform, args []string) (err error) {
			spec.Slug, spec.Actor = args[0], actor()
			if spec.Labels, err = pairs("--label", labels); err != nil {
				return err
			}
			if spec.Pin, err = pairs("--pin", pins); err != nil {
				return err
			}
			made := catalog.Creation{}
			if noWait {
				made, err = p.Fleet.Register(ctx, spec)
			} else {
				made.Tenant, made.Token, err = p.Fleet.Create(ctx, spec)
			}
			t := made.Tenant
			if _, unfinished := errors.AsType[*fleet.Unfinished](err); unfinished {
				// It is registered, and a worker goes on with it.
				err = errors.Join(err, audit(ctx, p, "tenant.create", t.ID, map[string]any{"slug": t.Slug}))
			}
			if err != nil {
				return createFailed(spec, err)
			}
			value := map[string]any{"tenant": t, "api_key": made.Token}
			rows := [][]string{
				{"tenant", t.Slug}, {"id", t.ID.String()}, {"server", t.Server}, {"database", t.Database},
				{"API key", made.Token + "  (shown once)"},
			}
			if made.Operation.ID != "" {
				value["operation"] = made.Operation
				rows = append(rows, []string{"operation", made.Operation.ID + "  (freehold operation show " + made.Operation.ID + " --wait)"})
			}
			// The key is shown whatever comes after it: nobody can show it again.
			shown := e.show(value, table{rows: rows})
			return errors.Join(shown, audit(ctx, p, "tenant.create", t.ID, map[string]any{"slug": t.Slug}))
		}),
	}
	f := c.Flags()
	f.StringVar(&spec.Name, "name", "", "its name (default: the slug)")
	f.StringVar(&spec.Email, "email", "", "whom to write to: the welcome mail goes there")
	f.StringVar(&spec.Plan, "plan", "", "its plan (default: standard)")
	f.StringVar(&spec.Region, "region", "", "place it on a server of this region")
	f.StringVar(&spec.Server, "server", "", "place it on this server")
	f.StringArrayVar(&labels, "label", nil, "KEY=VALUE, repeated")
	f.StringArrayVar(&pins, "pin", nil, "KEY=VALUE, repeated: place it on a server with this label")
	f.BoolVar(&noWait, "no-wait", false, "leave the work to a worker and return at once")
	return c
}
