package catalog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme, globex := b.tenant("acme"), b.tenant("globex")
	later := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	key, token, err := b.cat.CreateKey(ctx, acme.ID, catalog.KeySpec{
		Name: "ci", Scopes: []string{"read", "inference", "read"}, ExpiresAt: &later,
	})
	b.ok(err)
	if !regexp.MustCompile(`^fh_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}$`).MatchString(token) {
		t.Errorf("token has another shape")
	}
	id, err := catalog.ParseKey(token)
	if err != nil || id != key.ID {
		t.Errorf("parsed %q, want %q: %v", id, key.ID, err)
	}
	list, err := b.cat.Keys(ctx, acme.ID)
	b.ok(err)
	if len(list) != 2 || list[0].Name != "first" { // the one that it was made with
		t.Fatalf("listed %+v", list)
	}
	if list = list[1:]; list[0].ID != key.ID || list[0].Name != "ci" || !list[0].ExpiresAt.Equal(later) ||
		strings.Join(list[0].Scopes, " ") != "inference read" || list[0].RevokedAt != nil {
		t.Errorf("listed %+v", list)
	}
	if list, err := b.cat.Keys(ctx, globex.ID); err != nil || len(list) != 1 || list[0].ID == key.ID {
		t.Errorf("globex has %+v: %v", list, err)
	}
	past := time.Now().Add(-time.Second)
	_, _, err = b.cat.CreateKey(ctx, acme.ID, catalog.KeySpec{Scopes: []string{"all"}, ExpiresAt: &past})
	b.is(err, catalog.ErrInvalid)
	_, _, err = b.cat.CreateKey(ctx, catalog.NewTenantID(), catalog.KeySpec{Scopes: []string{"all"}})
	b.is(err, catalog.ErrNotFound)

	_, err = b.cat.RevokeKey(ctx, globex.ID, key.ID)
	b.is(err, catalog.ErrNotFound)
	first, err := b.cat.RevokeKey(ctx, acme.ID, key.ID)
	b.ok(err)
	second, err := b.cat.RevokeKey(ctx, acme.ID, key.ID)
	b.ok(err)
	if first != second {
		t.Errorf("revoked at epoch %d, then at %d", first, second)
	}
	if list, err = b.cat.Keys(ctx, acme.ID); err != nil || list[1].RevokedAt == nil {
		t.Errorf("still good: %+v: %v", list, err)
	}
}

func TestPatchConfig(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	tenant := b.tenant("acme")
	before, epoch, err := b.cat.PatchConfig(ctx, tenant.ID, catalog.ConfigPatch{})
	b.ok(err)
	none, prompt, off := []string{}, "Be brief.\nAlways.", false
	after, moved, err := b.cat.PatchConfig(ctx, tenant.ID, catalog.ConfigPatch{
		AllowedModels: &none, SystemPromptOverride: &prompt, PIIDetectionEnabled: &off,
	})
	b.ok(err)
	if moved <= epoch || len(after.AllowedModels) != 0 || after.SystemPromptOverride != prompt ||
		after.PIIDetectionEnabled || after.MonthlyTokenLimit != before.MonthlyTokenLimit || after.Allows("any") {
		t.Errorf("epoch %d → %d: %+v", epoch, moved, after)
	}
	read, err := b.cat.TenantConfig(ctx, tenant.ID)
	if err != nil || read.SystemPromptOverride != prompt || read.AllowedModels == nil {
		t.Errorf("read %+v: %v", read, err)
	}
	if _, same, err := b.cat.PatchConfig(ctx, tenant.ID, catalog.ConfigPatch{}); err != nil || same != moved {
		t.Errorf("an empty patch moved the epoch from %d to %d: %v", moved, same, err)
	}
	_, err = b.cat.TenantConfig(ctx, catalog.NewTenantID())
	b.is(err, catalog.ErrNotFound)
}

