package admin_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/jackc/pgx/v5"

	"freehold/cmd/freehold/admin"
	"freehold/cmd/freehold/rest/resttest"
	"freehold/migrations/pgtest"
)

// Every route but the probes refuses whoever doesn't hold the token.
func TestEveryRouteNeedsTheToken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	public := []string{"/healthz", "/readyz", "/openapi.json"}
	_, key := b.Tenant("acme")
	_, revoked, err := b.Catalog.CreateOperator(t.Context(), "gone", "owner", nil)
	b.OK(err)
	_, err = b.Catalog.RevokeOperator(t.Context(), "gone")
	b.OK(err)
	closed := 0
	for _, rt := range b.door.Routes() {
		if slices.Contains(public, rt.Path) {
			if a := b.client.With("").Do(rt.Method, rt.Path, ""); a.Status != 200 {
				t.Errorf("%s: %d", rt.Path, a.Status)
			}
			continue
		}
		closed++
		path := strings.NewReplacer(":slug", "acme", ":id", "x", ":name", "x", "+", "x").Replace(rt.Path)
		for _, wrong := range []string{"", "x", token[:len(token)-1], token + "x", strings.ToUpper(token), key, "fho_" + key[3:], revoked} {
			b.client.With(wrong).Do(rt.Method, path, "").Refused(401, "invalid_api_key", "")
		}
	}
	if closed < 33 {
		t.Errorf("%d closed routes, want 33 or more", closed)
	}
	b.client.Do("GET", "/admin/v1/nope", "").Refused(404, "not_found", "")
	b.client.Do("PUT", "/admin/v1/tenants", "{}").Refused(405, "method_not_allowed", "")
	if strings.Contains(b.Logs.String(), token) {
		t.Error("the token is in the log")
	}
}

func TestDocument(t *testing.T) {
	t.Parallel()
	b := setup(t)
	doc, err := openapi3.NewLoader().LoadFromData([]byte(b.client.With("").Do("GET", "/openapi.json", "").Body))
	b.OK(err)
	b.OK(doc.Validate(t.Context()))
	for _, path := range []string{"/admin/v1/tenants", "/admin/v1/tenants/{slug}/keys"} {
		if doc.Paths.Value(path).Post.Parameters.GetByInAndName("header", "Idempotency-Key") == nil {
			t.Errorf("%s: no Idempotency-Key in the document", path)
		}
	}
	documented := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for _, names := range []string{"/admin/v1/models/", "/admin/v1/aliases/"} {
			if strings.HasPrefix(path, names) {
				path = names + "+"
			}
		}
		for method := range item.Operations() {
			documented[method+" "+strings.NewReplacer("{", ":", "}", "").Replace(path)] = true
		}
	}
	for _, rt := range b.door.Routes() {
		if name := rt.Method + " " + rt.Path; !documented[name] {
			t.Errorf("%s isn't documented", name)
		}
		delete(documented, rt.Method+" "+rt.Path)
	}
	if len(documented) > 0 {
		t.Errorf("documented and not served: %v", documented)
	}
}

type list[T any] struct {
	Object  string
	Data    []T
	HasMore bool `json:"has_more"`
}

