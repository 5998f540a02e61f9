package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
)

func (e *env) tenantAdopt() *cobra.Command {
	var server, slug string
	c := &cobra.Command{
		Use:   "adopt UUID --server SERVER",
		Short: "Take in a tenant's database that the catalog doesn't know, as after a restore",
		Long: `Take in a tenant's database that the catalog doesn't know, as after a restore.

Its role gets a new password and the tenant a new API key, of scope all, shown once.
Keys and configuration that it had are lost with the catalog that knew them.`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.withAll(app.NeedCatalog|app.NeedS3, func(ctx context.Context, p *app.Platform, args []string) error {
			id, err := catalog.ParseTenantID(args[0])
			if err != nil {
				return fmt.Errorf("%w: UUID: want 36 characters, as `freehold catalog restore` and `freehold doctor` print them", errUsage)
			}
			if server == "" {
				return fmt.Errorf("%w: --server: which server is the database on?", errUsage)
			}
			t, key, err := p.Fleet.Adopt(ctx, server, id, slug)
			if err != nil {
				return err
			}
			// The key is shown whatever comes after it: nobody can show it again.
			err = e.show(map[string]any{"tenant": t, "api_key": key}, table{rows: [][]string{
				{"tenant", t.Slug}, {"id", t.ID.String()}, {"server", t.Server}, {"database", t.Database},
				{"API key", key + "  (shown once)"},
			}})
			return errors.Join(err, audit(ctx, p, "tenant.adopt", t.ID, map[string]any{"slug": t.Slug, "server": server}))
		}),
	}
	c.Flags().StringVar(&server, "server", "", "server that the database is on")
	c.Flags().StringVar(&slug, "slug", "", "its slug (default: the one that its database knows)")
	return c
}
