package pgtest_test

import (
	"net/url"
	"testing"

	"freehold/migrations"
	"freehold/migrations/pgtest"
)

// Two servers, each closed to strangers and with an admin and groups of its own.
func TestSecond(t *testing.T) {
	t.Parallel()
	super, admin := connect(t, pgtest.SecondSuperURL(t)), connect(t, pgtest.SecondAdminURL(t))
	if first := connect(t, pgtest.SuperURL(t)); first.Config().Port == super.Config().Port || admin.Config().Port != super.Config().Port {
		t.Error("the second server is the first")
	}
	if got := scan[string](t, super, "select current_setting('wal_level')"); got != "logical" {
		t.Errorf("wal_level = %s", got)
	}
	if got := scan[bool](t, super, "select rolsuper from pg_roles where rolname = current_user"); !got {
		t.Error("the superuser isn't one")
	}
	got := scan[string](t, admin, `select format('%s %s %s %s %s', rolcanlogin, rolcreatedb, rolcreaterole, rolsuper, rolreplication)
		from pg_roles where rolname = current_user`)
	if got != "t t t f f" {
		t.Errorf("the admin's login, createdb, createrole, super, replication = %s", got)
	}
	if got := scan[bool](t, admin, "select has_database_privilege('freehold_tenant', 'template1', 'connect')"); got {
		t.Error("anybody may connect to template1")
	}
	u, err := url.Parse(pgtest.SecondAdminURL(t))
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery += "&role=" + migrations.RoleOwner
	if got := scan[string](t, connect(t, u.String()), "select current_user"); got != migrations.RoleOwner {
		t.Errorf("owner = %s", got)
	}
}
