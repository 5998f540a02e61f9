package fleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/tenantdb"
)

// home is a tenant's database and role, there or to be made. Each of its methods
// looks at what is there and does the rest.
type home struct {
	*Fleet
	id     catalog.TenantID
	server string
	at     catalog.Versions                                   // that the database begins at
	login  func(ctx context.Context) (*pgx.ConnConfig, error) // as its role
	conn   *pgx.Conn                                          // the admin's, on database postgres; holds the tenant's lock
	named  catalog.Tenant                                     // whose it is, in words; zero: nobody's yet
}

// name is the database's, and the role's.
func (h *home) name() string { return h.id.DatabaseName() }

// roleConnections is the most that a tenant's role can hold open on a server: a
// last bound beneath the routers' budgets.
const roleConnections = 64

// roleSettings hold for every session of a tenant's role that doesn't say otherwise.
var roleSettings = []string{
	"statement_timeout = '60s'",
	"idle_in_transaction_session_timeout = '60s'",
}

func (h *home) prepareTemplate(ctx context.Context) error {
	t, err := h.template(ctx, h.at)
	if err != nil {
		return err
	}
	return h.ensureTemplate(ctx, h.conn, h.server, t)
}

const roleExists = `select exists (select oid from pg_roles where rolname = $1)`

// makeRole makes the tenant's login role with the catalog's password. The server
// gets to know a verifier only.
func (h *home) makeRole(ctx context.Context) error {
	login, err := h.login(ctx)
	if err != nil {
		return err
	}
	v, err := verifier(login.Password)
	if err != nil {
		return err
	}
	mark, err := h.mark(ctx)
	if err != nil {
		return err
	}
	role := ident(h.name())
	err = pgx.BeginFunc(ctx, h.conn, func(tx pgx.Tx) error {
		var exists bool
		if err := tx.QueryRow(ctx, roleExists, h.name()).Scan(&exists); err != nil {
			return err
		}
		verb := "create"
		if exists {
			verb = "alter"
		}
		// Utility statements take no parameters; a verifier is base64 with $ and colons.
		statements := []string{fmt.Sprintf("%s role %s login inherit connection limit %d password '%s'",
			verb, role, roleConnections, v)}
		for _, setting := range roleSettings {
			statements = append(statements, "alter role "+role+" set "+setting)
		}
		statements = append(statements,
			"grant "+ident(migrations.RoleTenant)+" to "+role,
			"comment on role "+role+" is '"+mark+"'")
		for _, sql := range statements {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
	return translate(ctx, err)
}

// mark is the comment that databases and roles of this catalog bear on their
// servers, which other catalogs may share. It needs no quoting.
func (f *Fleet) mark(ctx context.Context) (string, error) {
	id, err := f.cat.CatalogID(ctx)
	return catalogMark + id, err
}

const catalogMark = "freehold "

const databaseExists = `select exists (select oid from pg_database where datname = $1)`

// makeDatabase clones the template into a database that nobody can connect to
// yet: a clone has lost the template's privileges, so PUBLIC could.
func (h *home) makeDatabase(ctx context.Context) error {
	var exists bool
	if err := h.conn.QueryRow(ctx, databaseExists, h.name()).Scan(&exists); err != nil {
		return translate(ctx, err)
	}
	if exists {
		return nil
	}
	t, err := h.template(ctx, h.at)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		_, err = h.conn.Exec(ctx, "create database "+ident(h.name())+
			" template "+ident(t.name)+" owner "+ident(migrations.RoleOwner)+" allow_connections false")
		// One that the fleet has left behind is dropped, also between two steps.
		if state(err) != stateNoDatabase || try == templateTries {
			return translate(ctx, err)
		}
		if err := h.ensureTemplate(ctx, h.conn, h.server, t); err != nil {
			return err
		}
	}
}

// templateTries is how often a clone is tried whose template goes.
const templateTries = 3

const selectPrivileges = `
select has_database_privilege($1, $2, 'connect')
           and not has_database_privilege($1, $2, 'create, temporary'),
       not has_database_privilege('public', $2, 'connect, create, temporary')`

// setPrivileges closes the database to all but its role, marks it as this
// catalog's, and then opens it. GRANT and REVOKE only warn when they did nothing,
// so their effect is read.
func (h *home) setPrivileges(ctx context.Context) error {
	mark, err := h.mark(ctx)
	if err != nil {
		return err
	}
	database := ident(h.name())
	err = pgx.BeginFunc(ctx, h.conn, func(tx pgx.Tx) error {
		for _, sql := range []string{
			"revoke all on database " + database + " from public",
			"grant connect on database " + database + " to " + ident(h.name()),
			"comment on database " + database + " is '" + mark + "'",
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		var own, closed bool
		if err := tx.QueryRow(ctx, selectPrivileges, h.name(), h.name()).Scan(&own, &closed); err != nil {
			return err
		}
		if !own || !closed {
			return errors.New("the server did not take the privileges on the database")
		}
		_, err := tx.Exec(ctx, "alter database "+database+" with allow_connections true")
		return err
	})
	return translate(ctx, err)
}

const (
	insertIdentity = `
insert into freehold.tenant_identity (tenant) values ($1) on conflict (one) do nothing`
	selectIdentity = `select tenant from freehold.tenant_identity`
	makeWeeks      = `select freehold.make_prediction_weeks(now(), $1::integer)`
)

// weeksAhead is how many weeks of predictions have their partition, this one
// included.
const weeksAhead = 5

// writeIdentity writes whose database this is, makes the weeks that the template
// is too old for, and migrates what an older binary began. It returns the versions
// that the database has.
func (h *home) writeIdentity(ctx context.Context) (has catalog.Versions, err error) {
	cfg, err := h.ownerConfig(ctx, h.server, h.name())
	if err != nil {
		return has, err
	}
	conn, err := connect(ctx, cfg)
	if err != nil {
		return has, fmt.Errorf("connect to the tenant's database: %w", err)
	}
	defer closeConn(ctx, conn)
	if has, err = h.versionsOn(ctx, conn); err != nil {
		return has, err
	}
	if has.Below(h.at) {
		if has, err = h.rise(ctx, cfg, h.at); err != nil {
			return has, because(ctx, err)
		}
	}
	if _, err := conn.Exec(ctx, insertIdentity, h.id); err != nil {
		return has, translate(ctx, err)
	}
	var id catalog.TenantID
	if err := conn.QueryRow(ctx, selectIdentity).Scan(&id); err != nil {
		return has, translate(ctx, err)
	}
	if id != h.id {
		return has, tenantdb.ErrForeign
	}
	if h.named.Slug != "" {
		if err := writeNames(ctx, conn, h.named, has.Freehold); err != nil {
			return has, err
		}
	}
	_, err = conn.Exec(ctx, makeWeeks, weeksAhead)
	return has, translate(ctx, err)
}

// makePrefix makes the tenant's part of the object store.
func (h *home) makePrefix(ctx context.Context) error {
	if h.blob == nil {
		return nil
	}
	if err := h.blob.CreatePrefix(ctx, h.id); err != nil {
		return storeError(ctx, err)
	}
	return nil
}
