package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/catalog/catalogtest"
	"freehold/migrations/pgtest"
)

func TestMain(m *testing.M) {
	pgtest.MainLeak(m)
}

// bench is a catalog of its own, migrated and open.
type bench struct {
	testing.TB
	cat  *catalog.Catalog
	cfg  catalog.Config
	keys *catalog.Keyset
}

func setup(t testing.TB) *bench {
	t.Helper()
	cfg := catalogtest.Config(t)
	b := &bench{TB: t, cfg: cfg, keys: cfg.Keyset}
	b.cat = b.open()
	return b
}

// setupWith is setup with a keyset of the test's own.
func setupWith(t testing.TB, keys *catalog.Keyset) *bench {
	t.Helper()
	b := &bench{TB: t, cfg: catalog.Config{URL: pgtest.Catalog(t), Keyset: keys}, keys: keys}
	_, _, err := catalog.Migrate(t.Context(), b.cfg)
	b.ok(err)
	b.cat = b.open()
	return b
}

// open opens the catalog once more, as another process would.
func (b *bench) open() *catalog.Catalog {
	b.Helper()
	c, err := catalog.Open(b.Context(), b.cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}

// ok fails the test on an error.
func (b *bench) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// is fails the test unless err is want, and unless it keeps secrets and pgx's
// texts to itself.
func (b *bench) is(err, want error) {
	b.Helper()
	if !errors.Is(err, want) {
		b.Fatalf("error is %v, want %v", err, want)
	}
}

// server registers a server that is never connected to.
func (b *bench) server(name string) catalog.Server {
	b.Helper()
	s, err := b.cat.AddServer(b.Context(), catalog.ServerSpec{
		Name: name, Host: "db.invalid", Port: 5432, SSLMode: "disable", AdminUser: "admin",
		Password: "server-pass-" + name, Version: 150000, MaxConnections: 100,
	})
	b.ok(err)
	return s
}

// tenant makes an active tenant on a server that is there for it.
func (b *bench) tenant(slug string) catalog.Tenant {
	b.Helper()
	if list, err := b.cat.Servers(b.Context()); err != nil || len(list) == 0 {
		b.ok(err)
		b.server("pg-1")
	}
	made, err := b.cat.CreateTenant(b.Context(), catalog.TenantSpec{Slug: slug}, here())
	b.ok(err)
	if made.Resumed || made.Claimed {
		b.Fatalf("tenant %s was there", slug)
	}
	b.ok(b.cat.ActivateTenant(b.Context(), made.Tenant.ID))
	b.ok(b.cat.EndOperation(b.Context(), made.Operation, catalog.OperationDone, "", 0))
	return made.Tenant
}

// here is how a test onboards: by itself.
func here() catalog.Onboarding {
	return catalog.Onboarding{
		Taker: catalog.Taker{Worker: "test", Lease: time.Minute}, Steps: []string{"register", "make"}, Latest: 1,
	}
}

func (b *bench) key(id catalog.TenantID, scopes ...string) (catalog.Key, string) {
	b.Helper()
	key, token, err := b.cat.CreateKey(b.Context(), id, catalog.KeySpec{Scopes: scopes})
	b.ok(err)
	return key, token
}

// cache starts a cache as a node has it, and stops it before the catalog closes.
func (b *bench) cache(c *catalog.Catalog, cfg catalog.CacheConfig, onChange ...func(catalog.TenantID, int64)) *catalog.Cache {
	b.Helper()
	cache := catalog.NewCache(c, cfg)
	for _, fn := range onChange {
		cache.OnChange(fn)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- cache.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	b.within(5*time.Second, "cache ready", cache.Ready)
	return cache
}

// within waits until cond holds.
func (b *bench) within(d time.Duration, what string, cond func() bool) {
	b.Helper()
	for deadline := time.Now().Add(d); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("%s: not within %s", what, d)
		}
	}
}

// admin connects as the database's owner, past every API.
func (b *bench) admin() *pgx.Conn {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), b.cfg.URL)
	b.ok(err)
	b.Cleanup(func() { conn.Close(context.WithoutCancel(b.Context())) })
	return conn
}

// as connects like a pool that has taken on a role.
func (b *bench) as(role string) *pgx.Conn {
	b.Helper()
	cfg, err := pgx.ParseConfig(b.cfg.URL)
	b.ok(err)
	cfg.RuntimeParams["role"] = role
	conn, err := pgx.ConnectConfig(b.Context(), cfg)
	b.ok(err)
	b.Cleanup(func() { conn.Close(context.WithoutCancel(b.Context())) })
	return conn
}

// super connects as the superuser to another database.
func (b *bench) super() *pgx.Conn {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), pgtest.SuperURL(b.TB))
	b.ok(err)
	b.Cleanup(func() { conn.Close(context.WithoutCancel(b.Context())) })
	return conn
}

// database is the catalog database's name.
func (b *bench) database() string {
	b.Helper()
	cfg, err := pgx.ParseConfig(b.cfg.URL)
	b.ok(err)
	return cfg.Database
}

// crc62 is a token's checksum, worked out apart from the package's own.
func crc62(body string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum := crc32.ChecksumIEEE([]byte(body))
	out := ""
	for range 6 {
		out = string(digits[sum%62]) + out
		sum /= 62
	}
	return out
}

// exec runs a statement that has to succeed.
func (b *bench) exec(conn *pgx.Conn, sql string, args ...any) {
	b.Helper()
	if _, err := conn.Exec(b.Context(), sql, args...); err != nil {
		b.Fatalf("%s: %v", sql, err)
	}
}

// number queries one number.
func (b *bench) number(conn *pgx.Conn, sql string, args ...any) (n int64) {
	b.Helper()
	if err := conn.QueryRow(b.Context(), sql, args...).Scan(&n); err != nil {
		b.Fatalf("%s: %v", sql, err)
	}
	return n
}

var serial atomic.Int64

func unique(prefix string) string { return fmt.Sprintf("%s-%d", prefix, serial.Add(1)) }
