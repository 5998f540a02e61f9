package fleet

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

// reborn makes a tenant from another one's backup. It is an onboarding, and is
// cancelled as one.
var reborn = []step{
	{"register", func(context.Context, *act) error { return nil }},
	{"check", checkReborn},
	{"role", at((*home).makeRole)},
	{"database", fillReborn},
	{"prefix", at((*home).makePrefix)},
	{"objects", bringObjects},
	{"identity", ownReborn},
	{"privileges", at((*home).setPrivileges)},
	{"proof", at((*home).prove)},
	{"activate", activate},
}

// stepsOf are an operation's, as this binary does it.
func stepsOf(o catalog.Operation) ([]step, bool) {
	steps, known := acts()[o.Kind]
	if o.Kind == catalog.KindOnboard {
		var target catalog.Target
		a := &act{op: o}
		if a.args(&target) == nil && target.Backup != nil {
			return reborn, true
		}
	}
	return steps, known
}

// RestoreAs makes a new tenant from a backup of another one, and returns its API key,
// of scope all, shown now or never. What the other one used, owes and did isn't the
// new one's: its ledger and its audit begin anew, the latter with where it comes from.
// Files and models come along with their objects, as far as those are there. Its
// server and region are chosen as for any new tenant; without either it stays in the
// region of the other one. When this process dies, a worker goes on with it; cancelled,
// all of it goes. Errors: Create's and BeginRestore's.
func (f *Fleet) RestoreAs(ctx context.Context, from catalog.TenantID, spec catalog.TenantSpec, o TenantRestore) (catalog.Tenant, string, error) {
	made, err := f.registerReborn(ctx, from, spec, o, f.taker())
	t := made.Tenant
	switch {
	case err != nil:
		return t, "", fmt.Errorf("restore as tenant %s: %w", spec.Slug, err)
	case made.Replayed:
		return t, "", nil
	}
	f.dieAt(registered)
	if err := f.do(ctx, made.Operation); err != nil {
		return t, "", fmt.Errorf("restore as tenant %s: %w", t.Slug, f.unfinished(ctx, made.Operation, err))
	}
	if t, err = f.cat.Tenant(ctx, t.ID); err != nil {
		return t, "", err
	}
	f.log.InfoContext(ctx, "tenant restored as another one", "tenant", t.ID.String(), "slug", t.Slug, "from", from.String(), "server", t.Server)
	return t, made.Token, nil
}

// RegisterRestoreAs is the beginning of RestoreAs: what is left to do is a worker's.
func (f *Fleet) RegisterRestoreAs(ctx context.Context, from catalog.TenantID, spec catalog.TenantSpec, o TenantRestore) (catalog.Creation, error) {
	made, err := f.registerReborn(ctx, from, spec, o, catalog.Taker{})
	if err != nil {
		return made, fmt.Errorf("restore as tenant %s: %w", spec.Slug, err)
	}
	return made, nil
}

func (f *Fleet) registerReborn(ctx context.Context, from catalog.TenantID, spec catalog.TenantSpec, o TenantRestore, by catalog.Taker) (made catalog.Creation, err error) {
	t, err := f.cat.Tenant(ctx, from)
	if err != nil {
		return made, err
	}
	b, err := f.cat.TenantBackup(ctx, from, o.Backup)
	if err != nil {
		return made, err
	}
	known, err := f.begins(ctx)
	if err != nil {
		return made, err
	}
	h, err := f.headerOf(ctx, from, b.Key)
	if err != nil {
		return made, f.tellProof(ctx, b.ID, brokenBackup(err))
	}
	if err := f.knows(h, known); err != nil {
		return made, err
	}
	if spec.Region == "" && spec.Server == "" {
		spec.Region = t.Region
	}
	if spec.Plan == "" {
		spec.Plan = t.Plan
	}
	if spec.Actor == "" {
		spec.Actor = o.Actor
	}
	return f.cat.CreateTenant(ctx, spec, catalog.Onboarding{
		Taker: by, Steps: stepNames(reborn), Latest: f.latest,
		From: &catalog.BackupSource{Tenant: from.String(), Slug: t.Slug, Backup: b.ID, Key: b.Key, MadeAt: b.MadeAt},
	})
}

