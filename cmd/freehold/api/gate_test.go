package api_test

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/cmd/freehold/api"
	"freehold/cmd/freehold/rest/resttest"
	"freehold/migrations/pgtest"
)

// public are the routes that need no key.
var public = map[string]bool{"/healthz": true, "/readyz": true, "/openapi.json": true}

// needs is every other route with the scope that it needs.
var needs = map[string]string{
	"POST /v1/chat/completions":  catalog.ScopeInference,
	"POST /v1/embeddings":        catalog.ScopeInference,
	"POST /v1/predictions":       catalog.ScopeInference,
	"GET /v1/predictions":        catalog.ScopeRead,
	"GET /v1/predictions/:id":    catalog.ScopeRead,
	"DELETE /v1/predictions":     catalog.ScopeErase,
	"DELETE /v1/predictions/:id": catalog.ScopeErase,
	"GET /v1/usage":              catalog.ScopeRead,
	"GET /v1/models":             catalog.ScopeRead,
	"GET /v1/models/+":           catalog.ScopeRead,
	"GET /v1/config":             catalog.ScopeRead,
	"GET /v1/audit":              catalog.ScopeRead,
	"GET /v1/audit/verify":       catalog.ScopeRead,
	"POST /v1/api_keys":          catalog.ScopeKeys,
	"GET /v1/api_keys":           catalog.ScopeKeys,
	"DELETE /v1/api_keys/:id":    catalog.ScopeKeys,
	"POST /v1/files":             catalog.ScopeFiles,
	"GET /v1/files":              catalog.ScopeFiles,
	"GET /v1/files/:id":          catalog.ScopeFiles,
	"DELETE /v1/files/:id":       catalog.ScopeFiles,
	"GET /v1/files/:id/content":  catalog.ScopeFiles,
	"DELETE /v1/models/+":        catalog.ScopeModels,
	"POST /v1/export":            catalog.ScopeExport,
	"GET /v1/export":             catalog.ScopeExport,
	"GET /v1/export/:id":         catalog.ScopeExport,
	"GET /v1/export/:id/content": catalog.ScopeExport,

	"POST /v1/fine_tuning/jobs":                catalog.ScopeFineTuning,
	"GET /v1/fine_tuning/jobs":                 catalog.ScopeFineTuning,
	"GET /v1/fine_tuning/jobs/:id":             catalog.ScopeFineTuning,
	"POST /v1/fine_tuning/jobs/:id/cancel":     catalog.ScopeFineTuning,
	"GET /v1/fine_tuning/jobs/:id/events":      catalog.ScopeFineTuning,
	"GET /v1/fine_tuning/jobs/:id/checkpoints": catalog.ScopeFineTuning,
	"POST /v1/fine-tuning/jobs":                catalog.ScopeFineTuning,
	"GET /v1/fine-tuning/jobs":                 catalog.ScopeFineTuning,
	"GET /v1/fine-tuning/jobs/:id":             catalog.ScopeFineTuning,
	"POST /v1/fine-tuning/jobs/:id/cancel":     catalog.ScopeFineTuning,
	"GET /v1/fine-tuning/jobs/:id/events":      catalog.ScopeFineTuning,
	"GET /v1/fine-tuning/jobs/:id/checkpoints": catalog.ScopeFineTuning,
}

// concrete fills a route's parameters in.
func concrete(path string) string {
	return strings.NewReplacer(":id", "pred_01890000-0000-7000-8000-000000000000", "+", "chat-1").Replace(path)
}

