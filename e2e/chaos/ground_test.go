package chaos_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/migrations/localpg"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/fleet"
)

const adminRole = "freehold_admin_chaos"

// ground is what the nodes stand on: a server with the catalog, which they reach
// through the proxy, and one with the tenants.
type ground struct {
	config   localpg.Config // of the tenants' server
	catalogs *localpg.Server
	servers  *localpg.Server // the tenants'; the same one in the short form
	password string          // the admin's, on both
	superURL string          // of the tenants' server
	at       string          // its address, also when it starts anew

	proxy   *proxy
	keyset  string // file
	keys    *catalog.Keyset
	cat     *catalog.Catalog // past the proxy
	fleet   *fleet.Fleet
	server  catalog.Server
	tenants []tenant
	ids     []catalog.TenantID
	keyIDs  [][]string
}

// prepare starts the servers and makes the tenants, as production makes them.
func prepare(t *testing.T, f form) (*ground, error) {
	g := &ground{password: rand.Text(), keyset: filepath.Join(t.TempDir(), "keyset")}
	var starting errgroup.Group
	g.config = localpg.Config{DataDir: pgtest.TempDir(t), MaxConnections: 150, NoSync: true}
	starting.Go(func() (err error) {
		g.servers, err = g.start(t.Context(), g.config)
		return err
	})
	if f.outages {
		apart := localpg.Config{DataDir: pgtest.TempDir(t), MaxConnections: 150, NoSync: true}
		starting.Go(func() (err error) {
			g.catalogs, err = g.start(t.Context(), apart)
			return err
		})
	}
	err := starting.Wait()
	if err == nil {
		if g.catalogs == nil {
			g.catalogs = g.servers
		}
		g.config.Port = g.servers.Port()
		g.superURL, g.at = g.servers.URL("postgres"), address(g.servers)
		err = g.populate(t.Context(), f)
	}
	if err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

func (g *ground) start(ctx context.Context, cfg localpg.Config) (*localpg.Server, error) {
	s, err := localpg.Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := s.Bootstrap(ctx, adminRole, g.password); err != nil {
		return s, err
	}
	// A fence that was told must outlast the crash of the server.
	return s, asSuper(ctx, s.URL("postgres"), func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "alter role "+adminRole+" set synchronous_commit = on")
		return err
	})
}

// asSuper runs fn with a superuser's connection: for what the test does to the
// server and looks at there, never for what the nodes do.
func asSuper(ctx context.Context, url string, fn func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return fn(conn)
}

func (g *ground) catalogURL(addr string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(adminRole, g.password), Host: addr, Path: "/freehold"}
	return u.String() + "?sslmode=disable"
}

func address(s *localpg.Server) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port()))
}

func (g *ground) populate(ctx context.Context, f form) (err error) {
	if g.keys, err = catalog.NewKeyset(); err != nil {
		return err
	}
	if err := g.keys.Write(g.keyset); err != nil {
		return err
	}
	if g.proxy, err = openProxy(address(g.catalogs)); err != nil {
		return err
	}
	cfg := catalog.Config{URL: g.catalogURL(address(g.catalogs)), Keyset: g.keys, WriterConns: 8}
	if _, _, err := catalog.Migrate(ctx, cfg); err != nil {
		return err
	}
	if g.cat, err = catalog.Open(ctx, cfg); err != nil {
		return err
	}
	if g.fleet, err = fleet.New(fleet.Config{Catalog: g.cat, DeadAfter: catalog.DeadAfter(staleServe)}); err != nil {
		return err
	}
	g.server, err = g.fleet.AddServer(ctx, fleet.ServerAdd{
		Name: "pg-1", Password: g.password, Budget: f.budget, Reserve: 40,
		URL: "postgres://" + adminRole + "@" + g.at + "/postgres?sslmode=disable",
	})
	if err != nil {
		return err
	}
	g.tenants = make([]tenant, f.tenants)
	g.ids = make([]catalog.TenantID, f.tenants)
	g.keyIDs = make([][]string, f.tenants)
	var making errgroup.Group
	making.SetLimit(4)
	for i := range g.tenants {
		making.Go(func() error { return g.create(ctx, i, i < f.hot, f.keys) })
	}
	if err := making.Wait(); err != nil {
		return err
	}
	// Else the first crash would have all of the creation to recover.
	return asSuper(ctx, g.superURL, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "checkpoint")
		return err
	})
}

// create makes a tenant; the hot ones get more keys, to be revoked.
func (g *ground) create(ctx context.Context, i int, hot bool, keys int) error {
	made, token, err := g.fleet.Create(ctx, catalog.TenantSpec{Slug: fmt.Sprintf("tenant-%03d", i)})
	if err != nil {
		return err
	}
	tokens, ids := []string{token}, []string{""}
	for range keys {
		if !hot {
			break
		}
		key, token, err := g.cat.CreateKey(ctx, made.ID, catalog.KeySpec{Scopes: []string{catalog.ScopeAll}})
		if err != nil {
			return err
		}
		tokens, ids = append(tokens, token), append(ids, key.ID)
	}
	g.tenants[i], g.ids[i], g.keyIDs[i] = tenant{made.ID.String(), tokens}, made.ID, ids
	return nil
}

// crash ends the tenants' server at once, and starts it again after a moment.
func (g *ground) crash(down time.Duration) error {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = g.servers.Stop(now) // that it took more than a signal is all the same
	time.Sleep(down)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := localpg.Start(ctx, g.config)
	if err == nil {
		g.servers = s
	}
	return err
}

func (g *ground) close() {
	if g.proxy != nil {
		g.proxy.close()
	}
	if g.cat != nil {
		g.cat.Close()
	}
	now, cancel := context.WithCancel(context.Background())
	cancel()
	var errs []error
	for _, s := range []*localpg.Server{g.servers, g.catalogs} {
		if s != nil {
			errs = append(errs, s.Stop(now))
		}
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Println("chaos:", err)
	}
}
