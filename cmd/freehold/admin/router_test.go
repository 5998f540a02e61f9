package admin_test

import (
	"context"
	"strings"
	"testing"

	"freehold/catalog"
	"freehold/router"
	"freehold/tenantdb"
)

// borrow uses a connection of the tenant's, as a request does.
func (b *bench) borrow(t catalog.Tenant) error {
	return b.Router.For(t.ID, t.Epoch).Borrow(b.Context(), tenantdb.Interactive,
		func(context.Context, *tenantdb.DB) error { return nil })
}

func TestRouter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client
	acme, _ := b.Tenant("acme")
	b.OK(b.borrow(acme))

	var shown struct {
		Node   string
		NodeID string `json:"node_id"`
		View   struct {
			Stats   map[string]any
			Servers []router.ServerView
			Tenants []router.TenantView
		}
	}
	c.Do("GET", "/admin/v1/router?top=1", "").Into(200, &shown)
	if shown.Node != "test" || shown.NodeID != b.Cache.NodeID() || len(shown.View.Stats) == 0 || shown.View.Servers == nil || shown.View.Tenants == nil {
		t.Errorf("router %+v", shown)
	}
	for _, top := range []string{"-1", "1001", "all", "1.5"} {
		c.Do("GET", "/admin/v1/router?top="+top, "").Refused(400, "invalid_request", "top")
	}

	var one router.TenantView
	c.Do("GET", "/admin/v1/router/tenants/acme", "").Into(200, &one)
	if one.Slug != "acme" || one.ID != acme.ID.String() || one.State != "active" || one.Why == "" || one.Errors == nil || one.Decisions == nil {
		t.Errorf("acme: %+v", one)
	}
	c.Do("POST", "/admin/v1/router/tenants/acme/reconnect", "").Into(200, &one)
	b.OK(b.borrow(acme))
	c.Do("GET", "/admin/v1/router/tenants/nobody", "").Refused(404, "not_found", "")
	c.Do("POST", "/admin/v1/router/tenants/nobody/reconnect", "").Refused(404, "not_found", "")
	if detail := b.audited("router.reconnect"); !strings.Contains(detail, "acme") {
		t.Errorf("audited %s", detail)
	}
}

func TestSuspendAndResume(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client
	acme, key := b.Tenant("acme")
	for _, step := range []struct{ verb, state string }{
		{"suspend", "suspended"}, {"suspend", "suspended"}, {"resume", "active"}, {"resume", "active"},
	} {
		var got catalogTenant
		c.Do("POST", "/admin/v1/tenants/acme/"+step.verb, "").Into(200, &got)
		if got.Slug != "acme" || got.State != step.state {
			t.Errorf("%s: %+v", step.verb, got)
		}
		b.Until("the node knows", func() bool {
			id, err := b.Cache.Authenticate(t.Context(), key)
			return err == nil && string(id.State) == step.state
		})
	}
	c.Do("POST", "/admin/v1/tenants/nobody/suspend", "").Refused(404, "not_found", "")
	c.Do("POST", "/admin/v1/tenants/nobody/resume", "").Refused(404, "not_found", "")
	_, err := b.Catalog.SetState(t.Context(), acme.ID, catalog.Deleting, catalog.Active)
	b.OK(err)
	c.Do("POST", "/admin/v1/tenants/acme/suspend", "").Refused(409, "conflict", "")
	b.audited("tenant.suspend", "tenant.suspend", "tenant.resume", "tenant.resume")
}

// A collector with the token reads the metrics; without, nobody does.
func TestMetrics(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme, _ := b.Tenant("acme")
	b.OK(b.borrow(acme))
	b.client.With("").Do("GET", "/metrics", "").Refused(401, "invalid_api_key", "")
	a := b.client.Do("GET", "/metrics", "")
	if a.Status != 200 || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain; version=0.0.4") ||
		!strings.Contains(a.Body, "\nfreehold_router_pools 1\n") {
		t.Errorf("%d %v\n%s", a.Status, a.Header, a.Body)
	}
	if strings.Contains(a.Body, token) {
		t.Error("the token is in the metrics")
	}
}
