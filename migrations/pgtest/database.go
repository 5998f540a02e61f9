package pgtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/migrations"
)

// AdminURL is database postgres for a role with exactly LOGIN, CREATEDB and
// CREATEROLE, on a server where the superuser's one statement has been run.
func AdminURL(t testing.TB) string {
	t.Helper()
	return get(t).adminURL("postgres")
}

// SuperURL is database postgres for the superuser: for what a test must look
// at, never for what the code under test does.
func SuperURL(t testing.TB) string {
	t.Helper()
	return get(t).pg.URL("postgres")
}

// Catalog is a fresh catalog database, migrated, for the admin, who owns it.
// It is dropped after the test; that of a failed test is kept, and named.
// The tenants' databases that it names, made by the code under test, go before it.
func Catalog(t testing.TB) string {
	t.Helper()
	s := get(t)
	return s.newCatalog(t, &s.catalog)
}

// CatalogFrom is Catalog, a clone of what build has made of one. Only the first test's
// build is called; the others of a test process must be the same.
func CatalogFrom(t testing.TB, build func(ctx context.Context, url string) error) string {
	t.Helper()
	s := get(t)
	if err := s.built.ensure(func(ctx context.Context) error { return s.buildFrom(ctx, build) }); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return s.newCatalog(t, &s.built)
}

func (s *server) newCatalog(t testing.TB, from *template) string {
	t.Helper()
	name := "c_" + strings.ToLower(rand.Text())
	s.clone(t, from, name, adminRole)
	url := s.adminURL(name)
	t.Cleanup(func() {
		if !t.Failed() {
			s.dropTenants(t, name)
		}
	})
	// A clone is another catalog than its template, and than every other clone.
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatalf("pgtest: connect to catalog: %v", err)
	}
	_, err = conn.Exec(t.Context(), freshCatalog)
	if err = errors.Join(err, conn.Close(t.Context())); err != nil {
		t.Fatalf("pgtest: make catalog another one: %v", err)
	}
	return url
}

const freshCatalog = `update catalog_clock set catalog = gen_random_uuid()`

// TenantDB is a tenant's database, made as production makes it.
type TenantDB struct {
	ID        uuid.UUID // as its identity row says
	Database  string
	Role      string // the tenant's login role, which has CONNECT here only
	OwnerURL  string // the admin with role=freehold_owner
	TenantURL string // Role
}

const insertIdentity = `insert into freehold.tenant_identity (tenant) values ($1)`

// Tenant is a fresh tenant's database, migrated, with its identity row and a
// login role. Both are dropped after the test; those of a failed test are kept,
// and named.
func Tenant(t testing.TB) TenantDB {
	t.Helper()
	s := get(t)
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	name := "t_" + hex.EncodeToString(id[:])
	quoted := pgx.Identifier{name}.Sanitize()
	password := rand.Text()
	secret, err := verifier(password)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	s.clone(t, &s.tenant, name, migrations.RoleOwner)
	for _, statement := range []string{
		"create role " + quoted + " login password '" + secret + "'",
		"grant " + migrations.RoleTenant + " to " + quoted,
		"grant connect on database " + quoted + " to " + quoted,
	} {
		if _, err := s.admin.Exec(t.Context(), statement); err != nil {
			t.Fatalf("pgtest: make tenant's role: %v", err)
		}
	}
	db := TenantDB{
		ID:        id,
		Database:  name,
		Role:      name,
		OwnerURL:  s.ownerURL(name),
		TenantURL: s.as(url.UserPassword(name, password), name),
	}
	conn, err := pgx.Connect(t.Context(), db.OwnerURL)
	if err != nil {
		t.Fatalf("pgtest: connect as owner: %v", err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), insertIdentity, id); err != nil {
		t.Fatalf("pgtest: write identity: %v", err)
	}
	return db
}

// clone makes a database from a template and closes it to PUBLIC, which no
// clone inherits. After the test it goes, with the role of its name if any.
func (s *server) clone(t testing.TB, from *template, name, owner string) {
	t.Helper()
	if err := from.ensure(from.build); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	quoted := pgx.Identifier{name}.Sanitize()
	t.Cleanup(func() {
		if t.Failed() {
			u, err := url.Parse(s.adminURL(name))
			if err == nil {
				t.Logf("pgtest: kept %s until the process ends, and after it with %s=1", u.Redacted(), KeepEnv)
			}
			return
		}
		s.drop(t, quoted)
	})
	for _, statement := range []string{
		// The server has no data to speak of, so that its checkpoints cost less than the
		// write-ahead log of a whole database.
		"create database " + quoted + " template " + from.name + " owner " + owner + " strategy file_copy",
		"revoke all on database " + quoted + " from public",
	} {
		if _, err := s.admin.Exec(t.Context(), statement); err != nil {
			t.Fatalf("pgtest: clone %s: %v", from.name, err)
		}
	}
}

const selectTenants = `
select database from tenants
 union all
select 't_' || replace(id::text, '-', '') from ready_databases`

const selectDatabases = `
select coalesce(array_agg(datname::text), '{}') from pg_database
 where not datistemplate and datname !~ '^(c_|postgres$)'`

// dropTenants drops the databases that a catalog names. Left where they are, they would
// cost every later test something: the size of a server's databases is taken often.
func (s *server) dropTenants(t testing.TB, catalog string) {
	t.Helper()
	// The test's own context has ended when its cleanups run.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.dropNamed(ctx, catalog); err != nil {
		t.Errorf("pgtest: clean up: %v", err)
	}
}

func (s *server) dropNamed(ctx context.Context, catalog string) error {
	// Most catalogs name only what never was: nobody need go there to ask.
	var there []string
	if err := s.super.QueryRow(ctx, selectDatabases).Scan(&there); err != nil || len(there) == 0 {
		return err
	}
	conn, err := pgx.Connect(ctx, s.pg.URL(catalog))
	if err != nil {
		return err
	}
	rows, _ := conn.Query(ctx, selectTenants)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		return err
	}
	for _, name := range names {
		if !slices.Contains(there, name) {
			continue
		}
		if _, err := s.super.Exec(ctx, "drop database if exists "+pgx.Identifier{name}.Sanitize()+" with (force)"); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) drop(t testing.TB, quoted string) {
	// The test's own context has ended when its cleanups run.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, statement := range []string{
		"drop database if exists " + quoted + " with (force)",
		"drop role if exists " + quoted,
	} {
		if _, err := s.super.Exec(ctx, statement); err != nil {
			t.Errorf("pgtest: clean up: %v", err)
		}
	}
}
