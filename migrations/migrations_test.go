package migrations_test

import (
	"context"
	"crypto/rand"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"freehold/migrations"
	"freehold/migrations/pgtest"
)

func TestMain(m *testing.M) { pgtest.MainLeak(m) }

// emptyDatabase is a new database of the admin, with nothing in it.
func emptyDatabase(t *testing.T) *pgx.ConnConfig {
	t.Helper()
	admin, err := pgx.ParseConfig(pgtest.AdminURL(t))
	if err != nil {
		t.Fatal(err)
	}
	name := "e_" + strings.ToLower(rand.Text())
	exec(t, admin, "create database "+name)
	t.Cleanup(func() {
		super, err := pgx.ParseConfig(pgtest.SuperURL(t))
		if err != nil {
			t.Fatal(err)
		}
		exec(t, super, "drop database "+name+" with (force)")
	})
	cfg := admin.Copy()
	cfg.Database = name
	return cfg
}

func connect(t *testing.T, cfg *pgx.ConnConfig) *pgx.Conn {
	t.Helper()
	conn, err := pgx.ConnectConfig(context.Background(), cfg)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, cfg *pgx.ConnConfig, sql string) {
	t.Helper()
	// Also called by cleanups, when the test's own context has ended.
	conn, err := pgx.ConnectConfig(context.Background(), cfg)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(context.Background(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func query[T any](t *testing.T, cfg *pgx.ConnConfig, sql string) T {
	t.Helper()
	var value T
	if err := connect(t, cfg).QueryRow(t.Context(), sql).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func apply(t *testing.T, cfg *pgx.ConnConfig, s migrations.Set) migrations.Result {
	t.Helper()
	result, err := migrations.Apply(t.Context(), cfg, s)
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	return result
}

func latest(t *testing.T, s migrations.Set) int64 {
	t.Helper()
	v, err := s.Latest()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// files makes a file system of migrations, each with the SQL of its Up.
func files(ups map[string]string) fs.FS {
	made := fstest.MapFS{}
	for name, up := range ups {
		made[name] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + up + "\n")}
	}
	return made
}

// small is a set of its own, so that its tests don't depend on our schemas.
func small(ups map[string]string) migrations.Set {
	return migrations.Set{Name: "small", FS: files(ups), Table: "small.version"}
}

func TestSets(t *testing.T) {
	t.Parallel()
	for _, s := range []migrations.Set{migrations.Catalog(), migrations.Tenant()} {
		names, err := fs.Glob(s.FS, "*.sql")
		if err != nil {
			t.Fatal(err)
		}
		if v := latest(t, s); v != int64(len(names)) {
			t.Errorf("%s: latest is %d with %d files: numbers must have no gap", s.Name, v, len(names))
		}
	}
	if _, err := (migrations.Set{Name: "none", FS: fstest.MapFS{}}).Latest(); err == nil {
		t.Error("a set without migrations has a latest version")
	}
}

func TestWith(t *testing.T) {
	t.Parallel()
	base := small(map[string]string{"00001_a.sql": "select 1;", "00002_b.sql": "select 2;"})
	s := base.With(files(map[string]string{"00002_b.sql": "select 22;", "00003_c.sql": "select 3;"}))
	if v := latest(t, s); v != 3 {
		t.Errorf("latest = %d", v)
	}
	if v := latest(t, base); v != 2 {
		t.Errorf("With changed its receiver: latest = %d", v)
	}
	content, err := fs.ReadFile(s.FS, "00002_b.sql")
	if err != nil || !strings.Contains(string(content), "select 22;") {
		t.Errorf("the file of both is %q, %v", content, err)
	}
	names, err := fs.Glob(s.FS, "*.sql")
	if want := []string{"00001_a.sql", "00002_b.sql", "00003_c.sql"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("files are %v, %v", names, err)
	}
}

// A server that was upgraded from version 14 has a schema public that everybody
// may create in; a tenant's role may not.
func TestTenantClosesPublic(t *testing.T) {
	t.Parallel()
	admin, err := pgx.ParseConfig(pgtest.AdminURL(t))
	if err != nil {
		t.Fatal(err)
	}
	super, err := pgx.ParseConfig(pgtest.SuperURL(t))
	if err != nil {
		t.Fatal(err)
	}
	name := "e_" + strings.ToLower(rand.Text())
	exec(t, admin, "create database "+name+" owner freehold_owner")
	exec(t, admin, "revoke all on database "+name+" from public")
	t.Cleanup(func() { exec(t, super, "drop database "+name+" with (force)") })
	owner := admin.Copy()
	owner.Database = name
	owner.RuntimeParams["role"] = migrations.RoleOwner
	exec(t, owner, "grant create on schema public to public")
	apply(t, owner, migrations.Tenant())
	if query[bool](t, owner, "select has_schema_privilege('freehold_tenant', 'public', 'create')") {
		t.Error("tenants' roles may create in schema public")
	}
}
