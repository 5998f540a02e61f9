package pgtest_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"freehold/migrations"
	"freehold/migrations/pgtest"
)

func TestMain(m *testing.M) { pgtest.MainLeak(m) }

func connect(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func scan[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var value T
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// Each login wants its own password, however little hashing it has.
func TestPasswords(t *testing.T) {
	t.Parallel()
	for name, address := range map[string]string{
		"superuser": pgtest.SuperURL(t), "admin": pgtest.AdminURL(t), "tenant": pgtest.Tenant(t).TenantURL,
	} {
		connect(t, address)
		cfg, err := pgx.ParseConfig(address)
		if err != nil {
			t.Fatal(err)
		}
		for _, wrong := range []string{cfg.Password + "x", cfg.Password[1:]} {
			cfg.Password = wrong
			var refused *pgconn.PgError
			if _, err := pgx.ConnectConfig(t.Context(), cfg); !errors.As(err, &refused) || refused.Code != "28P01" {
				t.Errorf("%s with another password: %v", name, err)
			}
		}
	}
}

func TestAdminHasThreeRights(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.AdminURL(t))
	got := scan[string](t, conn, `select format('%s %s %s %s %s %s', rolcanlogin, rolcreatedb, rolcreaterole,
		rolsuper, rolreplication, rolbypassrls) from pg_roles where rolname = current_user`)
	if got != "t t t f f f" {
		t.Errorf("login, createdb, createrole, super, replication, bypassrls = %s", got)
	}
}

func TestCatalog(t *testing.T) {
	t.Parallel()
	address := pgtest.Catalog(t)
	conn := connect(t, address)
	want, err := migrations.Catalog().Latest()
	if err != nil {
		t.Fatal(err)
	}
	if v, err := migrations.Version(t.Context(), conn, migrations.Catalog()); v != want || err != nil {
		t.Errorf("version = %d, %v; want %d", v, err, want)
	}
	if other := pgtest.Catalog(t); other == address {
		t.Error("two calls gave one database")
	}
	if got := scan[bool](t, conn, "select has_database_privilege('freehold_tenant', current_database(), 'connect')"); got {
		t.Error("anybody may connect to a catalog")
	}
}

func TestTenantIsConfined(t *testing.T) {
	t.Parallel()
	a, b := pgtest.Tenant(t), pgtest.Tenant(t)
	own := connect(t, a.TenantURL)
	if got := scan[uuid.UUID](t, own, "select tenant from freehold.tenant_identity"); got != a.ID {
		t.Errorf("identity = %s, want %s", got, a.ID)
	}
	if got := scan[string](t, own, "select current_user"); got != a.Role {
		t.Errorf("role = %s", got)
	}
	if got := scan[string](t, connect(t, a.OwnerURL), "select current_user"); got != migrations.RoleOwner {
		t.Errorf("owner = %s", got)
	}
	catalog := connect(t, pgtest.Catalog(t)).Config().Database
	for _, database := range []string{b.Database, catalog, "postgres", "template1", "template0", "catalog_template", "queued_catalog_template", "tenant_template"} {
		u, err := url.Parse(a.TenantURL)
		if err != nil {
			t.Fatal(err)
		}
		u.Path = "/" + database
		conn, err := pgx.Connect(t.Context(), u.String())
		if err == nil {
			_ = conn.Close(t.Context())
			t.Errorf("the tenant's role got into %s", database)
		}
	}
	var refused *pgconn.PgError
	if _, err := own.Exec(t.Context(), "create schema freehold2"); !errors.As(err, &refused) || refused.Code != "42501" {
		t.Errorf("create schema: %v", err)
	}
	if _, err := own.Exec(t.Context(), "update freehold.tenant_identity set fence = 0"); !errors.As(err, &refused) || refused.Code != "42501" {
		t.Errorf("write the fence: %v", err)
	}
}

func TestDropped(t *testing.T) {
	t.Parallel()
	super := connect(t, pgtest.SuperURL(t))
	var names []string
	t.Run("databases of a test", func(t *testing.T) {
		tenant := pgtest.Tenant(t)
		names = []string{tenant.Database, connect(t, pgtest.Catalog(t)).Config().Database}
		connect(t, tenant.TenantURL) // an open session doesn't hold it
	})
	if n := scan[int](t, super, "select count(*) from pg_database where datname = any($1)", names); n != 0 {
		t.Errorf("%d databases are left", n)
	}
	if n := scan[int](t, super, "select count(*) from pg_roles where rolname = any($1)", names); n != 0 {
		t.Errorf("%d roles are left", n)
	}
}

// failing is a test that failed. It stands for a real one, whose failure would
// be this package's too.
type failing struct {
	testing.TB
	mu       sync.Mutex
	log      strings.Builder
	cleanups []func()
}

func (f *failing) Failed() bool      { return true }
func (f *failing) Cleanup(fn func()) { f.cleanups = append(f.cleanups, fn) }
func (f *failing) Logf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fmt.Fprintf(&f.log, format, args...)
}

func TestFailedTestKeepsItsDatabase(t *testing.T) {
	t.Parallel()
	f := &failing{TB: t}
	address := pgtest.Catalog(f)
	for _, cleanup := range f.cleanups {
		cleanup()
	}
	cfg := connect(t, address).Config() // it is still there
	if log := f.log.String(); !strings.Contains(log, cfg.Database) || strings.Contains(log, cfg.Password) {
		t.Errorf("log = %q", log)
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			connect(t, pgtest.Tenant(t).TenantURL)
		})
	}
}
