package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations"
)

// keptPrefix begins the names of databases that their tenants have left. Behind it
// are the tenant and the operation, in hexadecimal digits.
const keptPrefix = "freehold_kept_"

// keptName is what a tenant's database is called once an operation has left it.
func keptName(id catalog.TenantID, operation string) string {
	return keptPrefix + strings.TrimPrefix(id.DatabaseName(), "t_") + "_" + lastDigits(operation, 12)
}

// DefaultKeep is how long a database is kept that its tenant has moved from.
const DefaultKeep = 24 * time.Hour

// spared are who may stay in a database that is shut: connections by their backends,
// and sessions of a role.
type spared struct {
	pids []uint32
	role string
}

// shutDatabase lets nobody into a database any more, and ends who is in it but isn't
// spared. One that isn't there is shut. conn is the admin's, on database postgres of
// that server.
func shutDatabase(ctx context.Context, conn *pgx.Conn, database, role string, but spared) error {
	there, err := databaseThere(ctx, conn, database)
	if err != nil || !there {
		return err
	}
	if _, err := conn.Exec(ctx, "alter database "+ident(database)+" with allow_connections false"); err != nil {
		return translate(ctx, err)
	}
	if err := shutOut(ctx, conn, role); err != nil {
		return err
	}
	return endIn(ctx, conn, database, but)
}

// openDatabase takes shutDatabase back.
func openDatabase(ctx context.Context, conn *pgx.Conn, database, role string, login bool) error {
	if _, err := conn.Exec(ctx, "alter database "+ident(database)+" with allow_connections true"); err != nil {
		return translate(ctx, err)
	}
	return allowLogin(ctx, conn, role, login)
}

const (
	databaseNamed     = `select exists (select from pg_database where datname = $1)`
	databaseConnected = `select exists (select from pg_database where datname = $1 and datallowconn)`
	// Who has no name is the server's own, and leaves by itself.
	strangersIn = `
  from pg_stat_activity where datname = $1 and pid <> pg_backend_pid() and pid <> all ($2::int[]) and usename <> $3`
	countIn     = `select count(*)` + strangersIn
	terminateIn = `select count(pg_terminate_backend(pid))` + strangersIn
)

func databaseThere(ctx context.Context, conn *pgx.Conn, name string) (there bool, err error) {
	err = conn.QueryRow(ctx, databaseNamed, name).Scan(&there)
	return there, translate(ctx, err)
}

// databaseOpen reports whether there is such a database, and people are let in.
func databaseOpen(ctx context.Context, conn *pgx.Conn, name string) (open bool, err error) {
	err = conn.QueryRow(ctx, databaseConnected, name).Scan(&open)
	return open, translate(ctx, err)
}

// endIn ends the sessions in a database that lets nobody in, and waits until they are
// gone. A superuser's isn't everybody's to end: ErrSessionsLeft.
func endIn(ctx context.Context, conn *pgx.Conn, database string, but spared) error {
	// A role without a name is nobody's.
	pids, role := make([]int32, len(but.pids)), cmp.Or(but.role, "-")
	for i, pid := range but.pids {
		pids[i] = int32(pid)
	}
	var refused error
	for deadline := time.Now().Add(endTime); ; {
		var left int
		if err := conn.QueryRow(ctx, countIn, database, pids, role).Scan(&left); err != nil {
			return translate(ctx, err)
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("%w: %d in database %s", ErrSessionsLeft, left, database), refused)
		}
		if _, err := conn.Exec(ctx, terminateIn, database, pids, role); err != nil {
			if refused = translate(ctx, err); state(refused) != stateDenied {
				return refused
			}
		}
		if err := pause(ctx, sessionPoll); err != nil {
			return err
		}
	}
}

// retire keeps a database that its tenant has left: it is registered, shut, and
// renamed, so that its name is free. Again it goes on, and tells the same. conn is
// the admin's, on database postgres of that server.
func (f *Fleet) retire(ctx context.Context, conn *pgx.Conn, t catalog.Tenant, k catalog.KeptDatabase) (name string, err error) {
	name = keptName(t.ID, k.Operation)
	database := t.Database
	k.TenantID, k.Database = t.ID, name
	if err := f.cat.KeepDatabase(ctx, k); err != nil {
		return "", err
	}
	f.dieAt("retire/registered")
	if done, err := databaseThere(ctx, conn, name); err != nil || done {
		return name, err
	}
	if err := shutDatabase(ctx, conn, database, t.Role, spared{}); err != nil {
		return "", err
	}
	_, err = conn.Exec(ctx, "alter database "+ident(database)+" rename to "+ident(name))
	if state(err) == stateNoDatabase {
		return "", fmt.Errorf("database %s is not on server %s any more", database, k.Server)
	}
	return name, translate(ctx, err)
}