func TestTenants(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client
	var made struct {
		Tenant catalogTenant
		APIKey string `json:"api_key"`
	}
	c.Do("POST", "/admin/v1/tenants", `{"slug":"acme","name":"Acme","plan":"gold","labels":{"tier":"1"}}`).Into(201, &made)
	if made.Tenant.Slug != "acme" || made.Tenant.State != "active" || !strings.HasPrefix(made.APIKey, "fh_") {
		t.Errorf("made %+v", made.Tenant)
	}
	c.Do("POST", "/admin/v1/tenants", `{"slug":"globex"}`).Into(201, &made)

	c.Do("POST", "/admin/v1/tenants", `{"slug":"acme"}`).Refused(409, "conflict", "")
	if a := c.Do("POST", "/admin/v1/tenants", `{"slug":"acme"}`); a.Header.Get("X-Should-Retry") != "false" {
		t.Error("a 409 without x-should-retry: false is tried three times")
	}
	c.Do("POST", "/admin/v1/tenants", `{"slug":"No Slug"}`).Refused(400, "invalid_request", "slug")
	c.Do("GET", "/admin/v1/tenants/%00", "").Refused(400, "invalid_request", "slug")
	c.Do("GET", "/admin/v1/tenants?label=%00", "").Refused(400, "invalid_request", "label")
	c.Do("POST", "/admin/v1/tenants", `{}`).Refused(400, "invalid_request", "slug")
	c.Do("POST", "/admin/v1/tenants", `{"slug":"x1","colour":"red"}`).Refused(400, "invalid_request", "colour")
	c.Do("POST", "/admin/v1/tenants", `{"slug":7}`).Refused(400, "invalid_request", "slug")
	c.Do("POST", "/admin/v1/tenants", `{"slug":"x1","server":"nowhere"}`).Refused(404, "not_found", "server")

	var tenants list[catalogTenant]
	for query, want := range map[string]string{
		"": "acme globex", "?plan=gold": "acme", "?label=tier=1": "acme", "?state=suspended": "", "?server=pg-1&after=acme": "globex",
		"?limit=2": "acme globex",
	} {
		tenants = list[catalogTenant]{}
		c.Do("GET", "/admin/v1/tenants"+query, "").Into(200, &tenants)
		var slugs []string
		for _, t := range tenants.Data {
			slugs = append(slugs, t.Slug)
		}
		if got := strings.Join(slugs, " "); got != want || tenants.HasMore {
			t.Errorf("%q: got %q, more %v, want %q", query, got, tenants.HasMore, want)
		}
	}
	c.Do("GET", "/admin/v1/tenants?limit=1", "").Into(200, &tenants)
	if len(tenants.Data) != 1 || !tenants.HasMore {
		t.Errorf("page: %+v", tenants)
	}
	c.Do("GET", "/admin/v1/tenants?state=happy", "").Refused(400, "invalid_request", "state")
	c.Do("GET", "/admin/v1/tenants/nobody", "").Refused(404, "not_found", "")
	for _, path := range []string{"config", "keys"} {
		c.Do("GET", "/admin/v1/tenants/nobody/"+path, "").Refused(404, "not_found", "")
	}

	var proof struct {
		OK    bool
		Lines []struct{ Try, Result string }
	}
	c.Do("POST", "/admin/v1/tenants/acme/prove", "").Into(200, &proof)
	if !proof.OK || len(proof.Lines) < 3 {
		t.Errorf("proof %+v", proof)
	}
	b.audited("tenant.create", "tenant.create", "tenant.prove")
}

type catalogTenant struct{ Slug, State, Plan string }

func TestServers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client
	const password = "no-such-password-hunter2"
	var servers list[map[string]any]
	a := c.Do("GET", "/admin/v1/servers", "")
	a.Into(200, &servers)
	if len(servers.Data) != 1 || servers.Data[0]["name"] != resttest.Server || strings.Contains(a.Body, "password") || strings.Contains(a.Body, "secret") {
		t.Errorf("servers: %s", a.Body)
	}
	c.Do("POST", "/admin/v1/servers", fmt.Sprintf(`{"name":"far","url":"postgres://admin@db.example.com:5432/postgres?sslmode=disable","password":%q}`, password)).
		Refused(400, "invalid_request", "")
	silent := c.Do("POST", "/admin/v1/servers", `{"name":"x","url":"postgres://admin@127.0.0.1:1/postgres","password":"hunter2hunter2"}`)
	silent.Refused(503, "database_unavailable", "")
	if !strings.Contains(silent.Body, "connection refused") || strings.Contains(silent.Body, "hunter2") {
		t.Errorf("a server that doesn't answer: %s", silent.Body)
	}
	c.Do("POST", "/admin/v1/servers", `{"name":"x"}`).Refused(400, "invalid_request", "url")
	address, _ := resttest.ServerURL(t)
	wrong := c.Do("POST", "/admin/v1/servers", fmt.Sprintf(`{"name":"pg-2","url":%q,"password":%q}`, address, password))
	if wrong.Status < 400 || strings.Contains(wrong.Body, password) {
		t.Errorf("wrong password: %d %s", wrong.Status, wrong.Body)
	}
	_, right := resttest.ServerURL(t)
	c.Do("POST", "/admin/v1/servers", fmt.Sprintf(`{"name":%q,"url":%q,"password":%q}`, resttest.Server, address, right)).Into(201, new(map[string]any))
	detail := b.audited("server.add")
	if all := detail + b.Logs.String(); strings.Contains(all, password) || strings.Contains(all, right) {
		t.Error("a password is in the audit or the log")
	}
}

