package limits_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/catalog/catalogtest"
	"freehold/e2e/child"
	"freehold/e2e/mockengine"
	"freehold/e2e/wire"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/blob/blobtest"
	"freehold/tenantdb/fleet"
)

const (
	chatModel = "chat-1"
	// staleServe makes dead_after six seconds: a node's own margin comes on top.
	staleServe = time.Second
	startTime  = 30 * time.Second
)

// ground is what the nodes of one test stand on, and the nodes.
type ground struct {
	testing.TB
	cat    *catalog.Catalog
	fleet  *fleet.Fleet
	mock   *mockengine.Engine
	way    *wire.Wire // from the nodes to the tenants' server
	env    []string
	folder string

	catalogURL string

	mu    sync.Mutex // guards nodes
	nodes []*node
}

// node is a serving process on its post. One that was killed is followed by another.
type node struct {
	*child.Process
	api     string
	workers bool
}

var buckets atomic.Int64

// setup makes a platform with a mock engine and a number of nodes, of which the
// first has workers.
func setup(t testing.TB, mock mockengine.Config, nodes int) *ground {
	t.Helper()
	g := &ground{TB: t, folder: t.TempDir()}
	var err error
	g.mock, err = mockengine.Open(mock)
	g.ok(err)
	t.Cleanup(func() { g.ok(g.mock.Close()) })
	admin, err := url.Parse(pgtest.AdminURL(t))
	g.ok(err)
	g.way, err = wire.Open(admin.Host)
	g.ok(err)
	t.Cleanup(g.way.Close)

	cat, cfg := catalogtest.Open(t)
	g.cat, g.catalogURL = cat, cfg.URL
	keyFile, tokenFile := filepath.Join(g.folder, "master.key"), filepath.Join(g.folder, "token")
	g.ok(cfg.Keyset.Write(keyFile))
	g.ok(os.WriteFile(tokenFile, []byte(strings.Repeat("t", 40)), 0o600))
	store := blob.Config{Endpoint: blobtest.Shared(t), Bucket: fmt.Sprintf("limits-%d", buckets.Add(1))}
	bucket, err := blob.Open(t.Context(), store, true)
	g.ok(err)
	g.fleet, err = fleet.New(fleet.Config{Catalog: g.cat, Blob: bucket, DeadAfter: catalog.DeadAfter(staleServe)})
	g.ok(err)
	password, _ := admin.User.Password()
	_, err = g.fleet.AddServer(t.Context(), fleet.ServerAdd{
		Name: "pg-1", Password: password, Budget: 80,
		URL: "postgres://" + admin.User.Username() + "@" + g.way.Addr() + "/postgres?sslmode=disable",
	})
	g.ok(err)
	_, err = g.cat.AddEngine(t.Context(), catalog.EngineSpec{Name: "mock", Kind: "openai", BaseURL: g.mock.URL()})
	g.ok(err)
	_, err = g.cat.AddModel(t.Context(), catalog.Model{
		Name: chatModel, Engine: "mock", Upstream: "mock", Kind: "chat", InputPrice: "1", OutputPrice: "2",
	})
	g.ok(err)

	g.env = []string{
		"FREEHOLD_CATALOG_URL=" + g.catalogURL, "FREEHOLD_MASTER_KEY_FILE=" + keyFile,
		"FREEHOLD_ADMIN_TOKEN_FILE=" + tokenFile, "FREEHOLD_DATA_DIR=" + g.folder,
		"FREEHOLD_LISTEN=127.0.0.1:0", "FREEHOLD_ADMIN_LISTEN=127.0.0.1:0",
		"FREEHOLD_S3_ENDPOINT=" + store.Endpoint, "FREEHOLD_S3_BUCKET=" + store.Bucket,
		"FREEHOLD_STALE_SERVE=" + staleServe.String(),
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "AWS_") { // blobtest's
			g.env = append(g.env, v)
		}
	}
	for i := range nodes {
		g.nodes = append(g.nodes, g.start(i == 0))
	}
	for _, n := range g.nodes {
		g.await(n)
	}
	return g
}

func (g *ground) ok(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// start starts a process; await waits until it serves.
func (g *ground) start(workers bool) *node {
	g.Helper()
	self, err := os.Executable()
	g.ok(err)
	kind := "serves"
	if workers {
		kind = withWorkers
	}
	return &node{workers: workers, Process: child.Start(g, child.Config{
		Path: self, Env: append([]string{nodeEnv + "=" + kind}, g.env...), Dir: g.folder,
	})}
}

func (g *ground) await(n *node) {
	g.Helper()
	var at address
	g.ok(json.Unmarshal([]byte(n.Stdout.WaitFor(g, `"API"`, startTime)), &at))
	n.WaitReady(g, nil, at.API+"/readyz", startTime)
	n.api = at.API
}

// at is the address of the node on a post.
func (g *ground) at(post int) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.nodes[post%len(g.nodes)].api
}

// kill ends the node on a post without a word, and puts another one there.
func (g *ground) kill(post int) (pid int) {
	g.Helper()
	g.mu.Lock()
	victim := g.nodes[post]
	g.mu.Unlock()
	victim.Kill()
	<-victim.Done()
	next := g.start(victim.workers)
	g.await(next)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.nodes[post] = next
	return victim.PID()
}

// tenant makes a tenant with these limits.
func (g *ground) tenant(slug string, tokens int64, slots int) (catalog.Tenant, string) {
	g.Helper()
	t, token, err := g.fleet.Create(g.Context(), catalog.TenantSpec{Slug: slug})
	g.ok(err)
	_, err = g.fleet.PatchConfig(g.Context(), t.ID, catalog.ConfigPatch{MonthlyTokenLimit: &tokens, ConcurrentRequestLimit: &slots})
	g.ok(err)
	return t, token
}

// long picks by how long the tests may take.
func long[T any](short, otherwise T) T {
	if pgtest.Long() {
		return otherwise
	}
	return short
}