// source is the backup that this onboarding is from.
func (a *act) source() (src catalog.BackupSource, of catalog.TenantID, err error) {
	var target catalog.Target
	if err := a.args(&target); err != nil {
		return src, of, err
	}
	of, err = catalog.ParseTenantID(target.Backup.Tenant)
	return *target.Backup, of, err
}

// checkReborn reads all of the backup before anything is made.
func checkReborn(ctx context.Context, a *act) error {
	src, of, err := a.source()
	if err != nil {
		return err
	}
	server, err := a.cat.Server(ctx, a.tenant.Server)
	if err != nil {
		return err
	}
	h, err := a.home(ctx)
	if err != nil {
		return err
	}
	if err := a.fits(ctx, of, src.Key, server, h.at); err != nil {
		return err
	}
	return a.wholeBackup(ctx, of, src.Backup, src.Key)
}

// freshName is the name of a database that a restore builds for the tenant.
func freshName(id catalog.TenantID) string {
	return restorePrefix + strings.TrimPrefix(id.DatabaseName(), "t_")
}

// fillReborn builds the database from the backup, beside the name that it will have:
// until its identity is the new tenant's it must not pass for it. Half of one from
// before goes first.
func fillReborn(ctx context.Context, a *act) error {
	src, of, err := a.source()
	if err != nil {
		return err
	}
	h, err := a.home(ctx) // with the tenant's lock
	if err != nil {
		return err
	}
	name := freshName(a.tenant.ID)
	if err := a.newDatabase(ctx, a.conn, name, ""); err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	a.at("database:created")
	err = a.fillFrom(ctx, a.tenant.Server, name, of, src.Key)
	if err := a.tellProof(ctx, src.Backup, err); err != nil {
		return err
	}
	a.at("database:filled")
	return a.bringOn(ctx, a.tenant.Server, name, a.tenant.ID, src.MadeAt, h.at)
}

const (
	// Not tenant_identity, which is written anew.
	rewriteIdentity = `update freehold.tenant_identity set tenant = $1, fence = 0`
	newCounters     = `insert into freehold.tenant_counters (api_key) values ('')`
	// Nobody is at work for the new tenant.
	endRebornJobs = `
update freehold.fine_tuning_jobs set state = 'cancelled', finished_at = now() where finished_at is null`
)

// ownReborn makes the database the new tenant's own, and then gives it its name.
func ownReborn(ctx context.Context, a *act) error {
	src, _, err := a.source()
	if err != nil {
		return err
	}
	if err := a.lock(ctx); err != nil {
		return err
	}
	name := freshName(a.tenant.ID)
	there, err := databaseThere(ctx, a.conn, name)
	if err != nil {
		return err
	}
	if there { // else an earlier run of this step has named it
		if err := a.takeOver(ctx, name, src); err != nil {
			return err
		}
		a.at("identity:owned")
		if err := letIn(ctx, a.conn, name, false); err != nil {
			return err
		}
		if err := endIn(ctx, a.conn, name, spared{}); err != nil {
			return err
		}
		for _, sql := range []string{
			"alter database " + ident(name) + " rename to " + ident(a.tenant.Database),
			"alter database " + ident(a.tenant.Database) + " with allow_connections true",
		} {
			if _, err := a.conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("name the database: %w", translate(ctx, err))
			}
		}
	} else if err := letIn(ctx, a.conn, a.tenant.Database, true); err != nil {
		return err
	}
	return writeIdentity(ctx, a)
}

// takeOver takes from the database what was the other tenant's alone, in one
// transaction. It may be done again.
func (a *act) takeOver(ctx context.Context, name string, src catalog.BackupSource) error {
	if err := letIn(ctx, a.conn, name, true); err != nil {
		return err
	}
	conn, err := a.builder(ctx, a.tenant.Server, name)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var tables []string
		for _, table := range carriedWhole {
			if table != "tenant_identity" {
				tables = append(tables, freeholdTable(table))
			}
		}
		if _, err := tx.Exec(ctx, "truncate "+strings.Join(tables, ", ")); err != nil {
			return err
		}
		for _, sql := range []string{newCounters, endLeftOver, endRebornJobs} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, rewriteIdentity, a.tenant.ID); err != nil {
			return err
		}
		return tellRestore(ctx, tx, restoration{
			actor: a.op.Actor, Operation: a.op.ID, Backup: src.Backup, MadeAt: src.MadeAt.UTC(), From: src.Tenant,
		}, carried{})
	})
	return translate(ctx, err)
}
