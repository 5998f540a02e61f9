package fleet_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb"
	"freehold/tenantdb/fleet"
)

func TestAddServer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	servers, err := b.cat.Servers(t.Context())
	b.ok(err)
	s := servers[0]
	// 300 connections, 3 for superusers, a tenth in reserve.
	if len(servers) != 1 || s.MaxConnections != 300 || s.Reserve != 29 || s.Budget != 268 || s.Version < 150000 {
		t.Errorf("server %+v", s)
	}
	again := b.server()
	again.Budget, again.Reserve, again.Region = 20, 10, "eu"
	changed, err := b.fleet.AddServer(t.Context(), again)
	b.ok(err)
	if changed.ID != s.ID || changed.Budget != 20 || changed.Reserve != 10 || changed.Region != "eu" {
		t.Errorf("added again: %+v", changed)
	}
	again.Budget, again.Reserve = 200, 97 // to the last connection
	_, err = b.fleet.AddServer(t.Context(), again)
	b.ok(err)
	super := b.super("postgres")
	acme := b.create("acme")
	_, err = b.fleet.AddServer(t.Context(), again) // with its tenants there
	b.ok(err)
	// A server of that name that has none of its tenants is another one.
	_, err = super.Exec(t.Context(), "alter database "+acme.Database+" rename to t_elsewhere")
	b.ok(err)
	if _, err := b.fleet.AddServer(t.Context(), again); !errors.Is(err, catalog.ErrExists) {
		t.Errorf("another cluster at the host: %v", err)
	}
	if n := one[int](b, super, "select count(*)::int from pg_roles where rolname like 'freehold_probe_%' and rolvaliduntil < now()"); n != 0 {
		t.Errorf("%d throw-away roles left", n)
	}
}

func TestAddServerRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	good := b.server()
	super := b.super("postgres")
	for _, role := range []string{"freehold_no_db createrole", "freehold_no_role createdb"} {
		name, _, _ := strings.Cut(role, " ")
		_, err := super.Exec(t.Context(), "create role "+name+" login password 'pw' "+strings.TrimPrefix(role, name))
		b.ok(err)
		_, err = super.Exec(t.Context(), "grant connect on database postgres to "+name)
		b.ok(err)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			super, err := pgx.Connect(ctx, pgtest.SuperURL(t))
			b.ok(err)
			defer func() { _ = super.Close(ctx) }()
			for _, sql := range []string{"revoke connect on database postgres from " + name, "drop role " + name} {
				_, err := super.Exec(ctx, sql)
				b.ok(err)
			}
		})
	}
	as := func(user string) string { return strings.Replace(good.URL, "freehold_admin_test", user, 1) }
	for name, c := range map[string]struct {
		change func(*fleet.ServerAdd)
		want   error
		text   string
	}{
		"no TLS on the way":      {func(a *fleet.ServerAdd) { a.URL = "postgres://a@db.example:5432/postgres" }, fleet.ErrInsecureServer, ""},
		"TLS that proves little": {func(a *fleet.ServerAdd) { a.URL = "postgres://a@192.0.2.1/postgres?sslmode=require" }, fleet.ErrInsecureServer, ""},
		"not loopback after all": {func(a *fleet.ServerAdd) { a.URL = "postgres://a@127.0.0.1.example/postgres" }, fleet.ErrInsecureServer, ""},
		"password in the URL":    {func(a *fleet.ServerAdd) { a.URL = "postgres://a:hunter2@localhost/postgres" }, catalog.ErrInvalid, "password"},
		"not a URL":              {func(a *fleet.ServerAdd) { a.URL = "host=localhost password=hunter2" }, catalog.ErrInvalid, "URL"},
		"all mistakes at once": {func(a *fleet.ServerAdd) { a.URL = "postgres://localhost/x?sslmode=prefer&a=b" }, catalog.ErrInvalid,
			"parameter \"a\""},
		"no such CA file": {func(a *fleet.ServerAdd) { a.URL += "&sslrootcert=/nowhere.pem" }, catalog.ErrInvalid, "sslrootcert"},
		"nobody listens":  {func(a *fleet.ServerAdd) { a.URL = "postgres://a@127.0.0.1:1/postgres" }, tenantdb.ErrUnavailable, "connection refused"},
		"wrong password":  {func(a *fleet.ServerAdd) { a.Password = "hunter2" }, tenantdb.ErrUnavailable, "28P01"},
		"TLS refused": {func(a *fleet.ServerAdd) { a.URL = strings.Replace(a.URL, "disable", "verify-full", 1) }, tenantdb.ErrUnavailable,
			"refused TLS"},
		"budget too high":   {func(a *fleet.ServerAdd) { a.Budget = 290 }, fleet.ErrServerUnfit, "297"},
		"together too high": {func(a *fleet.ServerAdd) { a.Budget, a.Reserve = 200, 98 }, fleet.ErrServerUnfit, "297"},
		"reserve too high":  {func(a *fleet.ServerAdd) { a.Reserve = 297 }, fleet.ErrServerUnfit, "297"},
		"no CREATEDB":       {func(a *fleet.ServerAdd) { a.URL, a.Password = as("freehold_no_db"), "pw" }, fleet.ErrServerUnfit, "CREATEDB"},
		"no CREATEROLE":     {func(a *fleet.ServerAdd) { a.URL, a.Password = as("freehold_no_role"), "pw" }, fleet.ErrServerUnfit, "CREATEROLE"},
		"another host's name": {func(a *fleet.ServerAdd) { a.URL = strings.Replace(a.URL, "127.0.0.1", "localhost", 1) },
			catalog.ErrExists, ""},
	} {
		add := good
		c.change(&add)
		_, err := b.fleet.AddServer(t.Context(), add)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), good.Password) {
			t.Errorf("%s: a password in the error", name)
		}
	}
}

// Not parallel: the hole is the whole server's.
func TestAddServerFindsOpenDatabases(t *testing.T) {
	b := setup(t)
	super := b.super("postgres")
	const open = "freehold_open_test"
	_, err := super.Exec(t.Context(), "create database "+open)
	b.ok(err)
	defer func() {
		_, err := super.Exec(t.Context(), "drop database "+open)
		b.ok(err)
	}()
	_, err = b.fleet.AddServer(t.Context(), b.server())
	want := fleet.SuperuserStatement("freehold_admin_test", open)
	if !errors.Is(err, fleet.ErrServerOpen) || !strings.Contains(err.Error(), want) {
		t.Fatalf("%v", err)
	}
	findings, err := b.fleet.Doctor(t.Context())
	b.ok(err)
	if f := finding(findings, "everybody can connect to "+open); f == nil || f.OK || !strings.Contains(f.Fix, want) {
		t.Errorf("doctor: %+v", findings)
	}
	_, err = super.Exec(t.Context(), want) // what was printed is what helps
	b.ok(err)
	_, err = b.fleet.AddServer(t.Context(), b.server())
	b.ok(err)
}

func TestSuperuserStatement(t *testing.T) {
	t.Parallel()
	got := fleet.SuperuserStatement(`an"admin`, "postgres", "shop")
	want := `revoke connect on database "postgres", "template1", "shop" from public; ` +
		`grant connect on database "postgres" to "an""admin";`
	if got != want {
		t.Errorf("%s", got)
	}
}

func finding(list []fleet.Finding, part string) *fleet.Finding {
	for i := range list {
		if strings.Contains(list[i].What, part) {
			return &list[i]
		}
	}
	return nil
}
