package fleet_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"freehold/migrations/pgtest"
)

// G2: a tenant's role can connect to its own database only: not to another
// tenant's, the catalog, postgres or a template; and can't grant that away.
func TestG2_TenantRoleReachesOnlyItsOwnDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme, globex := b.create("acme"), b.create("globex")
	pgtest.Tenant(t) // one that another catalog has here
	super := b.super("postgres")

	rows, _ := super.Query(t.Context(), "select datname from pg_database where datname <> $1", acme.Database)
	others, err := pgx.CollectRows(rows, pgx.RowTo[string])
	b.ok(err)
	for _, must := range []string{globex.Database, "postgres", "template0", "template1", b.fleet.Template()} {
		if !slices.Contains(others, must) {
			t.Fatalf("%s isn't among the databases", must)
		}
	}
	if !slices.ContainsFunc(others, func(d string) bool { return strings.HasPrefix(d, "c_") }) {
		t.Fatal("no catalog is among the databases")
	}
	for _, database := range others {
		_, err := b.as(acme, database)
		if code := sqlstate(err); code == "3D000" {
			continue // another test's, dropped meanwhile
		} else if code != "42501" && code != "55000" {
			t.Errorf("database %s: %v", database, err)
		}
	}

	own, err := b.as(acme, acme.Database)
	b.ok(err)
	for _, sql := range []string{
		"create schema freehold2",
		"create table public.t ()",
		"create table freehold.t ()",
		"create temporary table t ()",
		"create database freehold2",
		"create role freehold2",
		"set role freehold_owner",
		"update freehold.tenant_identity set fence = 0",
	} {
		if _, err := own.Exec(t.Context(), sql); sqlstate(err) != "42501" {
			t.Errorf("%s: %v", sql, err)
		}
	}

	// GRANT without the right to it ends in a mere warning: its effect is looked at.
	const acl = "select coalesce(datacl::text, '') from pg_database where datname = $1"
	before := one[string](b, super, acl, acme.Database)
	for _, to := range []string{globex.Role, "public"} {
		_, err = own.Exec(t.Context(), "grant connect on database "+acme.Database+" to "+to)
		if err != nil && sqlstate(err) != "42501" {
			t.Errorf("grant to %s: %v", to, err)
		}
	}
	if after := one[string](b, super, acl, acme.Database); after != before {
		t.Errorf("the database's privileges were %s, now %s", before, after)
	}
	if _, err := b.as(globex, acme.Database); sqlstate(err) != "42501" {
		t.Errorf("after the grant globex reaches acme's database: %v", err)
	}
}

func TestProveFindsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme, globex := b.create("acme"), b.create("globex")
	lines, err := b.fleet.Prove(t.Context(), acme.ID)
	b.ok(err)
	tried := map[string]bool{}
	for _, l := range lines {
		tried[l.Try] = true
		if !l.OK {
			t.Errorf("%s: %s", l.Try, l.Result)
		}
	}
	for _, must := range []string{
		"connect to its own database", "connect to database postgres", "connect to database template1",
		"connect to database " + globex.Database, "create schema freehold2", "run a program on the server",
		"grant CONNECT on its database to another role",
	} {
		if !tried[must] {
			t.Errorf("not tried: %s", must)
		}
	}
}

// A hole that somebody opened is found, and what came through it is undone.
func TestProveFindsHoles(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme, globex := b.create("acme"), b.create("globex")
	// From 16 on a membership that gives no rights, and still lets acme become globex.
	member := "grant " + globex.Role + " to " + acme.Role
	if one[int](b, b.super("postgres"), "select current_setting('server_version_num')::int") >= 16_00_00 {
		member += " with inherit false, set true"
	}
	holes := []struct{ database, open, close, try string }{
		{"postgres", "grant connect on database " + globex.Database + " to " + acme.Role,
			"revoke connect on database " + globex.Database + " from " + acme.Role, "connect to database " + globex.Database},
		{acme.Database, "grant create on database " + acme.Database + " to " + acme.Role,
			"revoke create on database " + acme.Database + " from " + acme.Role, "create schema freehold2"},
		{"postgres", "alter role " + acme.Role + " createdb", "alter role " + acme.Role + " nocreatedb", "create a database"},
		{"postgres", "grant connect on database " + acme.Database + " to " + acme.Role + " with grant option",
			"revoke grant option for connect on database " + acme.Database + " from " + acme.Role,
			"grant CONNECT on its database to another role"},
		{acme.Database, "grant update on freehold.tenant_identity to freehold_tenant",
			"revoke update on freehold.tenant_identity from freehold_tenant", "write the fence"},
		{"postgres", "grant pg_execute_server_program to " + acme.Role, "revoke pg_execute_server_program from " + acme.Role,
			"run a program on the server"},
		{"postgres", member, "revoke " + globex.Role + " from " + acme.Role, "be in a role besides freehold_tenant"},
	}
	for _, hole := range holes {
		_, err := b.super(hole.database).Exec(t.Context(), hole.open)
		b.ok(err)
	}
	lines, err := b.fleet.Prove(t.Context(), acme.ID)
	b.ok(err)
	results := map[string]string{}
	for _, l := range lines {
		results[l.Try] = l.Result
		if l.OK != strings.HasPrefix(l.Result, "refused: ") && l.Try != lines[0].Try {
			t.Errorf("OK is %v: %s: %s", l.OK, l.Try, l.Result)
		}
	}
	for _, hole := range holes {
		if !strings.HasPrefix(results[hole.try], "ALLOWED: ") {
			t.Errorf("after %q: %s: %s", hole.open, hole.try, results[hole.try])
		}
		_, err := b.super(hole.database).Exec(t.Context(), hole.close)
		b.ok(err)
	}
	super := b.super("postgres")
	if one[bool](b, super, "select exists (select oid from pg_database where datname = 'freehold_proof')") {
		t.Error("the database that came through was left")
	}
	lines, err = b.fleet.Prove(t.Context(), acme.ID)
	b.ok(err)
	for _, l := range lines {
		if !l.OK {
			t.Errorf("all holes closed: %s: %s", l.Try, l.Result)
		}
	}
}

func sqlstate(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}
