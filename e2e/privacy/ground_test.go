package privacy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
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
	"freehold/e2e/wire"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/blob/blobtest"
	"freehold/tenantdb/fleet"
)

const (
	startTime = 30 * time.Second
	askTime   = 20 * time.Second
)

// ground is what a node stands on, and the node. Whatever it holds that is secret
// is in secrets, by what it is.
type ground struct {
	testing.TB
	cat      *catalog.Catalog
	fleet    *fleet.Fleet
	store    *blob.Store
	upstream *upstream
	traces   *collector
	way      *wire.Wire // from the node to the tenants' server
	s3       *proxy     // from the node to the object store
	env      []string
	folder   string

	catalogURL string
	adminToken string
	tenants    []catalog.Tenant
	secrets    map[string]string

	node       *child.Process
	api, admin string
}

var buckets atomic.Int64

// patience is how long the node waits for an engine.
func patience(behaviour string) time.Duration {
	switch behaviour {
	case "hang":
		return 200 * time.Millisecond
	case "gated":
		return 10 * time.Minute
	}
	return time.Minute
}

func setup(t testing.TB) *ground {
	t.Helper()
	g := &ground{TB: t, folder: t.TempDir(), upstream: startUpstream(t), secrets: map[string]string{}}
	admin, err := url.Parse(pgtest.AdminURL(t))
	g.ok(err)
	g.way, err = wire.Open(admin.Host)
	g.ok(err)
	t.Cleanup(g.way.Close)
	g.openCatalog()
	g.openStore()
	g.fleet, err = fleet.New(fleet.Config{Catalog: g.cat, Blob: g.store})
	g.ok(err)
	password, _ := admin.User.Password()
	g.secrets["server's password"] = password
	_, err = g.fleet.AddServer(t.Context(), fleet.ServerAdd{
		Name: "pg-1", Password: password, Budget: 40,
		URL: "postgres://" + admin.User.Username() + "@" + g.way.Addr() + "/postgres?sslmode=disable",
	})
	g.ok(err)
	g.secrets["engine's key"] = "upstream-key-Zx81_quiteLong.0815"
	for _, name := range behaviours {
		_, err = g.cat.AddEngine(t.Context(), catalog.EngineSpec{
			Name: name, Kind: "openai", BaseURL: g.upstream.URL + "/" + name + "/v1", Key: g.secrets["engine's key"], Timeout: patience(name),
		})
		g.ok(err)
		g.model(name, name, "chat")
	}
	g.model("vectors", "echo", "embedding")
	g.traces = startCollector(t)
	g.adminToken = strings.Repeat("operators", 5)
	g.secrets["operators' token"] = g.adminToken
	tokenFile := filepath.Join(g.folder, "token")
	g.ok(os.WriteFile(tokenFile, []byte(g.adminToken), 0o600))
	g.env = append(g.env,
		"FREEHOLD_CATALOG_URL="+g.catalogURL, "FREEHOLD_MASTER_KEY_FILE="+filepath.Join(g.folder, "master.key"),
		"FREEHOLD_ADMIN_TOKEN_FILE="+tokenFile, "FREEHOLD_DATA_DIR="+g.folder, "FREEHOLD_LOG_LEVEL=debug",
		"FREEHOLD_LISTEN=127.0.0.1:0", "FREEHOLD_ADMIN_LISTEN=127.0.0.1:0",
		"OTEL_EXPORTER_OTLP_ENDPOINT="+g.traces.URL, "OTEL_BSP_SCHEDULE_DELAY=200",
	)
	return g
}

func (g *ground) openCatalog() {
	g.Helper()
	cat, cfg := catalogtest.Open(g)
	g.cat, g.catalogURL = cat, cfg.URL
	file := filepath.Join(g.folder, "master.key")
	g.ok(cfg.Keyset.Write(file))
	u, err := url.Parse(g.catalogURL)
	g.ok(err)
	if password, set := u.User.Password(); set {
		g.secrets["catalog's password"] = password
	}
}

