package fleet

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"freehold/migrations"
)

// attempt is a statement that a tenant's role must not get through with.
type attempt struct {
	what, sql string
	// without are SQLSTATEs that also mean no: the thing isn't there to be had.
	without []string
	// alone: the statement can't run in a transaction; undo takes back its effect.
	alone bool
	undo  string
	// grants: success may be a mere warning, so the database's privileges decide.
	grants string // the role that must not have got CONNECT
}

// proofName is what the attempts would make; no statement of ours ever does.
const proofName = "freehold_proof"

func (p *proof) forbidden() []attempt {
	own, other := ident(p.own), ident(p.other)
	owner, tenant := ident(migrations.RoleOwner), ident(migrations.RoleTenant)
	missing := []string{"58P01", "0A000"} // the extension's files aren't installed
	return []attempt{
		{what: "create schema freehold2", sql: "create schema freehold2"},
		{what: "create a table in public", sql: "create table public." + proofName + " ()"},
		{what: "create a table in freehold", sql: "create table freehold." + proofName + " ()"},
		{what: "create a temporary table", sql: "create temporary table " + proofName + " ()"},
		{what: "alter a table of freehold", sql: "alter table freehold.predictions add column " + proofName + " integer"},
		{what: "create a database", sql: "create database " + proofName, alone: true, undo: "drop database " + proofName},
		{what: "alter its own database", sql: "alter database " + own + " with is_template true"},
		{what: "create a role", sql: "create role " + proofName},
		{what: "give itself CREATEDB", sql: "alter role " + own + " createdb"},
		{what: "become the owner", sql: "set role " + owner},
		{what: "become the admin", sql: "set role " + ident(p.adminUser)},
		{what: "log in as the admin", sql: "set session authorization " + ident(p.adminUser)},
		{what: "write the fence", sql: "update freehold.tenant_identity set fence = 0"},
		{what: "remove the identity", sql: "delete from freehold.tenant_identity"},
		{what: "read passwords", sql: "select rolpassword from pg_catalog.pg_authid"},
		{what: "read a file of the server", sql: "select pg_catalog.pg_read_file('PG_VERSION')"},
		{what: "run a program on the server", sql: "copy (select 1) to program 'cat > /dev/null'"},
		{what: "install dblink", sql: "create extension dblink", without: missing},
		{what: "install postgres_fdw", sql: "create extension postgres_fdw", without: missing},
		{what: "grant its own role to another", sql: "grant " + own + " to " + other},
		{what: "grant freehold_tenant to another", sql: "grant " + tenant + " to " + other},
		{what: "grant CONNECT on its database to another role",
			sql: "grant connect on database " + own + " to " + other, grants: p.other},
		{what: "grant CONNECT on its database to everybody",
			sql: "grant connect on database " + own + " to public", grants: "public"},
	}
}

// run tries, and undoes what came through. An error means that the connection is
// gone and nothing was proven.
func (a attempt) run(ctx context.Context, conn *pgx.Conn) (ProofLine, error) {
	if a.alone {
		_, err := conn.Exec(ctx, a.sql)
		line, err := a.judge(ctx, err)
		if err == nil && !line.OK && a.undo != "" {
			_, _ = conn.Exec(ctx, a.undo) // the line says already that it was allowed
		}
		return line, err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return ProofLine{}, translate(ctx, err)
	}
	defer func() {
		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_ = tx.Rollback(rctx)
	}()
	if a.grants != "" {
		return a.grant(ctx, tx)
	}
	_, err = tx.Exec(ctx, a.sql)
	return a.judge(ctx, err)
}

func (a attempt) judge(ctx context.Context, err error) (ProofLine, error) {
	line := ProofLine{Try: a.what}
	s := state(err)
	switch {
	case err == nil:
		line.Result = "ALLOWED: " + a.sql
	case s == stateDenied, slices.Contains(a.without, s):
		line.Result, line.OK = "refused: "+message(err), true
	case s == "":
		return line, translate(ctx, err)
	default:
		line.Result = unknown + reason(ctx, err)
	}
	return line, nil
}

const (
	selectACL = `
select coalesce(datacl::text, '') from pg_database where datname = current_database()`
	selectConnect = `select has_database_privilege($1, current_database(), 'connect')`
)

// grant compares the database's privileges before and after: a GRANT without the
// right to it ends in a mere warning.
func (a attempt) grant(ctx context.Context, tx pgx.Tx) (ProofLine, error) {
	var before, after string
	var has bool
	if err := tx.QueryRow(ctx, selectACL).Scan(&before); err != nil {
		return ProofLine{}, translate(ctx, err)
	}
	if _, err := tx.Exec(ctx, a.sql); err != nil {
		return a.judge(ctx, err)
	}
	if err := tx.QueryRow(ctx, selectACL).Scan(&after); err != nil {
		return ProofLine{}, translate(ctx, err)
	}
	if err := tx.QueryRow(ctx, selectConnect, a.grants).Scan(&has); err != nil {
		return ProofLine{}, translate(ctx, err)
	}
	line := ProofLine{Try: a.what, Result: "refused: a mere warning, the database's privileges are as before", OK: true}
	if before != after || has {
		line.Result, line.OK = "ALLOWED: "+a.sql, false
	}
	return line, nil
}

// message is the server's own sentence.
func message(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Message
	}
	return "SQLSTATE " + state(err)
}