// Every route that the server serves needs a key with a scope, and refuses
// without one; there is no other route.
func TestEveryRouteHasItsScope(t *testing.T) {
	t.Parallel()
	b := setup(t)
	wrong := map[string]string{} // scope → a key that holds every other one
	for _, s := range catalog.Scopes() {
		wrong[s] = b.Key(b.acme, slices.DeleteFunc(catalog.Scopes(), func(o string) bool { return o == s || o == catalog.ScopeAll })...)
	}
	expired := time.Now().Add(-time.Hour)
	_, old, err := b.Catalog.CreateKey(t.Context(), b.acme.ID, catalog.KeySpec{Scopes: []string{catalog.ScopeAll}, ExpiresAt: &expired})
	if err != nil {
		old = "" // refused at birth: there is no such key to try
	}
	revoked, gone, err := b.Catalog.CreateKey(t.Context(), b.acme.ID, catalog.KeySpec{Scopes: []string{catalog.ScopeAll}})
	b.OK(err)
	b.OK(b.Fleet.RevokeKey(t.Context(), b.acme.ID, revoked.ID))
	mistyped := flip(b.client.Token)

	seen := map[string]string{}
	for _, rt := range b.door.Routes() {
		if public[rt.Path] {
			if a := b.client.With("").Do(rt.Method, rt.Path, ""); a.Status != 200 || rt.Scope != "" {
				t.Errorf("%s: %d, scope %q", rt.Path, a.Status, rt.Scope)
			}
			continue
		}
		seen[rt.Method+" "+rt.Path] = rt.Scope
		if rt.Scope == "" {
			t.Errorf("%s %s has no scope", rt.Method, rt.Path)
			continue
		}
		body := ""
		if rt.Method == "POST" {
			body = "{}"
		}
		var bodies []string
		for _, token := range []string{"", "x", "fh_unknown", mistyped, gone, old} {
			a := b.client.With(token).Do(rt.Method, concrete(rt.Path), body)
			a.Refused(401, "invalid_api_key", "")
			bodies = append(bodies, a.Body)
		}
		for _, other := range bodies {
			if other != bodies[0] {
				t.Errorf("refusals differ: %s, %s", other, bodies[0])
			}
		}
		b.client.With(wrong[rt.Scope]).Do(rt.Method, concrete(rt.Path), body).Refused(403, "insufficient_scope", "")
		path := concrete(rt.Path)
		if rt.Scope == catalog.ScopeModels {
			path = "/v1/models/ft:none" // the platform's aren't a tenant's to remove
		}
		a := b.client.With(b.Key(b.acme, rt.Scope)).Do(rt.Method, path, body)
		if a.Status == 401 || a.Status == 403 {
			t.Errorf("%s %s with its scope: %d %s", rt.Method, rt.Path, a.Status, a.Body)
		}
	}
	if !maps.Equal(seen, needs) {
		t.Errorf("served %v\nwant %v", seen, needs)
	}
	if a := b.client.Do("GET", "/v1/models", "", "Authorization", "bearer  "+b.client.Token); a.Status != 200 {
		t.Errorf("scheme in small letters: %d", a.Status)
	}
	b.client.Do("GET", "/v1/models", "", "Authorization", "Basic "+b.client.Token).Refused(401, "invalid_api_key", "")
}

// flip changes one character of a key's secret.
func flip(token string) string {
	b := []byte(token)
	i := len(b) - 12
	if b[i]++; b[i] > 'z' || b[i] == '_'+1 {
		b[i] = 'a'
	}
	return string(b)
}

// The document is valid and names exactly what the server serves.
func TestDocument(t *testing.T) {
	t.Parallel()
	b := setup(t)
	doc, err := openapi3.NewLoader().LoadFromData([]byte(b.client.With("").Do("GET", "/openapi.json", "").Body))
	b.OK(err)
	b.OK(doc.Validate(t.Context()))
	documented := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		native := strings.NewReplacer("{id}", ":id", "{name}", "+").Replace(path)
		for method := range item.Operations() {
			documented[method+" "+native] = true
		}
	}
	served := map[string]bool{}
	for _, rt := range b.door.Routes() {
		served[rt.Method+" "+rt.Path] = true
		if !documented[rt.Method+" "+rt.Path] {
			t.Errorf("%s %s isn't documented", rt.Method, rt.Path)
		}
	}
	if len(served) != len(documented) {
		t.Errorf("%d operations documented, %d served", len(documented), len(served))
	}
}

