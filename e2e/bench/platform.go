package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/migrations/localpg"
	"freehold/tenantdb/fleet"
)

const (
	minTenants     = 20
	maxConnections = 3200
	adminName      = "freehold_admin_bench"
)

// benchTable is a product's own table, in the template that tenants are cloned
// from.
const benchTable = `-- +goose Up
create schema bench;
create table bench.items (
    id   bigint generated always as identity primary key,
    k    integer not null,
    note text not null
);
insert into bench.items (k, note) select g, repeat('x', 100) from generate_series(1, 1000) g;
create index on bench.items (k);
grant usage on schema bench to freehold_tenant;
grant select, insert on bench.items to freehold_tenant;
`

// itemKeys is how many keys of bench.items there are to look for.
const itemKeys = 1000

// platform is a Postgres server with tenants, made as production makes them.
// Close it.
type platform struct {
	folder  string
	server  *localpg.Server
	super   *pgx.Conn // for what a benchmark looks at; one user at a time
	tenants []catalog.Route
}

// openPlatform starts the server and makes the tenants.
func openPlatform(ctx context.Context, b *bench) (*platform, error) {
	clearEnvironment()
	folder, err := os.MkdirTemp("", "freehold-bench-")
	if err != nil {
		return nil, err
	}
	p := &platform{folder: folder}
	if err := p.open(ctx, b); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// clearEnvironment forgets what libpq's variables say: it is about another server.
func clearEnvironment() {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "PG") {
			_ = os.Unsetenv(name)
		}
	}
}

func (p *platform) open(ctx context.Context, b *bench) (err error) {
	p.server, err = localpg.Start(ctx, localpg.Config{DataDir: p.folder, MaxConnections: maxConnections})
	if err != nil {
		return err
	}
	if p.super, err = pgx.Connect(ctx, p.server.URL("postgres")); err != nil {
		return err
	}
	b.progress("%s", machine())
	b.progress("%s", p.describe(ctx))
	b.progress("making %d tenants", b.opt.tenants)
	began := time.Now()
	if err := p.populate(ctx, b.opt.tenants); err != nil {
		return fmt.Errorf("make tenants: %w", err)
	}
	b.progress("made in %s", time.Since(began).Round(time.Second))
	return nil
}

// describe says what is measured on.
func (p *platform) describe(ctx context.Context) string {
	var version, fsync, commit string
	err := p.super.QueryRow(ctx, `select current_setting('server_version'), current_setting('fsync'),
		current_setting('synchronous_commit')`).Scan(&version, &fsync, &commit)
	if err != nil {
		return "Postgres: " + err.Error()
	}
	return fmt.Sprintf("Postgres %s on loopback, fsync %s, synchronous_commit %s, %d connections",
		version, fsync, commit, maxConnections)
}

// populate makes the tenants on the product's own code path, catalog and all; the
// catalog isn't needed after that.
func (p *platform) populate(ctx context.Context, n int) error {
	password := rand.Text()
	if err := p.server.Bootstrap(ctx, adminName, password); err != nil {
		return err
	}
	at := "127.0.0.1:" + strconv.Itoa(p.server.Port())
	keys, err := catalog.NewKeyset()
	if err != nil {
		return err
	}
	cfg := catalog.Config{Keyset: keys, URL: (&url.URL{Scheme: "postgres", User: url.UserPassword(adminName, password),
		Host: at, Path: "/freehold_bench", RawQuery: "sslmode=disable"}).String()}
	if _, _, err := catalog.Migrate(ctx, cfg); err != nil {
		return err
	}
	cat, err := catalog.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer cat.Close()
	fl, err := fleet.New(fleet.Config{Catalog: cat, Tenant: migrations.Tenant().With(fstest.MapFS{
		"90000_bench.sql": {Data: []byte(benchTable)},
	})})
	if err != nil {
		return err
	}
	if _, err := fl.AddServer(ctx, fleet.ServerAdd{Name: "bench", Password: password,
		URL: "postgres://" + adminName + "@" + at + "/postgres?sslmode=disable"}); err != nil {
		return err
	}
	p.tenants = make([]catalog.Route, n)
	var making errgroup.Group
	making.SetLimit(4)
	for i := range p.tenants {
		making.Go(func() error {
			t, _, err := fl.Create(ctx, catalog.TenantSpec{Slug: fmt.Sprintf("tenant-%04d", i)})
			if err == nil {
				p.tenants[i], err = cat.Route(ctx, t.ID)
			}
			return err
		})
	}
	return making.Wait()
}

// count returns a number that the superuser reads.
func (p *platform) count(ctx context.Context, sql string, args ...any) (n int64, err error) {
	err = p.super.QueryRow(ctx, sql, args...).Scan(&n)
	return n, err
}

const countBackends = `
select count(*) from pg_stat_activity
 where backend_type = 'client backend' and application_name like $1`

// backends counts the server's connections by the name that they go by.
func (p *platform) backends(ctx context.Context, application string) (int64, error) {
	return p.count(ctx, countBackends, application)
}

// settle waits until no tenant's connection is left of those who closed theirs.
func (p *platform) settle(ctx context.Context, application string) error {
	for end := time.Now().Add(20 * time.Second); ; {
		n, err := p.backends(ctx, application)
		if err != nil || n == 0 {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d backends of %s are left", n, application)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (p *platform) close() {
	// The run may have been interrupted, and this must be done all the same.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var errs []error
	if p.super != nil {
		errs = append(errs, p.super.Close(ctx))
	}
	if p.server != nil {
		errs = append(errs, p.server.Stop(ctx), os.RemoveAll(p.server.Folder()))
	}
	errs = append(errs, os.RemoveAll(p.folder))
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}