func TestEnginesAndModels(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client
	const key = "sk-hunter2"
	var e map[string]any
	a := c.Do("POST", "/admin/v1/engines", `{"name":"vllm","kind":"openai","base_url":"http://127.0.0.1:9/v1","key":"`+key+`","timeout_seconds":5}`)
	a.Into(201, &e)
	if e["has_key"] != true || strings.Contains(a.Body, key) {
		t.Errorf("engine %v", e)
	}
	c.Do("POST", "/admin/v1/engines", `{"name":"vllm","kind":"openai","base_url":"http://127.0.0.1:9/v1"}`).Refused(409, "conflict", "")
	c.Do("POST", "/admin/v1/engines", `{"name":"x","kind":"steam"}`).Refused(400, "invalid_request", "kind")
	// What the engine could not be made from is refused now, not at the first request.
	c.Do("POST", "/admin/v1/engines", `{"name":"x","kind":"openai","base_url":"http://h/v1?a=b"}`).Refused(400, "invalid_request", "base_url")
	c.Do("POST", "/admin/v1/engines", `{"name":"x","kind":"openai","base_url":"http://h/v1","key":"a b"}`).Refused(400, "invalid_request", "key")
	c.Do("POST", "/admin/v1/engines", `{"name":"x","kind":"openai","timeout_seconds":-1}`).Refused(400, "invalid_request", "timeout_seconds")

	var m map[string]any
	c.Do("POST", "/admin/v1/models", `{"name":"acme/big","engine":"vllm","kind":"chat","input_price":"0.15","trainer":"openai"}`).Into(201, &m)
	if m["upstream"] != "acme/big" || m["trainer"] != "openai" {
		t.Errorf("model %v", m)
	}
	c.Do("POST", "/admin/v1/models", `{"name":"y","engine":"nowhere","kind":"chat"}`).Refused(400, "invalid_request", "engine")
	c.Do("POST", "/admin/v1/models", `{"name":"y","engine":"vllm","kind":"song"}`).Refused(400, "invalid_request", "kind")
	c.Do("DELETE", "/admin/v1/engines/vllm", "").Refused(409, "conflict", "")

	const small = `{"name":"small","engine":"vllm","kind":"chat","fallbacks":[{"engine":"vllm","upstream":"s-0"}],"max_output_tokens":9,"part_tokens":7}`
	c.Do("POST", "/admin/v1/models", small).Into(201, &m)
	if fmt.Sprint(m["fallbacks"], m["max_output_tokens"], m["part_tokens"], m["token_overhead"]) != "[map[engine:vllm upstream:s-0]] 9 7 32" {
		t.Errorf("model %v", m)
	}
	c.Do("POST", "/admin/v1/models", `{"name":"y","engine":"vllm","kind":"chat","fallbacks":[{"engine":"nowhere"}]}`).Refused(400, "invalid_request", "fallbacks")
	c.Do("POST", "/admin/v1/aliases", `{"alias":"org/gpt","model":"small"}`).Into(201, &m)
	c.Do("POST", "/admin/v1/aliases", `{"alias":"small","model":"acme/big"}`).Refused(409, "conflict", "")
	c.Do("POST", "/admin/v1/aliases", `{"alias":"x","model":"nope"}`).Refused(400, "invalid_request", "model")
	c.Do("POST", "/admin/v1/aliases", `{"alias":"x"}`).Refused(400, "invalid_request", "model")
	var aliases list[struct{ Alias, Model string }]
	c.Do("GET", "/admin/v1/aliases", "").Into(200, &aliases)
	if len(aliases.Data) != 1 || aliases.Data[0].Alias != "org/gpt" || aliases.Data[0].Model != "small" {
		t.Errorf("aliases %v", aliases)
	}
	c.Do("PATCH", "/admin/v1/models/small", `{"output_price":"0.7"}`).Into(200, &m)
	if m["output_price"] != "0.7" || m["max_output_tokens"] != 9.0 {
		t.Errorf("set %v", m)
	}
	c.Do("PATCH", "/admin/v1/models/small", `{"trainer":"command:trl"}`).Into(200, &m)
	if m["trainer"] != "command:trl" || m["output_price"] != "0.7" {
		t.Errorf("with a trainer %v", m)
	}
	c.Do("PATCH", "/admin/v1/models/small", `{"trainer":"sh -c id"}`).Refused(400, "invalid_request", "trainer")
	c.Do("PATCH", "/admin/v1/models/small", `{"trainer":"builtin"}`).Refused(400, "invalid_request", "trainer") // another kind of engine
	c.Do("PATCH", "/admin/v1/models/nope", `{"output_price":"0.7"}`).Refused(404, "not_found", "")
	c.Do("PATCH", "/admin/v1/models/small", `{"kind":"embedding"}`).Refused(400, "invalid_request", "kind")
	c.Do("DELETE", "/admin/v1/models/small", "").Refused(409, "conflict", "")
	c.Do("DELETE", "/admin/v1/aliases/org%2Fgpt", "").Into(200, &m)
	c.Do("DELETE", "/admin/v1/aliases/org%2Fgpt", "").Refused(404, "not_found", "")
	c.Do("DELETE", "/admin/v1/models/small", "").Into(200, &m)

	c.Do("DELETE", "/admin/v1/models/acme%2Fbig", "").Into(200, &m)
	if m["deleted"] != true || m["id"] != "acme/big" {
		t.Errorf("removal %v", m)
	}
	c.Do("DELETE", "/admin/v1/models/acme%2Fbig", "").Refused(404, "not_found", "")
	c.Do("DELETE", "/admin/v1/engines/vllm", "").Into(200, &m)
	c.Do("DELETE", "/admin/v1/engines/vllm", "").Refused(404, "not_found", "")
	var models list[map[string]any]
	c.Do("GET", "/admin/v1/models", "").Into(200, &models)
	if len(models.Data) != 3 {
		t.Errorf("models %v", models)
	}
	if detail := b.audited("engine.add", "model.add", "model.add", "model.alias", "model.set", "model.set", "model.unalias", "model.remove", "model.remove", "engine.remove"); strings.Contains(detail+b.Logs.String(), key) {
		t.Error("the engine's key is in the audit or the log")
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Tenant("acme")
	var st struct {
		Version   string
		Servers   []struct{ Name string }
		Tenants   map[string]int
		Nodes     []struct{ Live bool }
		Needs     []struct{ Kind, What, Command string }
		Confirmed bool `json:"catalog_confirmed"`
	}
	b.client.Do("GET", "/admin/v1/status", "").Into(200, &st)
	if st.Version != "test" || len(st.Servers) != 1 || st.Tenants["active"] != 1 || len(st.Nodes) != 1 || !st.Nodes[0].Live ||
		!st.Confirmed || st.Needs == nil || len(st.Needs) > 0 {
		t.Errorf("status %+v", st)
	}
	var nodes list[struct{ Name string }]
	b.client.Do("GET", "/admin/v1/nodes", "").Into(200, &nodes)
	if len(nodes.Data) != 1 {
		t.Errorf("nodes %v", nodes)
	}
	var engines list[map[string]any]
	b.client.Do("GET", "/admin/v1/engines", "").Into(200, &engines)
	if len(engines.Data) != 1 {
		t.Errorf("engines %v", engines)
	}
}

func TestConfigNamesAllMistakes(t *testing.T) {
	t.Parallel()
	_, err := admin.New(admin.Config{Token: "short"})
	for _, want := range []string{"Catalog", "Cache", "Fleet", "Router", "Logger", "Token"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v doesn't name %s", err, want)
		}
	}
	if strings.Contains(fmt.Sprint(err), "short") {
		t.Errorf("%v holds the token", err)
	}
}

// rows is the catalog's database, which is this test's own. The caller closes it.
func (b *bench) rows() *pgx.Conn {
	b.Helper()
	u, err := url.Parse(pgtest.SuperURL(b))
	b.OK(err)
	u.Path = "/" + b.Database
	conn, err := pgx.Connect(b.Context(), u.String())
	b.OK(err)
	return conn
}

// audited checks that the operators' audit holds these actions of the token's
// holder, in order, and returns all details.
func (b *bench) audited(want ...string) string {
	b.Helper()
	conn := b.rows()
	defer conn.Close(context.WithoutCancel(b.Context()))
	rows, err := conn.Query(b.Context(), "select action, detail::text from operator_audit where actor = 'admin-token' order by seq")
	b.OK(err)
	var actions, details []string
	for rows.Next() {
		var action, detail string
		b.OK(rows.Scan(&action, &detail))
		actions, details = append(actions, action), append(details, detail)
	}
	b.OK(rows.Err())
	if !slices.Equal(actions, want) {
		b.Errorf("audited %v, want %v", actions, want)
	}
	return strings.Join(details, "\n")
}
