package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
)

type apiKey struct {
	ID                string   `json:"id"`
	Object            string   `json:"object"`
	Scopes            []string `json:"scopes"`
	CreatedAt         int64    `json:"created_at"`
	ExpiresAt         *int64   `json:"expires_at"`
	RevokedAt         *int64   `json:"revoked_at"`
	AllowedModels     []string `json:"allowed_models"`
	MonthlyTokenLimit *int64   `json:"monthly_token_limit"`
	Token             string   `json:"token"`
}

func TestKeys(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client
	var made apiKey
	const body = `{"name":"ci","scopes":["read"],"allowed_models":["chat-*"],"monthly_token_limit":50}`
	a := c.Do("POST", "/v1/api_keys", body, "Idempotency-Key", "one")
	a.Into(201, &made)
	if made.Object != "api_key" || made.CreatedAt == 0 || *made.MonthlyTokenLimit != 50 || !strings.HasPrefix(made.Token, "fh_"+made.ID) {
		t.Errorf("made %s", made.ID)
	}
	if a := c.With(made.Token).Do("GET", "/v1/models", ""); a.Status != 200 {
		t.Errorf("with it: %d %s", a.Status, a.Body)
	}
	// The same request again: the same key, and no secret.
	var again apiKey
	a = c.Do("POST", "/v1/api_keys", body, "Idempotency-Key", "one")
	a.Into(201, &again)
	if again.ID != made.ID || again.Token != "" || strings.Contains(a.Body, "token\"") {
		t.Errorf("again: %s", a.Body)
	}
	c.Do("POST", "/v1/api_keys", `{"scopes":["read"]}`, "Idempotency-Key", "one").Refused(422, "idempotency_mismatch", "Idempotency-Key")
	// Another key's requests have names of their own.
	other := c.With(b.Key(b.acme, catalog.ScopeKeys, catalog.ScopeRead))
	a = other.Do("POST", "/v1/api_keys", `{"scopes":["read"]}`, "Idempotency-Key", "one")
	a.Into(201, &again)
	if again.ID == made.ID || again.Token == "" {
		t.Errorf("another key's: %s", a.Body)
	}

	for body, param := range map[string]string{
		`{}`: "scopes", `{"scopes":[]}`: "scopes", `{"scopes":["everything"]}`: "scopes", `{"scopes":["all"],"expires_at":"soon"}`: "expires_at",
		`{"scopes":["all"],"allowed_models":[]}`: "allowed_models", `{"scopes":["all"],"monthly_token_limit":-1}`: "monthly_token_limit",
		`{"scopes":["all"],"colour":1}`: "colour",
	} {
		c.Do("POST", "/v1/api_keys", body).Refused(400, "invalid_request", param)
	}

	// Pages, oldest first, without a secret.
	var page struct {
		Data    []apiKey
		HasMore bool   `json:"has_more"`
		LastID  string `json:"last_id"`
	}
	a = c.Do("GET", "/v1/api_keys?limit=2", "")
	a.Into(200, &page)
	if len(page.Data) != 2 || !page.HasMore || strings.Contains(a.Body, made.Token) || strings.Contains(a.Body, "token\"") {
		t.Errorf("first page %s", a.Body)
	}
	listed := len(page.Data)
	for page.HasMore {
		c.Do("GET", "/v1/api_keys?limit=2&after="+page.LastID, "").Into(200, &page)
		listed += len(page.Data)
	}
	keys, err := b.Catalog.Keys(t.Context(), b.acme.ID)
	b.OK(err)
	if listed != len(keys) {
		t.Errorf("%d keys on all pages, want %d", listed, len(keys))
	}
	c.Do("GET", "/v1/api_keys?after=nope", "").Refused(400, "invalid_request", "after")

	_, theirs := b.Platform.Tenant("globex")
	c.With(theirs).Do("DELETE", "/v1/api_keys/"+made.ID, "").Refused(404, "not_found", "")
	for range 2 { // twice is once
		a = c.Do("DELETE", "/v1/api_keys/"+made.ID, "")
		if a.Status != 200 || a.Body != `{"id":"`+made.ID+`","object":"api_key","deleted":true}` {
			t.Errorf("revoked: %d %s", a.Status, a.Body)
		}
	}
	b.Until("the key is refused", func() bool { return c.With(made.Token).Do("GET", "/v1/models", "").Status == 401 })
	for _, secret := range []string{made.Token, again.Token} {
		if strings.Contains(b.Logs.String(), secret) {
			t.Error("a token is in the log")
		}
	}

	// Written down in the caller's name, with the tenant: a worker brings it there.
	acts := b.acts(b.acme)
	me := "key:" + c.Token[3:15]
	if fmt.Sprint(acts) != fmt.Sprint([]string{
		me + " key.create " + made.ID, "key:" + other.Token[3:15] + " key.create " + again.ID,
		me + " key.revoke " + made.ID, me + " key.revoke " + made.ID,
	}) {
		t.Errorf("audited %v", acts)
	}
}

// acts is what was done to a tenant, by keys.
func (b *bench) acts(tenant catalog.Tenant) (acts []string) {
	b.Helper()
	list, err := b.Catalog.OperatorActs(b.Context(), tenant.ID, 0, 100)
	b.OK(err)
	for _, act := range list {
		var detail struct{ Key string }
		b.OK(json.Unmarshal(act.Detail, &detail))
		if strings.HasPrefix(act.Actor, "key:") {
			acts = append(acts, act.Actor+" "+act.Action+" "+detail.Key)
		}
	}
	return acts
}

