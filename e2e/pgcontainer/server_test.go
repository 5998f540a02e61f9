//go:build e2e

package pgcontainer_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"freehold/e2e/pgcontainer"
)

func TestServer(t *testing.T) {
	t.Parallel()
	s := pgcontainer.Start(t, pgcontainer.Options{Settings: []string{"idle_session_timeout=10min"}})
	admin := connect(t, s.AdminURL("postgres"))

	t.Run("the admin has three attributes and no more", func(t *testing.T) {
		const attributes = `select rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls,
			(select count(*) from pg_auth_members m where m.member = r.oid) from pg_roles r where rolname = current_user`
		var super, createDB, createRole, replication, bypass bool
		var memberships int
		err := admin.QueryRow(t.Context(), attributes).Scan(&super, &createDB, &createRole, &replication, &bypass, &memberships)
		if err != nil || super || !createDB || !createRole || replication || bypass || memberships != 0 {
			t.Errorf("superuser %v, createdb %v, createrole %v, replication %v, bypassrls %v, %d memberships, %v",
				super, createDB, createRole, replication, bypass, memberships, err)
		}
	})
	t.Run("the server's settings", func(t *testing.T) {
		for name, want := range map[string]string{"max_connections": "200", "wal_level": "logical", "idle_session_timeout": "10min"} {
			var got string
			if err := admin.QueryRow(t.Context(), "select current_setting($1)", name).Scan(&got); err != nil || got != want {
				t.Errorf("%s is %q, want %q (%v)", name, got, want, err)
			}
		}
	})
	t.Run("the admin creates a database and a role", func(t *testing.T) {
		exec(t, admin, "create database fresh", "create role stranger login password 'stranger'")
		connect(t, s.AdminURL("fresh"))
	})
	t.Run("nobody else reaches postgres or template1", func(t *testing.T) {
		for _, database := range []string{"postgres", "template1"} {
			cfg, err := pgx.ParseConfig(s.AdminURL(database))
			if err != nil {
				t.Fatal(err)
			}
			cfg.User, cfg.Password = "stranger", "stranger"
			_, err = pgx.ConnectConfig(t.Context(), cfg)
			var refused *pgconn.PgError
			if !errors.As(err, &refused) || refused.Code != "42501" {
				t.Errorf("%s: got %v, want insufficient_privilege", database, err)
			}
		}
	})
	t.Run("an outage", func(t *testing.T) {
		before := connect(t, s.AdminURL("fresh"))
		exec(t, before, "create table kept ()")
		s.Stop(t)
		if err := before.Ping(t.Context()); err == nil {
			t.Error("a connection outlived the server")
		}
		s.Resume(t)
		exec(t, connect(t, s.AdminURL("fresh")), "table kept")
	})
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := pgcontainer.Start(t, pgcontainer.Options{TLS: true})
	var version string
	const ask = "select version from pg_stat_ssl where pid = pg_backend_pid() and ssl"
	if err := connect(t, s.AdminURL("postgres")).QueryRow(t.Context(), ask).Scan(&version); err != nil || version != "TLSv1.3" {
		t.Errorf("got %q, %v", version, err)
	}
	// Without the certificate to verify it with, the server is a stranger.
	unverified, _, _ := strings.Cut(s.AdminURL("postgres"), "&sslrootcert=")
	if conn, err := pgx.Connect(t.Context(), unverified); err == nil {
		_ = conn.Close(t.Context())
		t.Error("connected to a server that nobody vouches for")
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}
