package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb"
)

// drainTime is how much longer than for a dead node a restore's pause waits for nodes
// to let go of the tenant.
const drainTime = 15 * time.Second

// switchRestored pauses the tenant, takes along what must not be set back, and lets
// the two databases change their names, in one transaction of their server. Whatever
// fails before that leaves the tenant served as it was; a worker that dies in the pause
// leaves it to the next one to end that.
func switchRestored(ctx context.Context, a *act) error {
	r, err := a.restorer()
	if err != nil {
		return err
	}
	if err := a.lock(ctx); err != nil {
		return err
	}
	switched, err := r.switched(ctx)
	if err != nil || switched {
		return err
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	a.at("switch:prepared")
	if a.tenant.State != catalog.Moving {
		if err := a.allNodesLive(ctx); err != nil {
			return err
		}
	}
	if err := r.underPause(ctx); err != nil {
		return errors.Join(err, r.stay(ctx))
	}
	return nil
}

// switched reports whether the new database bears the tenant's name already.
func (r *restorer) switched(ctx context.Context) (bool, error) {
	fresh, err := databaseThere(ctx, r.conn, r.args.fresh(r.tenant.ID))
	if err != nil || fresh {
		return false, err
	}
	own, err := databaseThere(ctx, r.conn, r.tenant.Database)
	if err != nil || !own {
		return false, err
	}
	if r.args.Lost { // there may have been none to keep
		kept, err := r.cat.OperationNotes(ctx, r.op.ID)
		return len(kept[noteCarried]) > 0, err
	}
	return databaseThere(ctx, r.conn, r.kept())
}

// prepare does what can be done while the tenant is served.
func (r *restorer) prepare(ctx context.Context) error {
	fresh := r.args.fresh(r.tenant.ID)
	there, err := databaseThere(ctx, r.conn, fresh)
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("database %s is gone: cancel this and restore again: %w", fresh, catalog.ErrConflict)
	}
	if r.args.Revert != "" {
		if err := letIn(ctx, r.conn, fresh, true); err != nil {
			return err
		}
	}
	to, err := r.begins(ctx)
	if err != nil {
		return err
	}
	if r.args.Lost {
		if err := r.roleBack(ctx); err != nil {
			return err
		}
	} else {
		if err := letIn(ctx, r.conn, r.tenant.Database, true); err != nil { // a pause may have closed it
			return err
		}
		if r.tenant.State != catalog.Moving {
			if err := r.bringUp(ctx, r.tenant); err != nil {
				return err
			}
		}
		if to, err = r.versionsIn(ctx, r.tenant.Database); err != nil { // both have the same columns then
			return err
		}
	}
	return r.bringOn(ctx, r.tenant.Server, fresh, r.tenant.ID, r.args.MadeAt, to)
}

func (r *restorer) versionsIn(ctx context.Context, database string) (has catalog.Versions, err error) {
	cfg, err := r.ownerConfig(ctx, r.tenant.Server, database)
	if err != nil {
		return has, err
	}
	return r.versions(ctx, cfg)
}

// roleBack makes the tenant's role where it is lost too.
func (r *restorer) roleBack(ctx context.Context) error {
	there, err := exists(ctx, r.conn, roleExists, r.tenant.ID)
	if err != nil || there {
		return err
	}
	h := &home{
		Fleet: r.Fleet, id: r.tenant.ID, server: r.tenant.Server, conn: r.conn,
		login: func(ctx context.Context) (*pgx.ConnConfig, error) {
			route, err := r.cat.Route(ctx, r.tenant.ID)
			return route.Config, err
		},
	}
	return h.makeRole(ctx)
}

// letIn says whether anybody can connect to a database.
func letIn(ctx context.Context, conn *pgx.Conn, database string, allow bool) error {
	_, err := conn.Exec(ctx, fmt.Sprintf("alter database %s with allow_connections %t", ident(database), allow))
	return translate(ctx, err)
}

// noteCarried is what a restore took along, as counts.
const noteCarried = "carried"

// underPause does all that nobody may be served meanwhile.
func (r *restorer) underPause(ctx context.Context) error {
	if err := r.hold(ctx); err != nil {
		return err
	}
	if err := r.noteHold(ctx); err != nil {
		return err
	}
	r.at("switch:paused")
	t, err := r.cat.Tenant(ctx, r.tenant.ID)
	if err != nil {
		return err
	}
	var from *pgx.Conn
	if !r.args.Lost {
		if err := r.sameVersions(ctx); err != nil {
			return err
		}
		if from, err = r.readOld(ctx); err != nil {
			return err
		}
		defer func() {
			if from != nil {
				closeConn(ctx, from)
			}
		}()
	}
	r.at("switch:closed")
	to, err := r.builder(ctx, t.Server, r.args.fresh(t.ID))
	if err != nil {
		return err
	}
	done, err := r.carry(ctx, t, from, to, r.what())
	closeConn(ctx, to)
	if err != nil {
		return err
	}
	if from != nil {
		closeConn(ctx, from)
		from = nil
	}
	r.at("switch:carried")
	if err := r.cat.NoteOperation(ctx, r.op, noteCarried, done); err != nil {
		return err
	}
	if err := r.stillWanted(ctx); err != nil {
		return err
	}
	return r.rename(ctx, t)
}

