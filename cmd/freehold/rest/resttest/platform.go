// Package resttest composes the real parts below the doors for the doors' tests:
// catalog, cache, fleet, router and pipeline on a real Postgres, and an engine
// that the test drives.
package resttest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/catalog/catalogtest"
	"freehold/cmd/freehold/rest"
	"freehold/inference"
	"freehold/inference/engine"
	"freehold/migrations"
	"freehold/migrations/pgtest"
	"freehold/router"
	"freehold/tenantdb"
	"freehold/tenantdb/fleet"
)

// Names of what every platform has.
const (
	Server     = "pg-1"
	EngineName = "fake"
	ChatModel  = "chat-1"
	EmbedModel = "embed-1"
	SlashModel = "meta-llama/Llama-3"
)

// Platform is a node's parts, all of them real but the engine.
type Platform struct {
	testing.TB
	Catalog   *catalog.Catalog
	Cache     *catalog.Cache
	Fleet     *fleet.Fleet
	Router    *router.Router
	Inference *inference.Service
	Engine    *Engine
	Logs      *Logs
	Logger    *slog.Logger
	Database  string // the catalog's, for tests that look at its rows

	real atomic.Pointer[engine.Engine]
}

// Open makes a platform with one server, the fake engine and three models. It is
// closed after the test.
func Open(t testing.TB) *Platform {
	t.Helper()
	return open(t, 0)
}

// OpenUnpolled is Open with a node that looks at the catalog once: of what comes
// later it knows what it is notified of.
func OpenUnpolled(t testing.TB) *Platform {
	t.Helper()
	return open(t, time.Hour)
}

func open(t testing.TB, poll time.Duration) *Platform {
	t.Helper()
	p := &Platform{TB: t, Engine: &Engine{}, Logs: &Logs{}}
	p.Logger = slog.New(slog.NewTextHandler(p.Logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p.openCatalog()
	p.addServer()
	_, err := p.Catalog.AddEngine(t.Context(), catalog.EngineSpec{Name: EngineName, Kind: "builtin"})
	p.OK(err)
	for name, kind := range map[string]string{ChatModel: "chat", SlashModel: "chat", EmbedModel: "embedding"} {
		_, err := p.Catalog.AddModel(t.Context(), catalog.Model{Name: name, Engine: EngineName, Upstream: name, Kind: kind})
		p.OK(err)
	}
	p.run(poll)
	return p
}

func (p *Platform) openCatalog() {
	p.Helper()
	cfg := catalogtest.Config(p)
	cfg.Logger = p.Logger
	u, err := url.Parse(cfg.URL)
	p.OK(err)
	p.Database = strings.TrimPrefix(u.Path, "/")
	p.Catalog, err = catalog.Open(p.Context(), cfg)
	p.OK(err)
	p.Cleanup(p.Catalog.Close)
	p.Fleet, err = fleet.New(fleet.Config{Catalog: p.Catalog, Logger: p.Logger})
	p.OK(err)
}

func (p *Platform) addServer() {
	p.Helper()
	address, password := ServerURL(p)
	_, err := p.Fleet.AddServer(p.Context(), fleet.ServerAdd{Name: Server, URL: address, Password: password})
	p.OK(err)
}

// ServerURL is the tests' server as an operator would add it, and the admin's
// password.
func ServerURL(t testing.TB) (address, password string) {
	t.Helper()
	u, err := url.Parse(pgtest.AdminURL(t))
	if err != nil {
		t.Fatal(err)
	}
	password, _ = u.User.Password()
	return "postgres://" + u.User.Username() + "@" + u.Host + "/postgres?sslmode=disable", password
}

// PauseWait is how long a request waits here while its tenant moves.
const PauseWait = time.Second

// run composes a node and waits until its cache knows the catalog.
func (p *Platform) run(poll time.Duration) {
	p.Helper()
	p.Cache = catalog.NewCache(p.Catalog, catalog.CacheConfig{NodeName: "test", Version: "test", Poll: poll, Logger: p.Logger})
	latest, err := migrations.Tenant().Latest()
	p.OK(err)
	p.Router, err = router.New(router.Config{
		Route: p.Cache.Route, OpenTimeout: 2 * time.Second, PauseWait: PauseWait, Logger: p.Logger,
		SchemaMin: 1, SchemaMax: latest,
	})
	p.OK(err)
	p.Cache.OnChange(p.Router.Invalidate)
	p.Inference, err = inference.New(inference.Config{
		Model: p.Cache.Model, Models: p.Cache.Models, Logger: p.Logger, Node: uuid.MustParse(p.Cache.NodeID()),
		Spool: func(ctx context.Context, tenant string, s tenantdb.Settlement) error {
			return p.Fleet.Spool(ctx, p.id(tenant), s)
		},
		Seal: func(tenant string, plain []byte) ([]byte, error) { return p.Catalog.SealAnswer(p.id(tenant), plain) },
		Open: func(tenant string, sealed []byte) ([]byte, error) { return p.Catalog.OpenAnswer(p.id(tenant), sealed) },
		Pseudonyms: func(tenant, name string) []string {
			list, err := p.Catalog.Pseudonyms(p.id(tenant), name)
			if err != nil {
				p.Error(err)
			}
			return list
		},
		Engine: func(context.Context, string) (engine.Engine, error) {
			if real := p.real.Load(); real != nil {
				return *real, nil
			}
			return p.Engine, nil
		},
	})
	p.OK(err)
	// t.Context() ends before clean-up, while doors still need the cache.
	ctx, stop := context.WithCancel(context.WithoutCancel(p.Context()))
	ended := make(chan error, 1)
	go func() { ended <- p.Cache.Run(ctx) }()
	p.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(p.Context()), 5*time.Second)
		defer cancel()
		if err := p.Router.Close(ctx); err != nil {
			p.Errorf("close router: %v", err)
		}
		stop()
		if err := <-ended; err != nil {
			p.Errorf("cache: %v", err)
		}
	})
	p.Until("the cache is true", func() bool { return p.Cache.Confirmed(time.Second) })
}

