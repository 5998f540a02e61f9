package pgtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/url"
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
func Catalog(t testing.TB) string {
	t.Helper()
	s := get(t)
	name := "c_" + strings.ToLower(rand.Text())
	s.clone(t, &s.catalog, name, adminRole)
	url := s.adminURL(name)
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
	s.clone(t, &s.tenant, name, migrations.RoleOwner)
	for _, statement := range []string{
		"create role " + quoted + " login password '" + password + "'",
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
	if err := from.ensure(); err != nil {
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
		"create database " + quoted + " template " + from.name + " owner " + owner,
		"revoke all on database " + quoted + " from public",
	} {
		if _, err := s.admin.Exec(t.Context(), statement); err != nil {
			t.Fatalf("pgtest: clone %s: %v", from.name, err)
		}
	}
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
