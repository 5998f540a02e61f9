package catalog_test

import (
	"crypto/sha256"
	"encoding/pem"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"freehold/catalog"
)

func TestEnginesAndModels(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	builtin, err := b.cat.AddEngine(ctx, catalog.EngineSpec{Name: "builtin", Kind: "builtin"})
	b.ok(err)
	if builtin.HasKey || builtin.Timeout != time.Minute {
		t.Errorf("added %+v", builtin)
	}
	_, err = b.cat.AddEngine(ctx, catalog.EngineSpec{
		Name: "vllm", Kind: "openai", BaseURL: "https://vllm.test/v1", Key: "sk-1", Timeout: 3 * time.Second,
	})
	b.ok(err)
	_, err = b.cat.AddEngine(ctx, catalog.EngineSpec{Name: "builtin", Kind: "builtin"})
	b.is(err, catalog.ErrExists)
	list, err := b.cat.Engines(ctx)
	b.ok(err)
	if len(list) != 2 || list[1].Name != "vllm" || !list[1].HasKey || list[1].Timeout != 3*time.Second {
		t.Errorf("engines: %+v", list)
	}
	for name, want := range map[string]string{"builtin": "", "vllm": "sk-1"} {
		if key, err := b.cat.EngineKey(ctx, name); err != nil || key != want {
			t.Errorf("%s's key isn't what was given: %v", name, err)
		}
	}
	_, err = b.cat.EngineKey(ctx, "none")
	b.is(err, catalog.ErrNotFound)

	m, err := b.cat.AddModel(ctx, catalog.Model{
		Name: "llama", Engine: "vllm", Upstream: "meta/llama", Kind: "chat", InputPrice: "0.150", OutputPrice: "12",
	})
	b.ok(err)
	if m.InputPrice != "0.15" || m.OutputPrice != "12" || m.CreatedAt.IsZero() {
		t.Errorf("added %+v", m)
	}
	_, err = b.cat.AddModel(ctx, catalog.Model{Name: "embed", Engine: "builtin", Kind: "embedding"})
	b.ok(err)
	_, err = b.cat.AddModel(ctx, catalog.Model{Name: "embed", Engine: "builtin", Kind: "embedding"})
	b.is(err, catalog.ErrExists)
	_, err = b.cat.AddModel(ctx, catalog.Model{Name: "x", Engine: "none", Kind: "chat"})
	b.is(err, catalog.ErrInvalid)
	models, err := b.cat.Models(ctx)
	b.ok(err)
	if len(models) != 2 || models[0].Upstream != "embed" || models[0].InputPrice != "0" {
		t.Errorf("models: %+v", models)
	}
	b.is(b.cat.RemoveEngine(ctx, "vllm"), catalog.ErrConflict)
	b.ok(b.cat.RemoveModel(ctx, "llama"))
	b.is(b.cat.RemoveModel(ctx, "llama"), catalog.ErrNotFound)
	b.ok(b.cat.RemoveEngine(ctx, "vllm"))
}

func TestServerAdmin_login(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}))
	for _, s := range []catalog.ServerSpec{
		{Name: "plain", SSLMode: "disable"},
		{Name: "crypt", SSLMode: "require"},
		{Name: "public"},
		{Name: "private", SSLRootCA: ca},
		{Name: "socket", Host: "/run/pg"},
	} {
		s.AdminUser, s.Password, s.Version, s.MaxConnections = "o'admin \\", "p' w\\", 170002, 200
		if s.Host == "" {
			s.Host = "db.test"
		}
		added, err := b.cat.AddServer(ctx, s)
		b.ok(err)
		if added.Reserve != 20 || added.Budget != 180 || added.State != "active" || added.Port != 5432 {
			t.Errorf("added %+v", added)
		}
		cfg, err := b.cat.ServerAdmin(ctx, s.Name, "t_1")
		b.ok(err)
		if cfg.Host != s.Host || cfg.Port != 5432 || cfg.User != s.AdminUser || cfg.Password != s.Password ||
			cfg.Database != "t_1" || len(cfg.Fallbacks) != 0 || cfg.ConnectTimeout != 5*time.Second {
			t.Errorf("%s: logs in elsewhere", s.Name)
		}
		switch tls := cfg.TLSConfig; s.Name {
		case "plain", "socket":
			if tls != nil {
				t.Errorf("%s has TLS", s.Name)
			}
		case "crypt":
			if tls == nil || !tls.InsecureSkipVerify {
				t.Errorf("require: %+v", tls)
			}
		default:
			if tls == nil || tls.InsecureSkipVerify || tls.ServerName != "db.test" || (tls.RootCAs != nil) != (s.Name == "private") {
				t.Errorf("%s: %+v", s.Name, tls)
			}
		}
	}
	_, err := b.cat.AddServer(ctx, catalog.ServerSpec{
		Name: "plain", Host: "h", SSLMode: "disable", AdminUser: "a", Version: 150000, MaxConnections: 10,
	})
	b.is(err, catalog.ErrExists)
	_, err = b.cat.ServerAdmin(ctx, "none", "postgres")
	b.is(err, catalog.ErrNotFound)
	b.ok(b.cat.RemoveServer(ctx, "plain"))
	if list, err := b.cat.Servers(ctx); err != nil || len(list) != 4 {
		t.Errorf("%d servers: %v", len(list), err)
	}
}