// sameVersions looks that nobody has migrated the tenant's database since the new one
// was brought to its versions. A later try brings it there.
func (r *restorer) sameVersions(ctx context.Context) error {
	old, err := r.versionsIn(ctx, r.tenant.Database)
	if err != nil {
		return err
	}
	fresh, err := r.versionsIn(ctx, r.args.fresh(r.tenant.ID))
	if err == nil && old != fresh {
		err = fmt.Errorf("%w: it was brought to schema %s meanwhile, and what was restored is at %s", tenantdb.ErrUnavailable, old, fresh)
	}
	return err
}

// rename registers the database that the tenant has as kept, and lets the new one have
// its name. Both are closed to all then, and nobody is in them.
func (r *restorer) rename(ctx context.Context, t catalog.Tenant) error {
	fresh, kept := r.args.fresh(t.ID), r.kept()
	old, err := databaseThere(ctx, r.conn, t.Database)
	if err != nil {
		return err
	}
	if old {
		if err := r.keep(ctx, t, kept); err != nil {
			return err
		}
		r.at("switch:kept")
		if err := shutOut(ctx, r.conn, t.Role); err != nil {
			return err
		}
	}
	for _, database := range []string{t.Database, fresh} {
		if database == t.Database && !old {
			continue
		}
		if err := letIn(ctx, r.conn, database, false); err != nil {
			return err
		}
		if err := endIn(ctx, r.conn, database, spared{}); err != nil {
			return err
		}
	}
	var statements []string
	if old {
		statements = append(statements,
			"revoke all on database "+ident(t.Database)+" from "+ident(t.Role),
			"alter database "+ident(t.Database)+" rename to "+ident(kept))
	}
	statements = append(statements,
		"revoke all on database "+ident(fresh)+" from public",
		"grant connect on database "+ident(fresh)+" to "+ident(t.Role),
		"alter database "+ident(fresh)+" rename to "+ident(t.Database))
	err = pgx.BeginFunc(ctx, r.conn, func(tx pgx.Tx) error {
		for _, sql := range statements {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("let the databases change their names: %w", translate(ctx, err))
	}
	r.at("switch:renamed")
	return nil
}

// revertedKeep is for how long the outcome of a restore is kept that was taken back.
const revertedKeep = DefaultKeep

// keep registers the database that the tenant has, under the name that it gets.
func (r *restorer) keep(ctx context.Context, t catalog.Tenant, name string) error {
	k := catalog.KeptDatabase{TenantID: t.ID, Server: t.Server, Database: name, Why: catalog.KeptRestored, Operation: r.op.ID}
	if r.args.Revert != "" {
		until := time.Now().Add(revertedKeep)
		k.DropAt = &until
	}
	return r.cat.KeepDatabase(ctx, k)
}

// serveRestored has the tenant served from the database that bears its name now.
func serveRestored(ctx context.Context, a *act) error {
	r, err := a.restorer()
	if err != nil {
		return err
	}
	if err := a.cat.IgnoreCancel(ctx, a.op); err != nil {
		return err
	}
	if err := a.lock(ctx); err != nil {
		return err
	}
	if r.args.KeptID != "" { // it has come back
		if err := a.cat.ForgetKept(ctx, r.args.KeptID); err != nil {
			return err
		}
	}
	t, err := a.cat.Tenant(ctx, a.tenant.ID)
	if err != nil || t.State != catalog.Moving { // an earlier run of this step got this far
		return errors.Join(err, a.fence(ctx, a.tenant.ID))
	}
	if err := letIn(ctx, a.conn, t.Database, true); err != nil {
		return err
	}
	if err := r.ownIt(ctx, t); err != nil {
		return err
	}
	a.at("serve:owned")
	before, err := a.cat.StateBeforeMove(ctx, t.ID)
	if err != nil {
		return err
	}
	if err := allowLogin(ctx, a.conn, t.Role, before == catalog.Active); err != nil {
		return err
	}
	if err := r.endPause(ctx); err != nil {
		return err
	}
	r.tellPause(ctx)
	a.log.InfoContext(ctx, "tenant restored", "tenant", t.ID.String(), "operation", a.op.ID, "backup", r.args.Backup)
	return nil
}

// ownIt looks that the database is the tenant's and closed to others, and has the
// catalog know what it is.
func (r *restorer) ownIt(ctx context.Context, t catalog.Tenant) error {
	var own, closed bool
	if err := r.conn.QueryRow(ctx, selectPrivileges, t.Role, t.Database).Scan(&own, &closed); err != nil {
		return translate(ctx, err)
	}
	if !own || !closed {
		return errors.New("the server did not take the privileges on the database")
	}
	conn, err := r.owner(ctx, t)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	var whose catalog.TenantID
	if err := conn.QueryRow(ctx, selectIdentity).Scan(&whose); err != nil {
		return translate(ctx, err)
	}
	if whose != t.ID {
		return tenantdb.ErrForeign
	}
	has, err := r.versionsOn(ctx, conn)
	if err != nil {
		return err
	}
	if err := r.record(ctx, t.ID, has); err != nil {
		return err
	}
	if !r.args.Lost {
		return nil
	}
	if err := writeNames(ctx, conn, t, has.Freehold); err != nil {
		return err
	}
	return r.rewindAudit(ctx, conn, t, r.op.Actor)
}
