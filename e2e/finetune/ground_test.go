package finetune_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/catalog/catalogtest"
	"freehold/e2e/child"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/blob/blobtest"
	"freehold/tenantdb/fleet"
)

// baseModel is what is fine-tuned on a platform of its own.
const baseModel = "freehold-answer-1"

// jobTime is the longest that a job may take, on a machine with much else to do.
const jobTime = 60 * time.Second

// platform is a Freehold: catalog, store, one server, and one node with workers.
type platform struct {
	testing.TB
	cat   *catalog.Catalog
	fleet *fleet.Fleet
	store *blob.Store
	blob  blob.Config
	node  *child.Process
	api   string // with /v1
}

var buckets atomic.Int64

// setup makes a platform with the built-in engine.
func setup(t testing.TB) *platform {
	t.Helper()
	p := &platform{TB: t}
	folder := t.TempDir()
	cat, cfg := catalogtest.Open(t)
	p.cat = cat
	admin, err := url.Parse(pgtest.AdminURL(t))
	p.ok(err)
	keyFile, tokenFile := filepath.Join(folder, "master.key"), filepath.Join(folder, "token")
	p.ok(cfg.Keyset.Write(keyFile))
	p.ok(os.WriteFile(tokenFile, []byte(strings.Repeat("t", 40)), 0o600))
	p.blob = blob.Config{Endpoint: blobtest.Shared(t), Bucket: fmt.Sprintf("finetune-%d", buckets.Add(1))}
	p.store, err = blob.Open(t.Context(), p.blob, true)
	p.ok(err)
	p.fleet, err = fleet.New(fleet.Config{Catalog: p.cat, Blob: p.store, DeadAfter: catalog.DeadAfter(time.Second)})
	p.ok(err)
	password, _ := admin.User.Password()
	_, err = p.fleet.AddServer(t.Context(), fleet.ServerAdd{
		Name: "pg-1", Password: password, Budget: 40,
		URL: "postgres://" + admin.User.Username() + "@" + admin.Host + "/postgres?sslmode=disable",
	})
	p.ok(err)
	_, err = p.cat.AddEngine(t.Context(), catalog.EngineSpec{Name: "builtin", Kind: "builtin"})
	p.ok(err)
	for _, m := range []catalog.Model{
		{Name: baseModel, Engine: "builtin", Kind: "chat", Trainer: "builtin"},
		{Name: "freehold-embed-1", Engine: "builtin", Kind: "embedding"},
	} {
		_, err = p.cat.AddModel(t.Context(), m)
		p.ok(err)
	}

	self, err := os.Executable()
	p.ok(err)
	env := []string{
		nodeEnv + "=1", "FREEHOLD_CATALOG_URL=" + cfg.URL, "FREEHOLD_MASTER_KEY_FILE=" + keyFile,
		"FREEHOLD_ADMIN_TOKEN_FILE=" + tokenFile, "FREEHOLD_DATA_DIR=" + folder,
		"FREEHOLD_LISTEN=127.0.0.1:0", "FREEHOLD_ADMIN_LISTEN=127.0.0.1:0",
		"FREEHOLD_S3_ENDPOINT=" + p.blob.Endpoint, "FREEHOLD_S3_BUCKET=" + p.blob.Bucket, "FREEHOLD_STALE_SERVE=1s",
		"FREEHOLD_TRAIN_JOBS=2",
		"FREEHOLD_TRAIN_PRIORITY=normal", // or it would wait for a machine that is never idle
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "AWS_") { // blobtest's
			env = append(env, v)
		}
	}
	p.node = child.Start(t, child.Config{Path: self, Env: env, Dir: folder})
	return p
}

func (p *platform) ok(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// tenant is a client of one, with OpenAI's library.
type tenant struct {
	openai.Client
	*platform
	id  catalog.TenantID
	key string
}

// create makes tenants, also before the node serves.
func (p *platform) create(slugs ...string) map[string]*tenant {
	p.Helper()
	made := make([]*tenant, len(slugs))
	var group errgroup.Group
	for i, slug := range slugs {
		group.Go(func() error {
			row, key, err := p.fleet.Create(p.Context(), catalog.TenantSpec{Slug: slug})
			made[i] = &tenant{platform: p, id: row.ID, key: key}
			return err
		})
	}
	p.ok(group.Wait())
	all := map[string]*tenant{}
	for i, slug := range slugs {
		all[slug] = made[i]
	}
	return all
}

// in is the tenant in a part of the test.
func (c *tenant) in(t testing.TB) *tenant {
	p := *c.platform
	p.TB = t
	return &tenant{c.Client, &p, c.id, c.key}
}

// connect waits until the node serves, and gives the tenants their clients.
func (p *platform) connect(tenants map[string]*tenant) {
	p.Helper()
	const startTime = 30 * time.Second
	var at address
	p.ok(json.Unmarshal([]byte(p.node.Stdout.WaitFor(p, `"API"`, startTime)), &at))
	p.node.WaitReady(p, nil, at.API+"/readyz", startTime)
	p.api = at.API + "/v1"
	transport := &http.Transport{MaxIdleConnsPerHost: 10}
	p.Cleanup(transport.CloseIdleConnections)
	for _, c := range tenants {
		c.Client = openai.NewClient(
			option.WithBaseURL(p.api), option.WithAPIKey(c.key), option.WithMaxRetries(0),
			option.WithHTTPClient(&http.Client{Transport: transport, Timeout: 30 * time.Second}),
		)
	}
}
