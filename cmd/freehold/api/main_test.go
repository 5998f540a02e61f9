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
	b := &bench{Platform: p}
	var err error
	b.door, err = api.New(api.Config{
		Cache: b.Cache, Router: b.Router, Inference: b.Inference, Logger: b.Logger, Version: "test",
		Audits: api.Audits{Head: b.Catalog.AuditHead, Verify: b.Catalog.VerifyAuditSignature, PublicKeys: b.Catalog.AuditPublicKeys},
		Keys:   api.Keys{List: b.Catalog.Keys, Create: b.Catalog.CreateKey, Revoke: b.Fleet.RevokeKey, Audit: b.Catalog.AppendAudit},
	})
	b.url = b.Serve(b.door, err)
	var token string
	b.acme, token = b.Platform.Tenant("acme")
	b.client = resttest.Client{T: t, URL: b.url, Token: token}
	return b
}

const hello = `{"model":"chat-1","messages":[{"role":"user","content":"hello there"}]}`
