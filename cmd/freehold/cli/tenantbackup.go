package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/tenantdb/fleet"
)

func (e *env) tenantBackup() *cobra.Command {
	var prove, list, detach bool
	c := &cobra.Command{
		Use: "backup SLUG", Short: "Back one tenant up, or list its backups", Args: usageArgs(cobra.ExactArgs(1)),
		Long: `Back one tenant up: its database as of one moment, and which objects it has, sealed,
in the object store. Workers do the same by schedule: see freehold backup plan list.

With --prove, the new backup is restored on trial, into a database that is dropped
again, and every table is compared.`,
		Example: "  freehold tenant backup acme --prove\n  freehold tenant backup acme --list",
		RunE: func(c *cobra.Command, args []string) error {
			if list && (prove || detach) {
				return fmt.Errorf("%w: --list makes no backup", errUsage)
			}
			if list {
				return e.with(e.listBackups)(c, args)
			}
			return e.withAll(app.NeedCatalog|app.NeedS3, func(ctx context.Context, p *app.Platform, args []string) error {
				return e.backUp(ctx, p, args[0], fleet.BackupOptions{Actor: actor(), Prove: prove}, detach)
			})(c, args)
		},
	}
	fl := c.Flags()
	fl.BoolVar(&prove, "prove", false, "restore it on trial afterwards, and compare")
	fl.BoolVar(&list, "list", false, "list its backups, newest first")
	fl.BoolVar(&detach, "detach", false, "leave the work to a worker and return at once")
	return c
}

func (e *env) backUp(ctx context.Context, p *app.Platform, slug string, o fleet.BackupOptions, detach bool) error {
	t, err := tenant(ctx, p, slug)
	if err != nil {
		return err
	}
	op, err := p.Fleet.BeginBackup(ctx, t.ID, o)
	if err != nil {
		return named("tenant", t.Slug, hinted(t, err))
	}
	err = audit(ctx, p, "tenant.backup", t.ID, map[string]any{"slug": t.Slug, "operation": op.ID, "prove": o.Prove})
	if err != nil || detach {
		return errors.Join(e.detached(op), err)
	}
	if op, err = e.perform(ctx, p, op); err != nil {
		return named("tenant", t.Slug, err)
	}
	b, err := p.Catalog.TenantBackup(ctx, t.ID, op.ID) // a backup has its operation's id
	if err != nil {
		return named("backup", op.ID, err)
	}
	if e.output == "json" {
		return e.json(b)
	}
	e.say("%s is backed up as of %s UTC: %s, and the names of %s", t.Slug, moment(b.MadeAt), bytesOf(b.Bytes), plural(int(b.Objects), "object"))
	if b.ProvedAt != nil {
		e.say("it was restored on trial, and every table is the same")
	}
	e.say("to go back to it: freehold tenant restore %s --backup %s", t.Slug, b.ID)
	return nil
}

func (e *env) listBackups(ctx context.Context, p *app.Platform, args []string) error {
	t, err := tenant(ctx, p, args[0])
	if err != nil {
		return err
	}
	list, err := p.Catalog.TenantBackups(ctx, t.ID)
	if err != nil {
		return err
	}
	tab := table{head: []string{"backup", "as of", "size", "objects", "schema", "postgres", "why", "proved"}}
	for _, b := range list {
		why := "asked for"
		if b.Scheduled {
			why = "schedule"
		}
		tab.add(b.ID, moment(b.MadeAt), bytesOf(b.Bytes), strconv.FormatInt(b.Objects, 10),
			catalog.Versions{Freehold: b.SchemaVersion, Product: b.ProductVersion}.String(), strconv.Itoa(b.ServerVersion/10000),
			why, proved(b.ProvedAt, b.ProofError))
	}
	if list == nil {
		list = []catalog.TenantBackup{}
	}
	return e.show(list, tab)
}

// proved is when a backup was last restored on trial, and what came out.
func proved(at *time.Time, failure string) string {
	switch {
	case failure != "":
		return "FAILED: " + firstLine(failure)
	case at == nil:
		return "never"
	default:
		return moment(*at)
	}
}