// openStore makes a bucket; the node reaches it through a proxy.
func (g *ground) openStore() {
	g.Helper()
	cfg := blob.Config{Endpoint: blobtest.Shared(g), Bucket: fmt.Sprintf("privacy-%d", buckets.Add(1))}
	var err error
	g.store, err = blob.Open(g.Context(), cfg, true)
	g.ok(err)
	g.s3 = startProxy(g, cfg.Endpoint)
	g.secrets["object store's secret"] = blobtest.Secret
	g.env = append(g.env, "FREEHOLD_S3_ENDPOINT="+g.s3.URL, "FREEHOLD_S3_BUCKET="+cfg.Bucket)
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "AWS_") { // blobtest's
			g.env = append(g.env, v)
		}
	}
}

func (g *ground) model(name, engine, kind string) {
	g.Helper()
	_, err := g.cat.AddModel(g.Context(), catalog.Model{
		Name: name, Engine: engine, Upstream: name, Kind: kind, PartTokens: 100, MaxOutputTokens: 10_000,
	})
	g.ok(err)
}

func (g *ground) ok(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// tenant makes a tenant with this policy, and limits that nobody reaches.
func (g *ground) tenant(slug string, patch catalog.ConfigPatch) (catalog.Tenant, string) {
	g.Helper()
	t, token, err := g.fleet.Create(g.Context(), catalog.TenantSpec{Slug: slug})
	g.ok(err)
	patch.MonthlyTokenLimit, patch.ConcurrentRequestLimit = new(int64(1e12)), new(100)
	_, err = g.fleet.PatchConfig(g.Context(), t.ID, patch)
	g.ok(err)
	route, err := g.cat.Route(g.Context(), t.ID)
	g.ok(err)
	g.tenants = append(g.tenants, t)
	g.secrets[slug+"'s password"], g.secrets[slug+"'s key"] = route.Config.Password, token
	return t, token
}

// start starts the node.
func (g *ground) start() {
	g.Helper()
	g.node = g.process(g.env)
	var at addresses
	g.ok(json.Unmarshal([]byte(g.node.Stdout.WaitFor(g, `"API"`, startTime)), &at))
	g.node.WaitReady(g, nil, at.API+"/readyz", startTime)
	g.api, g.admin = at.API, at.Admin
}

func (g *ground) process(env []string) *child.Process {
	g.Helper()
	self, err := os.Executable()
	g.ok(err)
	return child.Start(g, child.Config{Path: self, Env: append([]string{nodeEnv + "=1"}, env...), Dir: g.folder, StopTimeout: startTime})
}

// answer is what a client got.
type answer struct {
	status int
	body   string
	header http.Header
	err    error // the connection broke
}

// post sends a request as JSON; header holds names and values in turn.
func (g *ground) post(ctx context.Context, token, path string, body any, header ...string) answer {
	text, err := json.Marshal(body)
	if err != nil {
		return answer{err: err}
	}
	return g.ask(ctx, http.MethodPost, g.api+path, token, text, header...)
}

func (g *ground) ask(ctx context.Context, method, url, token string, body []byte, header ...string) answer {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, string(all), res.Header, err}
}

// until waits for a condition.
func (g *ground) until(what string, ok func() bool) {
	g.Helper()
	for end := time.Now().Add(startTime); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			g.Fatalf("waited in vain until %s", what)
		}
	}
}

// collector keeps what a node exports as traces.
type collector struct {
	*httptest.Server
	refuse atomic.Bool // and quotes what it was sent

	mu  sync.Mutex // guards got
	got bytes.Buffer
}

func startCollector(t testing.TB) *collector {
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if c.refuse.Load() {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = fmt.Fprint(w, r.Header)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.got.Write(body)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) received() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.got.Bytes())
}

// proxy is a way to an HTTP server that can be cut.
type proxy struct {
	*httptest.Server
	cut atomic.Bool
}

func startProxy(t testing.TB, to string) *proxy {
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{}
	transport := &http.Transport{}
	forward := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
	}}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.cut.Load() {
			panic(http.ErrAbortHandler)
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		p.Close()
		transport.CloseIdleConnections()
	})
	return p
}