// What the environment of the process says of other servers is not for ours.
func TestRoute_ignoresEnvironment(t *testing.T) {
	b := setup(t)
	tenant := b.tenant("acme")
	for name, value := range map[string]string{
		"PGHOST": "elsewhere", "PGUSER": "somebody", "PGPASSWORD": "x", "PGDATABASE": "other", "PGOPTIONS": "-c a.b=c",
		"PGTARGETSESSIONATTRS": "standby", "PGSSLMODE": "prefer", "PGAPPNAME": "x",
	} {
		t.Setenv(name, value)
	}
	r, err := b.cat.Route(t.Context(), tenant.ID)
	b.ok(err)
	cfg := r.Config
	if cfg.Host != "db.invalid" || cfg.User != tenant.Role || cfg.Database != tenant.Database || cfg.Password == "x" ||
		cfg.TLSConfig != nil || cfg.ValidateConnect != nil || len(cfg.Fallbacks) != 0 ||
		len(cfg.RuntimeParams) != 1 || cfg.RuntimeParams["application_name"] != "freehold" {
		t.Errorf("routed to %s as %s on %s with %v", cfg.Host, cfg.User, cfg.Database, cfg.RuntimeParams)
	}
	if r.Slug != "acme" || r.State != catalog.Active || r.Budget != 90 || r.Epoch == 0 || strings.Contains(cfg.ConnString(), cfg.Password) {
		t.Errorf("route is %s, %s, budget %d, epoch %d", r.Slug, r.State, r.Budget, r.Epoch)
	}
}

func TestAppendAudit_chain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenant := b.tenant("acme")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := b.cat.AppendAudit(t.Context(), "root@host", "key.revoke", tenant.ID, map[string]any{"key": "k1"}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	b.ok(b.cat.AppendAudit(t.Context(), "root@host", "engine.add", catalog.TenantID{}, nil))
	b.is(b.cat.AppendAudit(t.Context(), "", "", catalog.TenantID{}, map[string]any{"f": func() {}}), catalog.ErrInvalid)

	conn := b.as("freehold_catalog")
	rows, err := conn.Query(t.Context(), `
		select seq, tenant is null, prev, hash, convert_to(jsonb_build_array(seq, extract(epoch from at)::text, actor,
		       action, tenant, detail)::text, 'UTF8') from operator_audit order by seq`)
	b.ok(err)
	defer rows.Close()
	prev := make([]byte, 32)
	var n int64
	for rows.Next() {
		var seq int64
		var nobody bool
		var before, hash, text []byte
		b.ok(rows.Scan(&seq, &nobody, &before, &hash, &text))
		n++
		want := sha256.Sum256(append(append([]byte{}, prev...), text...))
		if seq != n || string(before) != string(prev) || string(hash) != string(want[:]) || nobody != (n == 21) {
			t.Errorf("row %d breaks the chain at %d", seq, n)
		}
		prev = hash
	}
	b.ok(rows.Err())
	if n != 21 {
		t.Errorf("%d rows", n)
	}
}
