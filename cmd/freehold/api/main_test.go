package api_test

import (
	"testing"

	"go.uber.org/goleak"

	"freehold/catalog"
	"freehold/cmd/freehold/api"
	"freehold/cmd/freehold/rest"
	"freehold/cmd/freehold/rest/resttest"
	"freehold/migrations/pgtest"
)

// The server's own keepers of pools and of the date live as long as the process.
func TestMain(m *testing.M) {
	pgtest.MainLeak(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

// bench is a node with the tenants' door and one tenant.
type bench struct {
	*resttest.Platform
	door   *rest.Door
	url    string
	acme   catalog.Tenant
	client resttest.Client // acme's
}

func setup(t *testing.T) *bench {
	t.Helper()
	return setupOn(t, resttest.Open(t))
}

func setupOn(t *testing.T, p *resttest.Platform) *bench {
	t.Helper()
	return setupWith(t, p, func(*api.Config) {})
}

// setupWith is a node whose door has what change makes of the usual configuration.
func setupWith(t *testing.T, p *resttest.Platform, change func(*api.Config)) *bench {
	t.Helper()
	b := &bench{Platform: p}
	cfg := b.config()
	change(&cfg)
	var err error
	b.door, err = api.New(cfg)
	b.url = b.Serve(b.door, err)
	var token string
	b.acme, token = b.Platform.Tenant("acme")
	b.client = resttest.Client{T: t, URL: b.url, Token: token}
	return b
}

// config is the usual one.
func (b *bench) config() api.Config {
	b.Helper()
	return api.Config{
		Cache: b.Cache, Router: b.Router, Inference: b.Inference, Tuning: b.Tuning(), Due: b.Catalog.MarkDue, Logger: b.Logger, Version: "test",
		Audits:  api.Audits{Head: b.Catalog.AuditHead, Verify: b.Catalog.VerifyAuditSignature, PublicKeys: b.Catalog.AuditPublicKeys},
		Exports: api.Exports{Begin: b.Fleet.BeginExport, Get: b.Catalog.Export, List: b.Catalog.Exports},
		Keys:    api.Keys{List: b.Catalog.Keys, Create: b.Catalog.CreateKey, Revoke: b.Fleet.RevokeKey, Audit: b.Catalog.AppendAudit},
	}
}

const hello = `{"model":"chat-1","messages":[{"role":"user","content":"hello there"}]}`