// DropKept drops the databases that were kept for long enough, and the roles that
// nothing on their servers is left for. What can't be reached is left for the next
// time; the error is the first one.
func (f *Fleet) DropKept(ctx context.Context) error {
	list, err := f.cat.KeptDatabases(ctx, catalog.KeptFilter{Due: true})
	if err != nil {
		return fmt.Errorf("drop kept databases: %w", err)
	}
	for _, k := range list {
		if derr := f.dropKept(ctx, k); derr != nil {
			f.log.WarnContext(ctx, "kept database not dropped", "server", k.Server, "database", k.Database, "reason", reason(ctx, derr))
			if err == nil {
				err = fmt.Errorf("drop kept database %s on server %s: %w", k.Database, k.Server, derr)
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return err
}

// dropKept drops one kept database, under the tenant's lock.
func (f *Fleet) dropKept(ctx context.Context, k catalog.KeptDatabase) error {
	lock, err := f.lockTenant(ctx, k.Server, k.TenantID)
	if err != nil {
		return err
	}
	defer closeConn(ctx, lock)
	if err := f.dropKeptOn(ctx, lock, k); err != nil {
		return err
	}
	f.log.InfoContext(ctx, "kept database dropped", "server", k.Server, "database", k.Database, "tenant", k.TenantID.String())
	return f.cat.ForgetKept(ctx, k.ID)
}

// dropKeptOn drops a kept database and, where nothing else on the server is the
// tenant's, its role. conn is the admin's, on database postgres of that server.
func (f *Fleet) dropKeptOn(ctx context.Context, conn *pgx.Conn, k catalog.KeptDatabase) error {
	ours, err := f.mark(ctx)
	if err != nil {
		return err
	}
	mark, there, err := markOf(ctx, conn, thingDatabase, k.Database)
	switch {
	case err != nil:
		return err
	case there && mark != ours:
		return fmt.Errorf("database %s doesn't bear this catalog's mark", k.Database)
	case there:
		if err := dropForced(ctx, conn, k.Database); err != nil {
			return translate(ctx, err)
		}
	}
	t, err := f.cat.Tenant(ctx, k.TenantID)
	if err != nil || t.Server == k.Server { // whose role goes with its own database
		return err
	}
	busy, err := f.cat.BusyWith(ctx, k.TenantID, catalog.KindMove, catalog.KindRestore)
	if err != nil || busy { // it may be on its way here: then the role is its own again
		return err
	}
	err = f.dropRole(ctx, conn, k.TenantID)
	if state(err) == stateDependent { // of another kept one
		err = nil
	}
	return err
}

// dropAllKept drops all that a tenant keeps anywhere, for a deletion.
func (f *Fleet) dropAllKept(ctx context.Context, id catalog.TenantID) error {
	list, err := f.cat.KeptDatabases(ctx, catalog.KeptFilter{Tenant: id})
	if err != nil {
		return err
	}
	for _, k := range list {
		conn, err := f.admin(ctx, k.Server, maintenance)
		if err != nil {
			return err
		}
		err = f.dropKeptOn(ctx, conn, k)
		closeConn(ctx, conn)
		if err == nil {
			err = f.cat.ForgetKept(ctx, k.ID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// newDatabase makes an empty database that bears this catalog's mark, belongs to the
// owner of all, and that only the admin can connect to. like are further options of
// CREATE DATABASE, or "". One of that name is dropped first. conn is the admin's, on
// database postgres of that server.
func (f *Fleet) newDatabase(ctx context.Context, conn *pgx.Conn, name, like string) error {
	mark, err := f.mark(ctx)
	if err != nil {
		return err
	}
	if err := dropForced(ctx, conn, name); err != nil {
		return translate(ctx, err)
	}
	create := "create database " + ident(name) + " template template0 encoding 'UTF8' " + like +
		" owner " + ident(migrations.RoleOwner) + " allow_connections false"
	if _, err := conn.Exec(ctx, create); err != nil {
		return translate(ctx, err)
	}
	f.dieAt("database/created")
	for _, sql := range []string{
		"revoke all on database " + ident(name) + " from public",
		"comment on database " + ident(name) + " is '" + mark + "'",
		"alter database " + ident(name) + " with allow_connections true",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return translate(ctx, err)
		}
	}
	return nil
}

// Providers of collations, as pg_database has them.
const selectLocale = `
select case d.datlocprovider when 'c' then
            format('locale_provider libc lc_collate %L lc_ctype %L', d.datcollate, d.datctype)
            when 'i' then format('locale_provider icu icu_locale %L lc_collate %L lc_ctype %L',
                 coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'), d.datcollate, d.datctype)
            else format('locale_provider builtin builtin_locale %L lc_collate %L lc_ctype %L',
                 to_jsonb(d) ->> 'datlocale', d.datcollate, d.datctype) end
  from pg_database d where d.datname = current_database()`

// localeOf is how texts are ordered in a tenant's database, as options of CREATE
// DATABASE: a copy of it orders them the same way.
func (f *Fleet) localeOf(ctx context.Context, t catalog.Tenant) (options string, err error) {
	conn, err := f.owner(ctx, t)
	if err != nil {
		return "", err
	}
	defer closeConn(ctx, conn)
	err = conn.QueryRow(ctx, selectLocale).Scan(&options)
	return options, translate(ctx, err)
}
