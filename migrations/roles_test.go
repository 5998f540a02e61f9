package migrations_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"freehold/migrations"
	"freehold/migrations/localpg"
	"freehold/migrations/pgtest"
)

// freshServer is a server of the test's own, for roles are shared by all
// databases of one, with the admin's configuration on three databases.
func freshServer(t *testing.T) (super *pgx.ConnConfig, admin []*pgx.ConnConfig) {
	t.Helper()
	s, err := localpg.Start(t.Context(), localpg.Config{DataDir: pgtest.TempDir(t), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.Background()) })
	if super, err = pgx.ParseConfig(s.URL("postgres")); err != nil {
		t.Fatal(err)
	}
	exec(t, super, "create role admin login createdb createrole password 'x'")
	for _, name := range []string{"one", "two", "three"} {
		exec(t, super, "create database "+name+" owner admin")
		cfg := super.Copy()
		cfg.User, cfg.Password, cfg.Database = "admin", "x", name
		admin = append(admin, cfg)
	}
	return super, admin
}

func ensureAll(ctx context.Context, conn *pgx.Conn) error {
	return errors.Join(migrations.EnsureCatalogRoles(ctx, conn), migrations.EnsureServerRoles(ctx, conn))
}

func TestEnsureRoles(t *testing.T) {
	t.Parallel()
	super, admin := freshServer(t)

	// Many processes at once, on several databases of one server.
	var conns []*pgx.Conn
	for i := range 12 {
		conns = append(conns, connect(t, admin[i%len(admin)]))
	}
	var wg sync.WaitGroup
	for _, conn := range conns {
		wg.Go(func() {
			if err := ensureAll(t.Context(), conn); err != nil {
				t.Errorf("ensure: %v", err)
			}
		})
	}
	wg.Wait()
	if err := ensureAll(t.Context(), conns[0]); err != nil {
		t.Errorf("ensure again: %v", err)
	}
	for _, role := range []string{
		migrations.RoleAPI, migrations.RoleAuth, migrations.RoleCatalog,
		migrations.RoleOwner, migrations.RoleTenant, migrations.RoleSealer,
	} {
		exec(t, admin[0], "set role "+role)
		if query[bool](t, super, "select rolcanlogin from pg_roles where rolname = '"+role+"'") {
			t.Errorf("%s can log in", role)
		}
	}
	// What the admin needs them for.
	exec(t, admin[0], "create database owned owner freehold_owner")
	exec(t, admin[0], "revoke all on database owned from public")
	exec(t, admin[0], "create role login_role login password 'x' in role freehold_tenant")
	exec(t, admin[0], "grant connect on database owned to login_role")
	if !query[bool](t, super, "select has_database_privilege('login_role', 'owned', 'connect')") {
		t.Error("the admin's grant on the owner's database did nothing")
	}
	owner := admin[0].Copy()
	owner.Database = "owned"
	owner.RuntimeParams["role"] = "freehold_owner"
	exec(t, owner, "create schema freehold")

	// The same name with rights that break the isolation is refused.
	exec(t, super, "alter role freehold_api login")
	if err := migrations.EnsureCatalogRoles(t.Context(), conns[0]); !errors.Is(err, migrations.ErrUnsafeRole) {
		t.Errorf("a group that can log in: %v", err)
	}
	exec(t, super, "alter role freehold_api nologin")
	// Row-level security looks at memberships: this one would lift it.
	exec(t, super, "grant freehold_catalog to freehold_api")
	if err := migrations.EnsureCatalogRoles(t.Context(), conns[0]); !errors.Is(err, migrations.ErrUnsafeRole) {
		t.Errorf("a group that belongs to another: %v", err)
	}
	// Who may not grant is told what to ask a superuser for.
	exec(t, super, "create role stranger login password 'x'")
	stranger := admin[0].Copy()
	stranger.User, stranger.Database = "stranger", "one"
	if err := migrations.EnsureServerRoles(t.Context(), connect(t, stranger)); !errors.Is(err, migrations.ErrNotGranted) {
		t.Errorf("a stranger: %v", err)
	}
	exec(t, super, "grant freehold_owner, freehold_tenant, freehold_sealer to stranger with admin option")
	if err := migrations.EnsureServerRoles(t.Context(), connect(t, stranger)); err != nil {
		t.Errorf("a stranger let in: %v", err)
	}
}