// Lists of words are replaced whole, and emptied.
func TestPatchConfig_words(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	id := b.tenant("acme").ID
	if c, err := b.cat.TenantConfig(ctx, id); err != nil || c.PIIAllow == nil || len(c.PIIAllow)+len(c.PIIDeny) > 0 {
		t.Errorf("at first %+v: %v", c, err)
	}
	days := 0
	_, _, err := b.cat.PatchConfig(ctx, id, catalog.ConfigPatch{
		PIIAllow: &[]string{"help@acme.example", "Straße 7"}, PIIDeny: &[]string{"Project X"}, PredictionLogRetentionDays: &days,
	})
	b.ok(err)
	c, _, err := b.cat.PatchConfig(ctx, id, catalog.ConfigPatch{PIIDeny: &[]string{}})
	b.ok(err)
	if strings.Join(c.PIIAllow, "|") != "help@acme.example|Straße 7" || c.PIIDeny == nil || len(c.PIIDeny) > 0 || c.PredictionLogRetentionDays != 0 {
		t.Errorf("%+v", c)
	}
	many := make([]string, 201)
	for i := range many {
		many[i] = "w"
	}
	negative := -1
	for name, bad := range map[string]catalog.ConfigPatch{
		"pii_allow": {PIIAllow: &many}, "pii_deny": {PIIDeny: &[]string{" "}}, "pii_deny ": {PIIDeny: &[]string{"a\nb"}},
		"pii_deny  ": {PIIDeny: &[]string{strings.Repeat("é", 201)}}, "pii_deny   ": {PIIDeny: &[]string{"\xff"}},
		"prediction_log_retention_days": {PredictionLogRetentionDays: &negative},
	} {
		_, _, err := b.cat.PatchConfig(ctx, id, bad)
		if refused, ok := errors.AsType[*catalog.Invalid](err); !ok || refused.Field != strings.TrimSpace(name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, _, err = b.cat.PatchConfig(ctx, id, catalog.ConfigPatch{PIIDeny: &[]string{strings.Repeat("é", 200)}})
	b.ok(err)
}

// A key's own limits reach who calls with it, and change under them.
func TestKeyLimits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme, globex := b.tenant("acme"), b.tenant("globex")
	cache := b.cache(b.cat, catalog.CacheConfig{})
	tokens, slots, ends := int64(0), 3, time.Now().Add(time.Hour).Truncate(time.Millisecond)
	key, token, err := b.cat.CreateKey(ctx, acme.ID, catalog.KeySpec{
		Scopes: []string{"inference"}, AllowedModels: []string{"gpt-*"}, MonthlyTokenLimit: &tokens, ConcurrentRequestLimit: &slots,
		ExpiresAt: &ends,
	})
	b.ok(err)
	who, err := cache.Authenticate(ctx, token)
	b.ok(err)
	if l := who.Limits; *l.MonthlyTokenLimit != 0 || *l.ConcurrentRequestLimit != 3 || !l.Allows("gpt-4") || l.Allows("m") || !who.Expires.Equal(ends) {
		t.Errorf("%+v until %s", l, who.Expires)
	}

	patch := catalog.KeyPatch{}
	b.ok(json.Unmarshal([]byte(`{"allowed_models": null, "monthly_token_limit": 5, "name": "ci"}`), &patch))
	changed, epoch, err := b.cat.PatchKey(ctx, acme.ID, key.ID, patch)
	b.ok(err)
	if changed.AllowedModels != nil || *changed.MonthlyTokenLimit != 5 || *changed.ConcurrentRequestLimit != 3 || changed.Name != "ci" || epoch <= who.Epoch {
		t.Errorf("changed to %+v at %d", changed, epoch)
	}
	b.within(5*time.Second, "the cache knows", func() bool {
		who, err := cache.Authenticate(ctx, token)
		return err == nil && who.Epoch >= epoch && who.Limits.AllowedModels == nil && *who.Limits.MonthlyTokenLimit == 5
	})
	if _, same, err := b.cat.PatchKey(ctx, acme.ID, key.ID, catalog.KeyPatch{}); err != nil || same != epoch {
		t.Errorf("an empty patch moved the epoch from %d to %d: %v", epoch, same, err)
	}
	_, _, err = b.cat.PatchKey(ctx, globex.ID, key.ID, patch)
	b.is(err, catalog.ErrNotFound)
	for _, bad := range []string{
		`{"allowed_models": []}`, `{"allowed_models": ["a b"]}`, `{"monthly_token_limit": -1}`, `{"concurrent_request_limit": 0}`, `{"name": "a\nb"}`,
	} {
		patch := catalog.KeyPatch{}
		b.ok(json.Unmarshal([]byte(bad), &patch))
		_, _, err = b.cat.PatchKey(ctx, acme.ID, key.ID, patch)
		b.is(err, catalog.ErrInvalid)
	}
	less, none := int64(-1), 0
	for _, bad := range []catalog.KeySpec{{AllowedModels: []string{}}, {MonthlyTokenLimit: &less}, {ConcurrentRequestLimit: &none}} {
		bad.Scopes = []string{"all"}
		_, _, err = b.cat.CreateKey(ctx, acme.ID, bad)
		b.is(err, catalog.ErrInvalid)
	}
	_, err = b.cat.RevokeKey(ctx, acme.ID, key.ID)
	b.ok(err)
	_, _, err = b.cat.PatchKey(ctx, acme.ID, key.ID, patch)
	b.is(err, catalog.ErrConflict)
}

// The same request again makes no second key, and shows no secret; who made a key
// is written down with it.
func TestCreateKey_again(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme, globex := b.tenant("acme"), b.tenant("globex")
	spec := catalog.KeySpec{Name: "ci", Scopes: []string{"read"}, Actor: "key:x", RequestKey: "x/1", RequestHash: []byte("what")}
	key, token, err := b.cat.CreateKey(ctx, acme.ID, spec)
	b.ok(err)
	again, none, err := b.cat.CreateKey(ctx, acme.ID, spec)
	b.ok(err)
	if token == "" || none != "" || again.ID != key.ID || again.Name != "ci" {
		t.Errorf("made %s, then %+v with a token of %d characters", key.ID, again, len(none))
	}
	other := spec
	other.RequestHash = []byte("something else")
	_, _, err = b.cat.CreateKey(ctx, acme.ID, other)
	b.is(err, catalog.ErrMismatch)
	if theirs, _, err := b.cat.CreateKey(ctx, globex.ID, other); err != nil || theirs.ID == key.ID {
		t.Errorf("globex: %+v, %v", theirs, err)
	}
	conn := b.as("freehold_catalog")
	if n := b.number(conn, `select count(*) from operator_audit where action = 'key.create' and tenant = $1 and actor = 'key:x' and detail ->> 'key' = $2`, acme.ID, key.ID); n != 1 {
		t.Errorf("written down %d times", n)
	}
	// A day later it is another request.
	b.exec(conn, `update api_keys set created_at = created_at - interval '25 hours' where id = $1`, key.ID)
	if later, token, err := b.cat.CreateKey(ctx, acme.ID, other); err != nil || later.ID == key.ID || token == "" {
		t.Errorf("a day later: %+v, %v", later, err)
	}
	// What makes keys by itself is bounded; keys that hold no longer don't count.
	b.exec(conn, `insert into api_keys (id, tenant, hash, scopes, expires_at)
		select 'k' || n, $1, decode(repeat('00', 32), 'hex'), '{read}', case when n <= 10 then now() - interval '1 s' end from generate_series(1, 1007) n`, acme.ID)
	_, _, err = b.cat.CreateKey(ctx, acme.ID, catalog.KeySpec{Scopes: []string{"read"}})
	b.is(err, catalog.ErrConflict)
	_, err = b.cat.RevokeKey(ctx, acme.ID, "k11")
	b.ok(err)
	_, _, err = b.cat.CreateKey(ctx, acme.ID, catalog.KeySpec{Scopes: []string{"read"}})
	b.ok(err)
}

// No row holds what a secret was before it was sealed or hashed.
func TestSecrets_sealedAtRest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	tenant := b.tenant("acme")
	_, token := b.key(tenant.ID, "all")
	_, err := b.cat.AddEngine(ctx, catalog.EngineSpec{Name: "vllm", Kind: "openai", BaseURL: "http://v/v1", Key: "engine-sk-1"})
	b.ok(err)
	route, err := b.cat.Route(ctx, tenant.ID)
	b.ok(err)
	admin, err := b.cat.ServerAdmin(ctx, "pg-1", "postgres")
	b.ok(err)
	if len(route.Config.Password) != 43 || admin.Password != "server-pass-pg-1" {
		t.Error("secrets don't come back")
	}
	conn := b.as("freehold_catalog")
	secrets := []string{token, token[len("fh_")+13:], route.Config.Password, admin.Password, "engine-sk-1"}
	for _, table := range []string{"tenants", "servers", "engines", "api_keys", "catalog_seal", "operator_audit"} {
		var dump []byte
		b.ok(conn.QueryRow(ctx, `select convert_to(coalesce(string_agg(r::text, ' '), ''), 'UTF8') from `+table+` r`).Scan(&dump))
		for i, secret := range secrets {
			if bytes.Contains(dump, []byte(secret)) || bytes.Contains(dump, []byte(toHex(secret))) {
				t.Errorf("secret %d stands in %s", i, table)
			}
		}
	}
	// A sealed secret moved to another tenant's row doesn't open there.
	globex := b.tenant("globex")
	b.exec(conn, `update tenants set secret = (select secret from tenants where slug = 'acme') where slug = 'globex'`)
	if _, err := b.cat.Route(ctx, globex.ID); err == nil {
		t.Error("acme's secret opened in globex's row")
	}
}

