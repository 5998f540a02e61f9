package fleet_test

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"freehold/catalog"
	"freehold/catalog/catalogtest"
	"freehold/migrations"
	"freehold/migrations/pgtest"
	"freehold/tenantdb"
	"freehold/tenantdb/fleet"
)

func TestMain(m *testing.M) {
	childMain()
	pgtest.Patient() // for servers, workers and killed processes
	// The store's HTTP server keeps a clock for the life of the process, and a
	// sweeper that sleeps on for up to 10 s after its end.
	pgtest.MainLeak(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// bench is a catalog of its own, and the process's server added to it as pg-1.
type bench struct {
	testing.TB
	cfg   catalog.Config
	cat   *catalog.Catalog
	fleet *fleet.Fleet
}

func setup(t testing.TB) *bench {
	t.Helper()
	b := &bench{TB: t}
	b.cat, b.cfg = catalogtest.Open(t)
	b.fleet = b.newFleet(fleet.Config{})
	_, err := b.fleet.AddServer(t.Context(), b.server())
	b.ok(err)
	return b
}

func (b *bench) newFleet(cfg fleet.Config) *fleet.Fleet {
	b.Helper()
	cfg.Catalog = b.cat
	f, err := fleet.New(cfg)
	b.ok(err)
	return f
}

// server is the process's server as an operator adds it.
func (b *bench) server() fleet.ServerAdd {
	b.Helper()
	u, err := url.Parse(pgtest.AdminURL(b))
	b.ok(err)
	password, _ := u.User.Password()
	return fleet.ServerAdd{
		Name: "pg-1", Password: password,
		URL: "postgres://" + u.User.Username() + "@" + u.Host + "/postgres?sslmode=disable",
	}
}

func (b *bench) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) create(slug string) catalog.Tenant {
	b.Helper()
	t, token, err := b.fleet.Create(b.Context(), catalog.TenantSpec{Slug: slug})
	b.ok(err)
	if token == "" || t.State != catalog.Active {
		b.Fatalf("created %+v, token of %d bytes", t, len(token))
	}
	return t
}

// admit lets a request in that was decided on at that epoch.
func (b *bench) admit(conn tenantdb.Conn, epoch int64) error {
	b.Helper()
	grants, err := tenantdb.On(conn, epoch).AdmitAll(b.Context(), uuid.Must(uuid.NewV7()), "key_1", plenty, []tenantdb.Admission{{
		ID: uuid.Must(uuid.NewV7()), CreatedAt: time.Now(), RequestID: "req_1", Kind: "chat", Model: "m", Most: 100,
	}})
	if err == nil && grants[0].Outcome != tenantdb.Granted {
		b.Errorf("not let in: %+v", grants[0])
	}
	return err
}

// plenty are limits that nobody meets.
var plenty = tenantdb.Limits{Tokens: 1_000_000, Slots: 1000}

// as logs in as the tenant's role, on its own database or on another.
func (b *bench) as(t catalog.Tenant, database string) (*pgx.Conn, error) {
	b.Helper()
	route, err := b.cat.Route(b.Context(), t.ID)
	b.ok(err)
	cfg := route.Config.Copy()
	cfg.Database = database
	conn, err := pgx.ConnectConfig(b.Context(), cfg)
	if err == nil {
		b.closeLater(conn)
	}
	return conn, err
}

// super looks at a database as the superuser, as the code under test never does.
func (b *bench) super(database string) *pgx.Conn {
	b.Helper()
	cfg, err := pgx.ParseConfig(pgtest.SuperURL(b))
	b.ok(err)
	cfg.Database = database
	conn, err := pgx.ConnectConfig(b.Context(), cfg)
	b.ok(err)
	b.closeLater(conn)
	return conn
}

func (b *bench) closeLater(conn *pgx.Conn) {
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	})
}

// one reads a single value.
func one[T any](b *bench, conn *pgx.Conn, sql string, args ...any) T {
	b.Helper()
	rows, _ := conn.Query(b.Context(), sql, args...)
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	b.ok(err)
	return v
}

// latest is this binary's schema of a tenant's database.
var latest = must(migrations.Tenant().Latest())

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// extra is the file of the migration after that.
var extra = fmt.Sprintf("%05d_extra.sql", latest+1)

// with is the tenants' migrations and one more.
func with(sql string) migrations.Set {
	return migrations.Tenant().With(fstest.MapFS{extra: {Data: []byte("-- +goose Up\n" + sql + "\n")}})
}