func (p *Platform) id(tenant string) catalog.TenantID {
	p.Helper()
	id, err := catalog.ParseTenantID(tenant)
	p.OK(err)
	return id
}

// Use has a real engine answer instead of the fake.
func (p *Platform) Use(e engine.Engine) { p.real.Store(&e) }

// Serve serves a door on a loopback port until the test ends and returns its URL.
func (p *Platform) Serve(d *rest.Door, err error) string {
	p.Helper()
	p.OK(err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	p.OK(err)
	served := make(chan error, 1)
	go func() { served <- d.Serve(ln) }()
	p.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(p.Context()), 5*time.Second)
		defer cancel()
		if err := errors.Join(d.Shutdown(ctx), <-served); err != nil {
			p.Errorf("door: %v", err)
		}
	})
	return "http://" + ln.Addr().String()
}

// Tenant creates a tenant and returns it with its first key, of all scopes.
func (p *Platform) Tenant(slug string) (catalog.Tenant, string) {
	p.Helper()
	t, token, err := p.Fleet.Create(p.Context(), catalog.TenantSpec{Slug: slug})
	p.OK(err)
	return t, token
}

// Key creates a key with the scopes.
func (p *Platform) Key(t catalog.Tenant, scopes ...string) string {
	p.Helper()
	_, token, err := p.Catalog.CreateKey(p.Context(), t.ID, catalog.KeySpec{Name: "test", Scopes: scopes})
	p.OK(err)
	return token
}

// OK fails the test on an error.
func (p *Platform) OK(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// Until waits for a condition, for ten seconds at most.
func (p *Platform) Until(what string, ok func() bool) {
	p.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.Fatalf("waited in vain until %s", what)
		}
	}
}
