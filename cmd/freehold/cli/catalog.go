package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/tenantdb/fleet"
)

func (e *env) catalogCmd() *cobra.Command {
	return group("catalog", "The catalog database", e.catalogMigrate(), e.catalogBackup(), e.catalogRestore())
}

func (e *env) catalogMigrate() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the catalog database up; the first time this also writes a new master key",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			from, to, newKey, err := app.MigrateCatalog(c.Context(), e.cfg, e.quiet().Logger(true))
			if err != nil {
				return err
			}
			if newKey {
				sayTo(e.err, "new master key in %s: keep a copy elsewhere, without it no sealed secret can be read", e.cfg.MasterKeyFile)
			}
			return e.show(map[string]any{"from": from, "to": to, "new_master_key": newKey},
				table{rows: [][]string{{fmt.Sprintf("catalog at version %d (was %d)", to, from)}}})
		},
	}
}

func (e *env) catalogBackup() *cobra.Command {
	return &cobra.Command{
		Use: "backup", Short: "Back the catalog up to the object store, sealed with the master key", Args: usageArgs(cobra.NoArgs),
		Long: `Back the catalog up to the object store, sealed with the master key.

Workers do the same each hour. The backup is read back before it counts. To restore
it the master key is needed too: keep a copy of that elsewhere.`,
		RunE: e.withAll(app.NeedCatalog|app.NeedS3, func(ctx context.Context, p *app.Platform, _ []string) error {
			b, err := p.Fleet.BackupCatalog(ctx)
			if err != nil {
				return err
			}
			if err := audit(ctx, p, "catalog.backup", catalog.TenantID{}, map[string]any{"backup": b.Key}); err != nil {
				return err
			}
			return e.showBackups(b, []catalog.Backup{b})
		}),
	}
}

func (e *env) showBackups(value any, backups []catalog.Backup) error {
	t := table{head: []string{"backup", "made", "bytes", "seq"}}
	for _, b := range backups {
		t.add(b.Key, moment(b.MadeAt), strconv.FormatInt(b.Bytes, 10), strconv.FormatInt(b.Seq, 10))
	}
	return e.show(value, t)
}

func (e *env) catalogRestore() *cobra.Command {
	var (
		o    fleet.RestoreOptions
		list bool
	)
	c := &cobra.Command{
		Use: "restore", Short: "Fill an empty catalog with a backup, and compare it with the servers", Args: usageArgs(cobra.NoArgs),
		Long: `Fill an empty catalog with a backup, and compare it with the servers.

The catalog is lost: point FREEHOLD_CATALOG_URL to a new database, put the master key
where FREEHOLD_MASTER_KEY_FILE says, and run

    freehold catalog migrate
    freehold catalog restore

Every tenant whose database is where the backup says is served again. What the backup
can't know is listed, each line with the command to run next; status 3 then. Tenants
that are younger than the backup are found on their servers. An interrupted restore
is gone on with by the same command. Nodes and workers are started after it.`,
		RunE: e.withAll(app.NeedCatalog|app.NeedS3, func(ctx context.Context, p *app.Platform, _ []string) error {
			if list {
				if o.Key != "" {
					return fmt.Errorf("%w: --list and --from exclude each other", errUsage)
				}
				backups, err := p.Fleet.CatalogBackups(ctx)
				if err != nil {
					return err
				}
				return e.showBackups(backups, backups)
			}
			o.Actor = actor()
			r, err := p.Fleet.RestoreCatalog(ctx, o)
			if errors.Is(err, catalog.ErrSealBroken) {
				return fmt.Errorf("%w; is %s the master key that the lost catalog had? freehold catalog restore --list shows other backups",
					err, e.cfg.MasterKeyFile)
			}
			if err != nil {
				return err
			}
			return e.showRestored(r)
		}),
	}
	c.Flags().StringVar(&o.Key, "from", "", "restore this backup (default: the newest)")
	c.Flags().BoolVar(&list, "list", false, "list the backups that there are, and do nothing")
	return c
}

func (e *env) showRestored(r fleet.Restored) error {
	t := table{rows: [][]string{
		{"restored", r.Backup}, {"servers", strconv.Itoa(r.Servers)},
		{"tenants", fmt.Sprintf("%d, of which %d are in their place and unchanged", r.Tenants, r.Confirmed)},
	}}
	if err := e.show(r, t); err != nil {
		return err
	}
	if e.output != "json" && len(r.Notes) > 0 {
		e.say("")
		notes := table{head: []string{"kind", "server", "tenant", "what", "next"}}
		for _, n := range r.Notes {
			notes.add(n.Kind, n.Server, n.Tenant, n.What, n.Fix)
		}
		if err := e.show(nil, notes); err != nil {
			return err
		}
	}
	if r.NeedsPerson() {
		return fmt.Errorf("%w: the catalog is restored; look at what is listed", fleet.ErrPartial)
	}
	return nil
}
