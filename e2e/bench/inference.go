package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"freehold/catalog"
	"freehold/e2e/mockengine"
	"freehold/tenantdb/fleet"
)

// What every contest of inference asks at.
const (
	mockDelay   = 50 * time.Millisecond // of each answer of the mock engine
	mockWords   = 40                    // and so many tokens
	mockEngine  = "mock"
	benchModel  = "bench-chat"
	askedRate   = 200.0 // requests a second, open loop
	askedAtOnce = 400   // at most; one more is failed
)

// estate is what the contests of inference share: a Postgres server, an object
// store and the mock engine. Each contest has a catalog of its own there.
type estate struct {
	*hatchery
	*ground
	mock  *mockengine.Engine
	nodes []*serving
}

// openEstate makes one. Close it, also after an error.
func openEstate(ctx context.Context, b *bench) (*estate, error) {
	clearEnvironment()
	e := &estate{hatchery: &hatchery{}}
	var err error
	if e.hatchery.folder, err = os.MkdirTemp("", "freehold-bench-"+b.topic+"-"); err != nil {
		return e, err
	}
	b.progress("%s", machine())
	if e.mock, err = mockengine.Open(mockengine.Config{Delay: mockDelay, Words: mockWords}); err != nil {
		return e, err
	}
	if e.ground, err = openGround(ctx, b); err != nil {
		return e, err
	}
	_, err = e.store(ctx)
	return e, err
}

func inferenceContests(ctx context.Context, b *bench) ([]contest, func(), error) {
	e, err := openEstate(ctx, b)
	if err != nil {
		return nil, e.close, err
	}
	b.progress("the mock engine answers after %s; %s requests a second", mockDelay, figure(askedRate))
	return []contest{
		{"added", []string{"added_vs_floor", "added_p50_ms", "added_p99_ms", "cpu_vs_bare"}, e.added},
		{"trips", []string{"round_trips"}, e.trips},
		{"admit", []string{"admit_p50_vs_ping", "admit_p99_ms"}, e.admit},
		{"restore", []string{"restore_us_per_chunk"}, e.restore},
		{"granted", []string{"overgranted_tokens"}, e.granted},
	}, e.close, nil
}

func (e *estate) close() {
	for _, n := range e.nodes {
		n.kill()
	}
	if e.ground != nil {
		e.ground.close()
	}
	if e.mock != nil {
		if err := e.mock.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}
	e.hatchery.close()
}

// domain is a catalog with a server, the mock engine and a model: what a node
// needs.
type domain struct {
	*house
	env []string // of nodes that serve it
}

// openDomain makes one whose tenants' databases are reached at an address.
func (e *estate) openDomain(ctx context.Context, name, address string) (*domain, error) {
	d, err := e.openBareDomain(ctx, name)
	if err != nil {
		return nil, err
	}
	_, err = d.fleet.AddServer(ctx, fleet.ServerAdd{
		Name: serverName, Password: e.password, URL: "postgres://" + adminName + "@" + address + "/postgres?sslmode=disable",
		Budget: 200,
	})
	return d, err
}

// openBareDomain makes one without a server.
func (e *estate) openBareDomain(ctx context.Context, name string) (*domain, error) {
	keys, err := catalog.NewKeyset()
	if err != nil {
		return nil, err
	}
	keyFile, tokenFile := filepath.Join(e.folder(), name+".key"), filepath.Join(e.folder(), name+".token")
	if err := errors.Join(keys.Write(keyFile), os.WriteFile(tokenFile, []byte(newPassword()), 0o600)); err != nil {
		return nil, err
	}
	cat, err := e.openCatalog(ctx, name, keys)
	if err != nil {
		return nil, err
	}
	store, err := e.store(ctx)
	if err != nil {
		return nil, err
	}
	fl, err := fleet.New(fleet.Config{Catalog: cat, Blob: store})
	if err != nil {
		return nil, err
	}
	d := &domain{house: &house{cat: cat, fleet: fl}, env: []string{
		"FREEHOLD_CATALOG_URL=" + e.adminURL(name), "FREEHOLD_MASTER_KEY_FILE=" + keyFile,
		"FREEHOLD_ADMIN_TOKEN_FILE=" + tokenFile, "FREEHOLD_DATA_DIR=" + e.folder(),
		"FREEHOLD_LISTEN=127.0.0.1:0", "FREEHOLD_ADMIN_LISTEN=127.0.0.1:0",
		"FREEHOLD_S3_ENDPOINT=" + e.s3.endpoint, "FREEHOLD_S3_BUCKET=" + bucket,
	}}
	if _, err := cat.AddEngine(ctx, catalog.EngineSpec{Name: mockEngine, Kind: "openai", BaseURL: e.mock.URL()}); err != nil {
		return nil, err
	}
	_, err = cat.AddModel(ctx, catalog.Model{
		Name: benchModel, Engine: mockEngine, Upstream: "mock", Kind: "chat", InputPrice: "0.5", OutputPrice: "1.5",
	})
	return d, err
}

func (e *estate) folder() string { return e.hatchery.folder }

// customer is a tenant as its caller knows it.
type customer struct {
	catalog.Tenant
	token string
}

// customer makes a tenant with these limits; everything else is on, by default.
func (d *domain) customer(ctx context.Context, slug string, tokens int64, slots int) (customer, error) {
	t, token, err := d.fleet.Create(ctx, catalog.TenantSpec{Slug: slug, Actor: "bench"})
	if err == nil {
		_, err = d.fleet.PatchConfig(ctx, t.ID, catalog.ConfigPatch{MonthlyTokenLimit: &tokens, ConcurrentRequestLimit: &slots})
	}
	return customer{t, token}, err
}

// customers makes n of them without limits that anybody reaches.
func (d *domain) customers(ctx context.Context, prefix string, n int) ([]customer, error) {
	list := make([]customer, n)
	for i := range list {
		var err error
		if list[i], err = d.customer(ctx, fmt.Sprintf("%s-%02d", prefix, i), 1e12, 1000); err != nil {
			return nil, err
		}
	}
	return list, nil
}
