package admin

import (
	"net/http"
	"time"

	"freehold/cmd/freehold/metrics"
	"freehold/cmd/freehold/rest"
)

// slow is how long a request may last that makes, migrates or tests whole
// databases.
const slow = 5 * time.Minute

var tenantFilters = append([]rest.Query{
	{Name: "state", Type: "string", Summary: "Only tenants in this state; deleted ones are listed only so."},
	{Name: "server", Type: "string", Summary: "Only tenants on this server."},
	{Name: "region", Type: "string", Summary: "Only tenants of this region."},
	{Name: "plan", Type: "string", Summary: "Only tenants on this plan."},
	{Name: "label", Type: "string", Summary: "Only tenants with this label: name or name=value."},
}, rest.Paging...)

// routes is the operators' API.
func (s *server) routes() []rest.Route[operator] {
	type route = rest.Route[operator]
	const get, post, patch, del = http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete
	list := []route{
		{Method: post, Path: "/tenants", Summary: "Create a tenant with its database. The key is shown once.", Timeout: slow, Endpoint: rest.Take(http.StatusCreated, s.createTenant)},
		{Method: get, Path: "/tenants", Summary: "List tenants by slug.", Query: tenantFilters, Endpoint: rest.Give(s.tenants)},
		{Method: get, Path: "/tenants/{slug}", Summary: "Show a tenant.", Endpoint: rest.Give(s.tenant)},
		{Method: get, Path: "/tenants/{slug}/config", Summary: "Show a tenant's configuration.", Endpoint: rest.Give(s.config)},
		{Method: patch, Path: "/tenants/{slug}/config", Summary: "Change what is named. It binds on every node before this answers.", Endpoint: rest.Take(http.StatusOK, s.patchConfig)},
		{Method: get, Path: "/tenants/{slug}/keys", Summary: "List a tenant's API keys.", Endpoint: rest.Give(s.keys)},
		{Method: post, Path: "/tenants/{slug}/keys", Summary: "Create an API key. The token is shown once.", Endpoint: rest.Take(http.StatusCreated, s.createKey)},
		{Method: del, Path: "/tenants/{slug}/keys/{id}", Summary: "Revoke an API key.", Endpoint: rest.Give(s.revokeKey)},
		{Method: post, Path: "/tenants/{slug}/prove", Summary: "Try every connection and grant that the tenant's role must be refused.", Timeout: slow, Endpoint: rest.Give(s.prove)},
		{Method: post, Path: "/tenants/{slug}/suspend", Summary: "Stop serving a tenant. It binds on every node before this answers; twice is once.", Timeout: slow, Endpoint: rest.Give(s.suspend)},
		{Method: post, Path: "/tenants/{slug}/resume", Summary: "Serve a suspended tenant again; twice is once.", Timeout: slow, Endpoint: rest.Give(s.resume)},
		{Method: get, Path: "/servers", Summary: "List database servers.", Endpoint: rest.Give(s.servers)},
		{Method: post, Path: "/servers", Summary: "Test a database server and add it.", Timeout: slow, Endpoint: rest.Take(http.StatusCreated, s.addServer)},
		{Method: get, Path: "/engines", Summary: "List inference engines.", Endpoint: rest.Give(s.engines)},
		{Method: post, Path: "/engines", Summary: "Add an inference engine.", Endpoint: rest.Take(http.StatusCreated, s.addEngine)},
		{Method: del, Path: "/engines/{name}", Summary: "Remove an engine that serves no model.", Endpoint: rest.Give(s.removeEngine)},
		{Method: get, Path: "/models", Summary: "List platform models.", Endpoint: rest.Give(s.models)},
		{Method: post, Path: "/models", Summary: "Add a platform model.", Endpoint: rest.Take(http.StatusCreated, s.addModel)},
		{Method: del, Path: "/models/{name...}", Summary: "Remove a platform model.", Endpoint: rest.Give(s.removeModel)},
		{Method: get, Path: "/nodes", Summary: "List nodes.", Endpoint: rest.Give(s.nodes)},
		{Method: get, Path: "/router", Summary: "Show this node's connection router: its servers, and its busiest tenants.", Query: topQuery, Endpoint: rest.Give(s.routerView)},
		{Method: get, Path: "/router/tenants/{slug}", Summary: "Show a tenant as this node's router serves it, and why it is slow or refused.", Endpoint: rest.Give(s.explain)},
		{Method: post, Path: "/router/tenants/{slug}/reconnect", Summary: "Close a tenant's connections here, lent ones when they come back.", Endpoint: rest.Give(s.reconnect)},
		{Method: get, Path: "/status", Summary: "Show what needs a person now.", Timeout: slow, Endpoint: rest.Give(s.status)},
	}
	for i := range list {
		list[i].Path = "/admin/v1" + list[i].Path
	}
	if s.metrics != nil { // where collectors look for it
		list = append(list, route{Method: get, Path: "/metrics", Summary: "Metrics in Prometheus' form.", Endpoint: rest.Text(metrics.MediaType, s.prometheus)})
	}
	for i := range list {
		list[i].Scope = scopeAdmin
	}
	return list
}
