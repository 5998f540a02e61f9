package move_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

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

	// The bounds are for a machine that is busy with other things.
	startTime   = time.Minute
	commandTime = 2 * time.Minute
	settleTime  = 40 * time.Second
)

// ground is a platform, whose servers may replicate from each other.
type ground struct {
	testing.TB
	cat    *catalog.Catalog
	fleet  *fleet.Fleet
	supers map[string]string // by server, where its superuser logs in
	way    *wire.Wire        // to the catalog, for a node that is to be cut off
	folder string
	env    []string // of commands, and of nodes
	cutOff string   // what is different in the environment of a node behind way
}

// node is a process that serves.
type node struct {
	*child.Process
	api string
}

var buckets atomic.Int64

// setup makes a platform without servers, and without nodes. staleServe is for how
// long nodes serve without the catalog.
func setup(t testing.TB, staleServe time.Duration) *ground {
	t.Helper()
	g := &ground{TB: t, supers: map[string]string{}, folder: t.TempDir()}
	mock, err := mockengine.Open(mockengine.Config{Delay: 20 * time.Millisecond, Gap: 30 * time.Millisecond, Words: words})
	g.ok(err)
	t.Cleanup(func() { g.ok(mock.Close()) })
	cat, cfg := catalogtest.Open(t)
	g.cat = cat
	at, err := url.Parse(cfg.URL)
	g.ok(err)
	g.way, err = wire.Open(at.Host)
	g.ok(err)
	t.Cleanup(g.way.Close)
	through := *at
	through.Host = g.way.Addr()
	g.cutOff = "FREEHOLD_CATALOG_URL=" + through.String()

	keyFile, tokenFile := filepath.Join(g.folder, "master.key"), filepath.Join(g.folder, "token")
	g.ok(cfg.Keyset.Write(keyFile))
	g.ok(os.WriteFile(tokenFile, []byte(strings.Repeat("t", 40)), 0o600))
	store := blob.Config{Endpoint: blobtest.Shared(t), Bucket: fmt.Sprintf("move-%d", buckets.Add(1))}
	bucket, err := blob.Open(t.Context(), store, true)
	g.ok(err)
	g.fleet, err = fleet.New(fleet.Config{Catalog: g.cat, Blob: bucket, DeadAfter: catalog.DeadAfter(staleServe)})
	g.ok(err)
	_, err = g.cat.AddEngine(t.Context(), catalog.EngineSpec{Name: "mock", Kind: "openai", BaseURL: mock.URL()})
	g.ok(err)
	_, err = g.cat.AddModel(t.Context(), catalog.Model{
		Name: chatModel, Engine: "mock", Upstream: "mock", Kind: "chat", InputPrice: "1", OutputPrice: "2",
	})
	g.ok(err)

	g.env = []string{
		"FREEHOLD_CATALOG_URL=" + cfg.URL, "FREEHOLD_MASTER_KEY_FILE=" + keyFile,
		"FREEHOLD_ADMIN_TOKEN_FILE=" + tokenFile, "FREEHOLD_DATA_DIR=" + g.folder,
		"FREEHOLD_S3_ENDPOINT=" + store.Endpoint, "FREEHOLD_S3_BUCKET=" + store.Bucket,
		"FREEHOLD_STALE_SERVE=" + staleServe.String(), "FREEHOLD_PAUSE_WAIT=" + pauseWait.String(),
		"FREEHOLD_QUEUE_WAIT=" + pauseWait.String(), // who waited for the pause waits for a connection, on a busy machine
		"FREEHOLD_LOG_LEVEL=warn", programEnv + "=1",
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "AWS_") || strings.HasPrefix(v, "FREEHOLD_PG_BIN=") { // blobtest's, and where pg_dump lies
			g.env = append(g.env, v)
		}
	}
	return g
}

// pauseWait is for how long a request waits for its tenant: longer than the pause of
// a move whose worker was killed in it.
const pauseWait = 40 * time.Second