func toHex(s string) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 2*len(s))
	for i := range len(s) {
		out = append(out, digits[s[i]>>4], digits[s[i]&15])
	}
	return string(out)
}

func FuzzParseKey(f *testing.F) {
	good := "fh_0Ab9Zz000001_" + strings.Repeat("a", 49)
	for _, seed := range []string{"", "fh_", good, good[:64], "sk-" + good, strings.Repeat("\xff", 65)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		id, err := catalog.ParseKey(token)
		if err != nil {
			if id != "" {
				t.Errorf("refused, yet its id is %q", id)
			}
			return
		}
		if len(id) != 12 || !strings.HasPrefix(token, "fh_"+id+"_") || len(token) != 65 {
			t.Errorf("accepted %q with id %q", token, id)
		}
		// Any one character mistyped is refused.
		for i := range len(token) {
			typo := []byte(token)
			typo[i] ^= 1
			if _, err := catalog.ParseKey(string(typo)); err == nil {
				t.Errorf("accepted %q for %q", typo, token)
			}
		}
	})
}

func TestParseKey_typos(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, token := b.key(b.tenant("acme").ID, "all")
	for i := range len(token) {
		for _, c := range "0aZ_-é\x00" {
			typo := token[:i] + string(c) + token[i+1:]
			if typo == token {
				continue
			}
			if _, err := catalog.ParseKey(typo); err == nil {
				t.Fatalf("accepted a typo at %d", i)
			}
		}
	}
}