// A key can give no scope, model, limit or time that it doesn't have itself.
func TestKeys_noEscalation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	make := func(spec catalog.KeySpec) string {
		t.Helper()
		_, token, err := b.Catalog.CreateKey(t.Context(), b.acme.ID, spec)
		b.OK(err)
		return token
	}
	soon := time.Now().Add(time.Hour)
	later := soon.Add(time.Hour).UTC().Format(time.RFC3339)
	tokens, slots := int64(100), 2
	few := []string{catalog.ScopeKeys, catalog.ScopeRead}
	clerk := make(catalog.KeySpec{Scopes: few})
	narrow := make(catalog.KeySpec{Scopes: few, AllowedModels: []string{"chat-*"}, ExpiresAt: &soon})
	metered := make(catalog.KeySpec{Scopes: []string{catalog.ScopeAll}, MonthlyTokenLimit: &tokens})
	slotted := make(catalog.KeySpec{Scopes: []string{catalog.ScopeAll}, ConcurrentRequestLimit: &slots})
	for _, c := range []struct{ token, body, param string }{
		{clerk, `{"scopes":["all"]}`, "scopes"},
		{clerk, `{"scopes":["read","inference"]}`, "scopes"},
		{narrow, `{"scopes":["read"],"allowed_models":["*"]}`, "allowed_models"},
		{narrow, `{"scopes":["read"],"allowed_models":["chat-1","embed-1"]}`, "allowed_models"},
		{narrow, `{"scopes":["read"],"expires_at":"` + later + `"}`, "expires_at"},
		{metered, `{"scopes":["inference"],"monthly_token_limit":1}`, "monthly_token_limit"},
		{slotted, `{"scopes":["inference"]}`, "concurrent_request_limit"},
	} {
		b.client.With(c.token).Do("POST", "/v1/api_keys", c.body).Refused(403, "insufficient_scope", c.param)
	}
	var made apiKey
	b.client.With(narrow).Do("POST", "/v1/api_keys", `{"scopes":["read"]}`).Into(201, &made)
	if fmt.Sprint(made.AllowedModels) != "[chat-*]" || made.ExpiresAt == nil || *made.ExpiresAt != soon.Unix() {
		t.Errorf("what isn't named isn't the caller's own: %+v", made.AllowedModels)
	}
	var models struct{ Data []struct{ ID string } }
	b.client.With(made.Token).Do("GET", "/v1/models", "").Into(200, &models)
	if len(models.Data) != 1 || models.Data[0].ID != "chat-1" {
		t.Errorf("it sees %v", models.Data)
	}
	b.client.With(made.Token).Do("GET", "/v1/models/embed-1", "").Refused(404, "model_not_found", "model")
}

func TestConfig(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.Fleet.PatchConfig(t.Context(), b.acme.ID, catalog.ConfigPatch{PIIDeny: &[]string{"Project X"}})
	b.OK(err)
	tokens := int64(7)
	key, token, err := b.Catalog.CreateKey(t.Context(), b.acme.ID, catalog.KeySpec{Scopes: []string{catalog.ScopeRead}, MonthlyTokenLimit: &tokens})
	b.OK(err)
	var cfg map[string]any
	a := b.client.With(token).Do("GET", "/v1/config", "")
	a.Into(200, &cfg)
	own, _ := cfg["api_key"].(map[string]any)
	if cfg["object"] != "config" || cfg["monthly_token_limit"] != 1e6 || fmt.Sprint(cfg["pii_deny"]) != "[Project X]" ||
		own["id"] != key.ID || own["monthly_token_limit"] != 7.0 || own["allowed_models"] != nil {
		t.Errorf("%s", a.Body)
	}
}

// An alias is listed beside its model where either name is allowed.
func TestModels_aliases(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.Catalog.SetAlias(t.Context(), "org/gpt-mini", "chat-1")
	b.OK(err)
	_, narrow, err := b.Catalog.CreateKey(t.Context(), b.acme.ID, catalog.KeySpec{
		Scopes: []string{catalog.ScopeRead, catalog.ScopeInference}, AllowedModels: []string{"org/*"},
	})
	b.OK(err)
	ids := func(token string) string {
		var models struct {
			Data []struct {
				ID      string
				OwnedBy string `json:"owned_by"`
			}
		}
		b.client.With(token).Do("GET", "/v1/models", "").Into(200, &models)
		var list []string
		for _, m := range models.Data {
			list = append(list, m.ID)
			if m.OwnedBy != "freehold" {
				t.Errorf("%s is owned by %s", m.ID, m.OwnedBy)
			}
		}
		return strings.Join(list, " ")
	}
	b.Until("the alias is known", func() bool { return ids(b.client.Token) == "chat-1 embed-1 meta-llama/Llama-3 org/gpt-mini" })
	if got := ids(narrow); got != "org/gpt-mini" {
		t.Errorf("a key for aliases alone sees %q", got)
	}
	c := b.client.With(narrow)
	var m struct{ ID string }
	c.Do("GET", "/v1/models/org%2Fgpt-mini", "").Into(200, &m)
	if m.ID != "org/gpt-mini" {
		t.Errorf("shown as %s", m.ID)
	}
	c.Do("GET", "/v1/models/chat-1", "").Refused(404, "model_not_found", "model")
	c.Do("POST", "/v1/chat/completions", hello).Refused(403, "model_not_allowed", "model")
	if a := c.Do("POST", "/v1/chat/completions", strings.Replace(hello, "chat-1", "org/gpt-mini", 1)); a.Status != 200 {
		t.Errorf("asked for by its alias: %d %s", a.Status, a.Body)
	}
	_, err = b.Fleet.PatchConfig(t.Context(), b.acme.ID, catalog.ConfigPatch{AllowedModels: &[]string{"chat-1"}})
	b.OK(err)
	// What the tenant is allowed by the model's name holds for the alias.
	b.Until("the node knows", func() bool { return ids(b.client.Token) == "chat-1 org/gpt-mini" })
}