// addServer takes a server in, by the URLs of its superuser and of its admin.
func (g *ground) addServer(name, super, admin string) {
	g.Helper()
	g.supers[name] = super
	u, err := url.Parse(admin)
	g.ok(err)
	password, _ := u.User.Password()
	_, err = g.fleet.AddServer(g.Context(), fleet.ServerAdd{
		Name: name, Password: password, Budget: 60,
		URL: "postgres://" + u.User.Username() + "@" + u.Host + "/postgres?sslmode=disable",
	})
	g.ok(err)
}

func (g *ground) ok(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// tenant makes a tenant that nothing limits.
func (g *ground) tenant(slug string) (catalog.Tenant, string) {
	g.Helper()
	t, token, err := g.fleet.Create(g.Context(), catalog.TenantSpec{Slug: slug})
	g.ok(err)
	tokens, slots := int64(1e12), 1000
	_, err = g.fleet.PatchConfig(g.Context(), t.ID, catalog.ConfigPatch{MonthlyTokenLimit: &tokens, ConcurrentRequestLimit: &slots})
	g.ok(err)
	return t, token
}

// start starts a node; await waits until it serves. env goes before the ground's own.
func (g *ground) start(args []string, env ...string) *node {
	g.Helper()
	self, err := os.Executable()
	g.ok(err)
	listen := child.FreeAddr()
	return &node{api: "http://" + listen, Process: child.Start(g, child.Config{
		Path: self, Args: append([]string{"serve"}, args...), Dir: g.folder, StopTimeout: startTime,
		Env: append(append([]string{"FREEHOLD_LISTEN=" + listen, "FREEHOLD_ADMIN_LISTEN=127.0.0.1:0"}, g.env...), env...),
	})}
}

func (g *ground) await(nodes ...*node) {
	g.Helper()
	for _, n := range nodes {
		n.WaitReady(g, nil, n.api+"/readyz", startTime)
	}
}

// begin starts a command; done is one that must succeed.
func (g *ground) begin(args ...string) *child.Process {
	g.Helper()
	self, err := os.Executable()
	g.ok(err)
	return child.Start(g, child.Config{Path: self, Args: args, Env: g.env, Dir: g.folder})
}

func (g *ground) done(args ...string) string {
	g.Helper()
	p := g.begin(args...)
	if code := p.Wait(g, commandTime); code != 0 {
		g.Fatalf("freehold %s: exit status %d\n%s%s", strings.Join(args, " "), code, p.Stdout, p.Stderr)
	}
	return p.Stdout.String()
}

// moved is what `tenant move -o json` answers.
type moved struct {
	Server    string
	PauseMS   *int64 `json:"pause_ms"`
	Operation struct{ State string }
}

// move moves a tenant by the command, and returns for how long it was paused.
func (g *ground) move(slug, to string) time.Duration {
	g.Helper()
	var m moved
	g.ok(json.Unmarshal([]byte(g.done("tenant", "move", slug, "--to", to, "-o", "json")), &m))
	if m.Server != to || m.PauseMS == nil || m.Operation.State != catalog.OperationDone {
		g.Fatalf("tenant move says: %+v", m)
	}
	return time.Duration(*m.PauseMS) * time.Millisecond
}

// addFirst and addSecond take in pg-1 and pg-2, this process's two servers. Their
// admins are superusers: nobody else replicates on Postgres 15.
func (g *ground) addFirst() {
	g.Helper()
	g.addServer("pg-1", pgtest.SuperURL(g), pgtest.SuperURL(g))
}

func (g *ground) addSecond() {
	g.Helper()
	g.addServer("pg-2", pgtest.SecondSuperURL(g), pgtest.SecondSuperURL(g))
}

// at connects to a database of a server as its superuser.
func (g *ground) at(server, database string) *pgx.Conn {
	g.Helper()
	cfg, err := pgx.ParseConfig(g.supers[server])
	g.ok(err)
	cfg.Database = database
	conn, err := pgx.ConnectConfig(g.Context(), cfg)
	g.ok(err)
	g.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// until waits for a condition.
func (g *ground) until(what string, within time.Duration, ok func() bool) {
	g.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			g.Fatalf("waited in vain until %s", what)
		}
	}
}

// read reads one value.
func read[T any](g *ground, conn *pgx.Conn, sql string, args ...any) T {
	g.Helper()
	var v T
	g.ok(conn.QueryRow(g.Context(), sql, args...).Scan(&v))
	return v
}
