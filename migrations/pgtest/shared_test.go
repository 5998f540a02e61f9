package pgtest_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"freehold/migrations/localpg"
	"freehold/migrations/pgtest"
)

// Two processes begin at once, after one that was killed as it made the cluster.
func TestSharedCluster(t *testing.T) {
	t.Parallel()
	from := filepath.Join(t.TempDir(), "shared")
	if err := os.Mkdir(from+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(from+".new", "password"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	folders := []string{pgtest.TempDir(t), pgtest.TempDir(t)}
	var makers sync.WaitGroup
	for _, folder := range folders {
		makers.Go(func() {
			if err := pgtest.Fill(t.Context(), from, folder); err != nil {
				t.Error(err)
			}
		})
	}
	makers.Wait()
	if t.Failed() {
		return
	}
	var passwords []string
	for _, folder := range folders {
		content, err := os.ReadFile(filepath.Join(folder, "password"))
		if err != nil {
			t.Fatal(err)
		}
		passwords = append(passwords, string(content))
	}
	if passwords[0] != passwords[1] || len(passwords[0]) < 20 {
		t.Error("the two aren't copies of one cluster")
	}
	s, err := localpg.Start(t.Context(), localpg.Config{DataDir: folders[1], NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	conn := connect(t, s.URL("postgres"))
	if n := scan[int](t, conn, `select count(*) from pg_database where datistemplate and not datallowconn
		and datname in ('catalog_template', 'tenant_template')`); n != 2 {
		t.Errorf("%d templates are there", n)
	}
	if left, _ := filepath.Glob(from + ".new"); left != nil {
		t.Errorf("left %v", left)
	}
}

// A catalog is a clone of what build made of one, once; others have nothing of it.
func TestCatalogFrom(t *testing.T) {
	t.Parallel()
	const read = "select n from public.extra"
	builds := 0
	build := func(ctx context.Context, url string) error {
		builds++
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, "create table public.extra as select 7 as n")
		return errors.Join(err, conn.Close(ctx))
	}
	for range 2 {
		conn := connect(t, pgtest.CatalogFrom(t, build))
		if n := scan[int](t, conn, read); n != 7 || builds != 1 {
			t.Errorf("after %d builds the table has %d", builds, n)
		}
		if _, err := conn.Exec(t.Context(), "update public.extra set n = 8"); err != nil {
			t.Error(err)
		}
	}
	var refused *pgconn.PgError
	if err := connect(t, pgtest.Catalog(t)).QueryRow(t.Context(), read).Scan(new(int)); !errors.As(err, &refused) || refused.Code != "42P01" {
		t.Errorf("the table in a bare catalog: %v", err)
	}
}

const insertTenant = `
with s as (insert into servers (id, name, host, port, ssl_mode, admin_user, admin_secret, secret_key_id,
                                version, max_connections, budget, reserve)
           values (gen_random_uuid(), 'main', 'db.invalid', 5432, 'disable', 'admin', '', 1, 150000, 100, 90, 10)
           returning id)
insert into tenants (id, slug, name, state, server_id, database, role, secret, secret_key_id, epoch)
select gen_random_uuid(), slug, slug, 'active', s.id, slug, slug, '', 1, 1
  from s, unnest($1::text[]) slug`

// The tenants' databases go with the catalog that names them, and no others do.
func TestTenantsGoWithTheirCatalog(t *testing.T) {
	t.Parallel()
	super := connect(t, pgtest.SuperURL(t))
	names := []string{"named-tenant", "unnamed-tenant"}
	for _, name := range names {
		quoted := pgx.Identifier{name}.Sanitize()
		if _, err := super.Exec(t.Context(), "create database "+quoted+" allow_connections false"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if _, err := super.Exec(context.Background(), "drop database if exists "+quoted); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("a test", func(t *testing.T) {
		var refused *pgconn.PgError
		_, err := connect(t, pgtest.Catalog(t)).Exec(t.Context(), insertTenant, []string{"named-tenant", "never-made", "postgres"})
		if errors.As(err, &refused) {
			t.Fatalf("%s %s", refused.Message, refused.Detail)
		}
	})
	if n := scan[int](t, super, "select count(*) from pg_database where datname = any($1)", append(names, "postgres")); n != 2 {
		t.Errorf("%d databases are there", n)
	}
	if n := scan[int](t, super, "select count(*) from pg_database where datname = 'unnamed-tenant'"); n != 1 {
		t.Error("the one that no catalog names is gone")
	}
}
