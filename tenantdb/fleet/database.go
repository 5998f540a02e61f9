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

// roleConnections is the most that a tenant's role can hold open on a server: a
// last bound beneath the routers' budgets.
const roleConnections = 64

// roleSettings hold for every session of a tenant's role that doesn't say otherwise.
var roleSettings = []string{
	"statement_timeout = '60s'",
	"idle_in_transaction_session_timeout = '60s'",
}

func (c *creation) prepareTemplate(ctx context.Context) error {
	return c.ensureTemplate(ctx, c.conn, c.tenant.Server)
}

const roleExists = `select exists (select oid from pg_roles where rolname = $1)`

// makeRole makes the tenant's login role with the catalog's password. The server
// gets to know a verifier only.
func (c *creation) makeRole(ctx context.Context) error {
	route, err := c.cat.Route(ctx, c.tenant.ID)
	if err != nil {
		return err
	}
	v, err := verifier(route.Config.Password)
	if err != nil {
		return err
	}
	role := ident(c.tenant.Role)
	err = pgx.BeginFunc(ctx, c.conn, func(tx pgx.Tx) error {
		var exists bool
		if err := tx.QueryRow(ctx, roleExists, c.tenant.Role).Scan(&exists); err != nil {
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
		statements = append(statements, "grant "+ident(migrations.RoleTenant)+" to "+role)
		for _, sql := range statements {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
	return translate(ctx, err)
}

const databaseExists = `select exists (select oid from pg_database where datname = $1)`

// makeDatabase clones the template into a database that nobody can connect to
// yet: a clone has lost the template's privileges, so PUBLIC could.
func (c *creation) makeDatabase(ctx context.Context) error {
	var exists bool
	if err := c.conn.QueryRow(ctx, databaseExists, c.tenant.Database).Scan(&exists); err != nil {
		return translate(ctx, err)
	}
	if exists {
		return nil
	}
	_, err := c.conn.Exec(ctx, "create database "+ident(c.tenant.Database)+
		" template "+ident(c.template)+" owner "+ident(migrations.RoleOwner)+" allow_connections false")
	return translate(ctx, err)
}

const selectPrivileges = `
select has_database_privilege($1, $2, 'connect')
           and not has_database_privilege($1, $2, 'create, temporary'),
       not has_database_privilege('public', $2, 'connect, create, temporary')`

// setPrivileges closes the database to all but its role, and then opens it. GRANT
// and REVOKE only warn when they did nothing, so their effect is read.
func (c *creation) setPrivileges(ctx context.Context) error {
	database, role := ident(c.tenant.Database), ident(c.tenant.Role)
	err := pgx.BeginFunc(ctx, c.conn, func(tx pgx.Tx) error {
		for _, sql := range []string{
			"revoke all on database " + database + " from public",
			"grant connect on database " + database + " to " + role,
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		var own, closed bool
		if err := tx.QueryRow(ctx, selectPrivileges, c.tenant.Role, c.tenant.Database).Scan(&own, &closed); err != nil {
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
// is too old for, and migrates what an older binary began.
func (c *creation) writeIdentity(ctx context.Context) error {
	conn, err := c.owner(ctx, c.tenant)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	version, err := migrations.Version(ctx, conn, c.set)
	if err != nil {
		return translate(ctx, err)
	}
	if version < c.latest {
		cfg, err := c.ownerConfig(ctx, c.tenant.Server, c.tenant.Database)
		if err != nil {
			return err
		}
		result, err := migrations.Apply(ctx, cfg, c.set)
		if err != nil {
			return fmt.Errorf("migrate: %s", reason(ctx, err))
		}
		version = result.To
	}
	if _, err := conn.Exec(ctx, insertIdentity, c.tenant.ID); err != nil {
		return translate(ctx, err)
	}
	var id catalog.TenantID
	if err := conn.QueryRow(ctx, selectIdentity).Scan(&id); err != nil {
		return translate(ctx, err)
	}
	if id != c.tenant.ID {
		return tenantdb.ErrForeign
	}
	if _, err := conn.Exec(ctx, makeWeeks, weeksAhead); err != nil {
		return translate(ctx, err)
	}
	return c.cat.SetSchemaVersion(ctx, c.tenant.ID, version)
}

// proveLogin logs in as the tenant will: password, privileges and identity hold.
func (c *creation) proveLogin(ctx context.Context) error {
	route, err := c.cat.Route(ctx, c.tenant.ID)
	if err != nil {
		return err
	}
	conn, err := connect(ctx, session(route.Config))
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	return tenantdb.Prove(ctx, conn, c.tenant.ID)
}