func TestTenantStates(t *testing.T) {
	t.Parallel()
	b := setup(t)
	call := func() resttest.Answer { return b.client.Do("POST", "/v1/chat/completions", hello) }
	eventually := func(status int) {
		t.Helper()
		b.Until(fmt.Sprintf("the node knows, and answers %d", status), func() bool { return call().Status == status })
	}
	eventually(200)
	b.OK(b.Fleet.Suspend(t.Context(), b.acme.ID))
	eventually(403)
	call().Refused(403, "tenant_suspended", "")
	b.client.Do("GET", "/v1/models", "").Refused(403, "tenant_suspended", "")
	b.OK(b.Fleet.Resume(t.Context(), b.acme.ID))
	eventually(200)
	paused, err := b.Fleet.Pause(t.Context(), b.acme.ID)
	b.OK(err)
	a := call()
	a.Refused(503, "tenant_moving", "")
	if a.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	// One that still has time when the move is over is served.
	waiting := make(chan resttest.Answer, 1)
	go func() { waiting <- call() }()
	time.Sleep(resttest.PauseWait / 4)
	b.OK(paused.Resume(t.Context()))
	if a := <-waiting; a.Status != 200 {
		t.Errorf("waited for the move, got %d %s", a.Status, a.Body)
	}
	eventually(200)
}

// A change that binds is obeyed by the very next request, although the node's
// cache hasn't heard of it: the tenant's database refuses, and the node reads anew.
func TestFencedRequestIsDecidedAgain(t *testing.T) {
	t.Parallel()
	b := setupOn(t, resttest.OpenUnpolled(t))
	if a := b.client.Do("POST", "/v1/chat/completions", hello); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	seen := b.deafen()
	_, err := b.Fleet.PatchConfig(t.Context(), b.acme.ID, catalog.ConfigPatch{AllowedModels: &[]string{"embed-*"}})
	b.OK(err)
	b.client.Do("POST", "/v1/chat/completions", hello).Refused(403, "model_not_allowed", "model")
	if a := b.client.Do("POST", "/v1/embeddings", `{"model":"embed-1","input":"x"}`); a.Status != 200 {
		t.Errorf("decided again: %d %s", a.Status, a.Body)
	}
	if b.Cache.Seen() != seen {
		t.Error("the node had heard of it")
	}
	// What no fence protects is refused once the catalog hasn't confirmed.
	b.Until("a second has passed", func() bool { return !b.Cache.Confirmed(time.Second) })
	b.client.Do("GET", "/v1/models", "").Refused(503, "database_unavailable", "")
	b.client.Do("GET", "/v1/models/chat-1", "").Refused(503, "database_unavailable", "")
}

// catalog is a connection to the catalog's database that the test ends.
func (b *bench) catalog() *pgx.Conn {
	b.Helper()
	u, err := url.Parse(pgtest.AdminURL(b))
	b.OK(err)
	u.Path = "/" + b.Database
	conn, err := pgx.Connect(b.Context(), u.String())
	b.OK(err)
	b.Cleanup(func() { _ = conn.Close(context.WithoutCancel(b.Context())) })
	return conn
}

// deafen has the catalog notify nobody any more, and returns what the node knew
// last.
func (b *bench) deafen() (seen int64) {
	b.Helper()
	conn := b.catalog()
	_, err := conn.Exec(b.Context(), `
		create or replace function catalog_tick(p_platform boolean) returns bigint language sql as $$
			update catalog_clock set seq = seq + 1,
			       platform_seq = case when p_platform then seq + 1 else platform_seq end returning seq $$`)
	b.OK(err)
	var now int64
	b.OK(conn.QueryRow(b.Context(), `select seq from catalog_clock`).Scan(&now))
	b.Until("what was notified is known", func() bool { return b.Cache.Seen() == now })
	return now
}

func TestConfigNamesAllMistakes(t *testing.T) {
	t.Parallel()
	_, err := api.New(api.Config{MaxBody: -1})
	for _, want := range []string{"Cache", "Router", "Inference", "Keys", "Logger", "MaxBody"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v doesn't name %s", err, want)
		}
	}
}
