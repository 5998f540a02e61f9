package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/tenantdb/fleet"
)

// restoreFlags are what tenant restore is told.
type restoreFlags struct {
	fleet.TenantRestore
	as          catalog.TenantSpec
	yes, detach bool
}

func (e *env) tenantRestore() *cobra.Command {
	var f restoreFlags
	c := &cobra.Command{
		Use: "restore SLUG", Short: "Put a tenant back to what a backup has, or make a new tenant of it", Args: usageArgs(cobra.ExactArgs(1)),
		Long: `Put a tenant's database back to what a backup has. What it owes, used and did since
stays: ledger, usage, API keys, idempotency and audit, which gets an event that says
who restored what. The tenant is served all the time but for the last moment. Its
database from before is kept until "tenant confirm" drops it or "tenant revert" goes
back to it.

With --as, a new tenant is made of the backup, and nothing of the old one changes.`,
		Example: `  freehold tenant backup acme --list
  freehold tenant restore acme --backup latest
  freehold tenant restore acme --backup 2026-11-20T12:00:00Z --as acme-before`,
		RunE: func(c *cobra.Command, args []string) error {
			if f.Backup == "" {
				return fmt.Errorf("%w: --backup is an id (freehold tenant backup %s --list), latest, or a moment such as 2026-11-20T12:00:00Z", errUsage, args[0])
			}
			for _, name := range []string{"server", "name", "email", "plan"} {
				if f.as.Slug == "" && c.Flags().Changed(name) {
					return fmt.Errorf("%w: --%s goes with --as", errUsage, name)
				}
			}
			if f.as.Slug != "" && f.Lost {
				return fmt.Errorf("%w: --lost doesn't go with --as, which leaves the tenant as it is", errUsage)
			}
			f.Actor, f.as.Actor = actor(), actor()
			return e.withAll(app.NeedCatalog|app.NeedS3, func(ctx context.Context, p *app.Platform, args []string) error {
				if f.as.Slug != "" {
					return e.restoreAs(ctx, p, args[0], f)
				}
				return e.restore(ctx, p, args[0], f)
			})(c, args)
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.Backup, "backup", "", "`which`: an id, latest, or a moment as in RFC 3339: the newest that isn't later")
	fl.StringVar(&f.as.Slug, "as", "", "make a new tenant with this `slug` of it")
	fl.StringVar(&f.as.Server, "server", "", "with --as: place it on this server")
	fl.StringVar(&f.as.Name, "name", "", "with --as: its name")
	fl.StringVar(&f.as.Email, "email", "", "with --as: whom to write to")
	fl.StringVar(&f.as.Plan, "plan", "", "with --as: its plan")
	fl.BoolVar(&f.Lost, "lost", false, "its database of now can't be read any more: take nothing along from it")
	fl.BoolVarP(&f.yes, "yes", "y", false, "don't ask")
	fl.BoolVar(&f.detach, "detach", false, "leave the work to a worker and return at once")
	return c
}

// restorePrompt is what whoever restores in place has to have read.
const restorePrompt = `This puts %[1]s back to what it was at %[2]s UTC. What was written since then is
gone from it, but for its ledger, usage, API keys, idempotency and audit.
`

// lostPrompt is restorePrompt where nothing can be taken along.
const lostPrompt = `This puts %[1]s back to what it was at %[2]s UTC. ALL that was written since then is gone,
its ledger and audit too: its bill is what the catalog knows.
`

const keptPrompt = `Its database of now is kept until freehold tenant confirm %[1]s or tenant revert %[1]s.
`

func (e *env) restore(ctx context.Context, p *app.Platform, slug string, f restoreFlags) error {
	t, err := tenant(ctx, p, slug)
	if err != nil {
		return err
	}
	b, err := p.Catalog.TenantBackup(ctx, t.ID, f.Backup)
	if err != nil {
		return named("backup", f.Backup, err)
	}
	if !f.yes {
		prompt := restorePrompt
		if f.Lost {
			prompt = lostPrompt
		}
		if err := e.typed(fmt.Sprintf(prompt, t.Slug, moment(b.MadeAt))+fmt.Sprintf(keptPrompt, t.Slug), t.Slug); err != nil {
			return err
		}
	}
	f.Backup = b.ID // what was shown is what is done, and not a newer one
	op, err := p.Fleet.BeginRestore(ctx, t.ID, f.TenantRestore)
	if err != nil {
		return named("tenant", t.Slug, hinted(t, err))
	}
	detail := map[string]any{"slug": t.Slug, "operation": op.ID, "backup": b.ID, "made_at": b.MadeAt.UTC(), "lost": f.Lost}
	err = audit(ctx, p, "tenant.restore", t.ID, detail)
	if err != nil || f.detach {
		return errors.Join(e.detached(op), err)
	}
	return e.restored(ctx, p, t, op, "is what it was at "+moment(b.MadeAt)+" UTC")
}

// restored does what was begun and tells what became of the tenant.
func (e *env) restored(ctx context.Context, p *app.Platform, t catalog.Tenant, op catalog.Operation, now string) error {
	op, err := e.perform(ctx, p, op)
	if err != nil {
		return named("tenant", t.Slug, err)
	}
	if e.output == "json" {
		return e.json(op)
	}
	e.steps(op)
	e.say("%s %s", t.Slug, now)
	kept, err := p.Catalog.KeptDatabases(ctx, catalog.KeptFilter{Tenant: t.ID})
	if err != nil {
		return err
	}
	for _, k := range kept {
		if k.Why == catalog.KeptRestored && k.DropAt == nil {
			e.say("its database from before is kept on %s: freehold tenant confirm %s drops it, freehold tenant revert %[2]s goes back to it", k.Server, t.Slug)
		}
	}
	return nil
}

func (e *env) restoreAs(ctx context.Context, p *app.Platform, slug string, f restoreFlags) error {
	from, err := tenant(ctx, p, slug)
	if err != nil {
		return err
	}
	b, err := p.Catalog.TenantBackup(ctx, from.ID, f.Backup)
	if err != nil {
		return named("backup", f.Backup, err)
	}
	f.Backup = b.ID
	made := catalog.Creation{}
	if f.detach {
		made, err = p.Fleet.RegisterRestoreAs(ctx, from.ID, f.as, f.TenantRestore)
	} else {
		made.Tenant, made.Token, err = p.Fleet.RestoreAs(ctx, from.ID, f.as, f.TenantRestore)
	}
	t := made.Tenant
	if _, unfinished := errors.AsType[*fleet.Unfinished](err); err == nil || unfinished { // registered, and a worker goes on with it
		err = errors.Join(err, audit(ctx, p, "tenant.restore", t.ID, map[string]any{"slug": t.Slug, "from": from.Slug, "backup": b.ID}))
	}
	if made.Token != "" {
		rows := [][]string{
			{"tenant", t.Slug}, {"id", t.ID.String()}, {"from", from.Slug + " as of " + moment(b.MadeAt)},
			{"server", t.Server}, {"database", t.Database}, {"API key", made.Token + "  (shown once)"},
		}
		value := map[string]any{"tenant": t, "api_key": made.Token, "backup": b}
		if id := made.Operation.ID; id != "" {
			value["operation"] = made.Operation
			rows = append(rows, []string{"operation", id + "  (freehold operation show " + id + " --wait)"})
		}
		// Shown whatever comes after it: nobody can show it again.
		err = errors.Join(e.show(value, table{rows: rows}), err)
	}
	if err != nil {
		return createFailed(f.as, err)
	}
	return nil
}

func (e *env) tenantConfirm() *cobra.Command {
	return &cobra.Command{
		Use: "confirm SLUG", Short: "Keep what a restore made: the database from before it is dropped", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			t, err := tenant(ctx, p, args[0])
			if err != nil {
				return err
			}
			if err := p.Fleet.ConfirmTenant(ctx, t.ID, actor()); err != nil {
				return named("tenant", t.Slug, hinted(t, err))
			}
			if err := audit(ctx, p, "tenant.confirm", t.ID, map[string]any{"slug": t.Slug}); err != nil {
				return err
			}
			if e.output == "json" {
				return e.json(t)
			}
			e.say("%s stays as it is; its database from before the restore is dropped", t.Slug)
			return nil
		}),
	}
}

const revertPrompt = `This takes the last restore of %[1]s back: what was written since the restore is gone from
it, but for its ledger, usage, API keys, idempotency and audit.
`

func (e *env) tenantRevert() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "revert SLUG", Short: "Take a restore back, before it is confirmed", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.withAll(app.NeedCatalog|app.NeedS3, func(ctx context.Context, p *app.Platform, args []string) error {
			t, err := tenant(ctx, p, args[0])
			if err != nil {
				return err
			}
			if !yes {
				if err := e.typed(fmt.Sprintf(revertPrompt, t.Slug), t.Slug); err != nil {
					return err
				}
			}
			op, err := p.Fleet.BeginRevert(ctx, t.ID, actor())
			if err != nil {
				return named("tenant", t.Slug, hinted(t, err))
			}
			if err := audit(ctx, p, "tenant.revert", t.ID, map[string]any{"slug": t.Slug, "operation": op.ID}); err != nil {
				return errors.Join(e.detached(op), err)
			}
			return e.restored(ctx, p, t, op, "is what it was before the restore")
		}),
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask")
	return c
}
