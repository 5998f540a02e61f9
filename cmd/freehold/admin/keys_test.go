package admin_test

import (
	"strings"
	"testing"
)

func TestConfigAndKeys(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client
	_, first := b.Tenant("acme")

	var cfg map[string]any
	c.Do("GET", "/admin/v1/tenants/acme/config", "").Into(200, &cfg)
	if cfg["monthly_token_limit"] != 1e6 || cfg["pii_mode"] != "restore" {
		t.Errorf("defaults: %v", cfg)
	}
	const secret = "be kind to the board of Acme"
	c.Do("PATCH", "/admin/v1/tenants/acme/config", `{"monthly_token_limit":5,"system_prompt_override":"`+secret+`"}`).Into(200, &cfg)
	if cfg["monthly_token_limit"] != 5.0 || cfg["concurrent_request_limit"] != 10.0 {
		t.Errorf("patched: %v", cfg)
	}
	for body, param := range map[string]string{
		`{"monthly_token_limit":"many"}`: "monthly_token_limit", `{"pii":true}`: "pii", `{"monthly_token_limit":-1}`: "monthly_token_limit", `{"pii_mode":"maybe"}`: "pii_mode",
	} {
		c.Do("PATCH", "/admin/v1/tenants/acme/config", body).Refused(400, "invalid_request", param)
	}

	var made struct {
		Key   struct{ ID string }
		Token string
	}
	c.Do("POST", "/admin/v1/tenants/acme/keys", `{"name":"ci","scopes":["inference"]}`).Into(201, &made)
	if !strings.HasPrefix(made.Token, "fh_"+made.Key.ID) {
		t.Errorf("made key %s", made.Key.ID)
	}
	c.Do("POST", "/admin/v1/tenants/acme/keys", `{"scopes":["everything"]}`).Refused(400, "invalid_request", "scopes")
	c.Do("POST", "/admin/v1/tenants/acme/keys", `{"scopes":[]}`).Refused(400, "invalid_request", "scopes")
	c.Do("POST", "/admin/v1/tenants/acme/keys", `{"scopes":["all"],"expires_at":"soon"}`).Refused(400, "invalid_request", "expires_at")
	c.Do("POST", "/admin/v1/tenants/acme/keys", `{}`).Refused(400, "invalid_request", "scopes")
	if _, err := b.Cache.Authenticate(t.Context(), made.Token); err != nil {
		t.Errorf("the new key: %v", err)
	}
	c.Do("DELETE", "/admin/v1/tenants/acme/keys/"+made.Key.ID, "").Into(200, &cfg)
	b.Until("the key is refused", func() bool {
		_, err := b.Cache.Authenticate(t.Context(), made.Token)
		return err != nil
	})
	c.Do("DELETE", "/admin/v1/tenants/acme/keys/unknown", "").Refused(404, "not_found", "")
	var keys list[struct {
		ID        string
		RevokedAt *string `json:"revoked_at"`
	}]
	a := c.Do("GET", "/admin/v1/tenants/acme/keys", "")
	a.Into(200, &keys)
	if len(keys.Data) != 2 || strings.Contains(a.Body, "hash") {
		t.Errorf("keys: %s", a.Body)
	}
	detail := b.audited("config.set", "key.create", "key.revoke")
	for _, hidden := range []string{secret, made.Token, first} {
		if strings.Contains(detail, hidden) || strings.Contains(b.Logs.String(), hidden) {
			t.Error("a secret or a prompt is in the audit or the log")
		}
	}
}

// A key's own limits, set with it and later; and what says them wrongly is named.
func TestKeyLimits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client
	b.Tenant("acme")
	const keys = "/admin/v1/tenants/acme/keys"
	var made struct {
		Key   map[string]any
		Token string
	}
	body := `{"scopes":["inference"],"allowed_models":["gpt-*"],"monthly_token_limit":7,"concurrent_request_limit":2}`
	c.Do("POST", keys, body, "Idempotency-Key", "one").Into(201, &made)
	id, token := made.Key["id"], made.Token
	if made.Key["monthly_token_limit"] != 7.0 || made.Key["concurrent_request_limit"] != 2.0 || token == "" {
		t.Errorf("made %v", made.Key)
	}
	c.Do("POST", keys, body, "Idempotency-Key", "one").Into(201, &made)
	if made.Key["id"] != id || made.Token != "" {
		t.Error("the same request made another key, or shows the first one's token again")
	}
	c.Do("POST", keys, `{"scopes":["read"]}`, "Idempotency-Key", "one").Refused(422, "idempotency_mismatch", "Idempotency-Key")

	var k map[string]any
	path := keys + "/" + id.(string)
	c.Do("PATCH", path, `{"allowed_models":null,"monthly_token_limit":9}`).Into(200, &k)
	if k["allowed_models"] != nil || k["monthly_token_limit"] != 9.0 || k["concurrent_request_limit"] != 2.0 {
		t.Errorf("changed %v", k)
	}
	b.Until("the node knows", func() bool {
		who, err := b.Cache.Authenticate(t.Context(), token)
		return err == nil && who.Limits.AllowedModels == nil && *who.Limits.MonthlyTokenLimit == 9
	})
	for body, param := range map[string]string{
		`{"allowed_models":[]}`: "allowed_models", `{"monthly_token_limit":-1}`: "monthly_token_limit", `{"monthly_token_limit":"x"}`: "monthly_token_limit",
		`{"concurrent_request_limit":0}`: "concurrent_request_limit", `{"scopes":["all"]}`: "scopes",
	} {
		c.Do("PATCH", path, body).Refused(400, "invalid_request", param)
	}
	c.Do("PATCH", keys+"/unknown", `{}`).Refused(404, "not_found", "")
	b.audited("key.create", "key.set")
}
