package catalog_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"freehold/catalog"
)

func TestAllows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		list, names []string
		want        bool
	}{
		{nil, []string{"m"}, false},
		{[]string{}, []string{"m"}, false},
		{[]string{"*"}, []string{"m"}, true},
		{[]string{"m"}, []string{"m"}, true},
		{[]string{"m"}, []string{"m2"}, false},
		{[]string{"m*"}, []string{"m2"}, true},
		{[]string{"m*"}, []string{"m"}, true},
		{[]string{"m*"}, []string{"n"}, false},
		{[]string{"target"}, []string{"alias", "target"}, true},
		{[]string{"alias"}, []string{"alias", "target"}, true},
		{[]string{"other"}, []string{"alias", "target"}, false},
		{[]string{"m"}, nil, false},
		{[]string{""}, []string{"m"}, false},
	} {
		if got := (catalog.TenantConfig{AllowedModels: c.list}).AllowsAny(c.names...); got != c.want {
			t.Errorf("tenant with %q, asked for %q: %v", c.list, c.names, got)
		}
		// A key without a list adds nothing to its tenant's.
		if got := (catalog.KeyLimits{AllowedModels: c.list}).Allows(c.names...); got != (c.want || c.list == nil) {
			t.Errorf("key with %q, asked for %q: %v", c.list, c.names, got)
		}
	}
}

// A key gives what it holds, and nothing that it doesn't.
func TestDelegate(t *testing.T) {
	t.Parallel()
	soon, later := time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	tokens, slots := int64(100), 2
	all := catalog.Identity{Scopes: []string{catalog.ScopeAll}}
	few := catalog.Identity{Scopes: []string{catalog.ScopeKeys, catalog.ScopeRead}}
	narrow := catalog.Identity{Scopes: []string{catalog.ScopeKeys}, Limits: catalog.KeyLimits{AllowedModels: []string{"gpt-*", "m"}}}
	short := catalog.Identity{Scopes: []string{catalog.ScopeKeys}, Expires: soon}
	metered := catalog.Identity{Scopes: []string{catalog.ScopeAll}, Limits: catalog.KeyLimits{MonthlyTokenLimit: &tokens}}
	slotted := catalog.Identity{Scopes: []string{catalog.ScopeAll}, Limits: catalog.KeyLimits{ConcurrentRequestLimit: &slots}}
	keys := []string{catalog.ScopeKeys}
	for _, c := range []struct {
		what  string
		who   catalog.Identity
		spec  catalog.KeySpec
		field string // refused for; empty: given
	}{
		{"all", all, catalog.KeySpec{Scopes: []string{catalog.ScopeAll, catalog.ScopeErase}}, ""},
		{"one's own", few, catalog.KeySpec{Scopes: []string{catalog.ScopeRead}}, ""},
		{"another scope", few, catalog.KeySpec{Scopes: []string{catalog.ScopeRead, catalog.ScopeErase}}, "scopes"},
		{"every scope", few, catalog.KeySpec{Scopes: []string{catalog.ScopeAll}}, "scopes"},
		{"limits, having none", few, catalog.KeySpec{Scopes: keys, MonthlyTokenLimit: &tokens, ConcurrentRequestLimit: &slots}, ""},
		{"a model", narrow, catalog.KeySpec{Scopes: keys, AllowedModels: []string{"gpt-4", "m", "gpt-4*", "gpt-*"}}, ""},
		{"another model", narrow, catalog.KeySpec{Scopes: keys, AllowedModels: []string{"m", "n"}}, "allowed_models"},
		{"a wider prefix", narrow, catalog.KeySpec{Scopes: keys, AllowedModels: []string{"gpt*"}}, "allowed_models"},
		{"a prefix of a name", narrow, catalog.KeySpec{Scopes: keys, AllowedModels: []string{"m*"}}, "allowed_models"},
		{"every model", narrow, catalog.KeySpec{Scopes: keys, AllowedModels: []string{"*"}}, "allowed_models"},
		{"sooner", short, catalog.KeySpec{Scopes: keys, ExpiresAt: &soon}, ""},
		{"later", short, catalog.KeySpec{Scopes: keys, ExpiresAt: &later}, "expires_at"},
		{"a part of a month's tokens", metered, catalog.KeySpec{Scopes: keys, MonthlyTokenLimit: new(int64)}, "monthly_token_limit"},
		{"a part of the slots", slotted, catalog.KeySpec{Scopes: keys, ConcurrentRequestLimit: &slots}, "concurrent_request_limit"},
	} {
		_, err := c.who.Delegate(c.spec)
		refused, ok := errors.AsType[*catalog.NotHeld](err)
		if (err == nil) != (c.field == "") || ok && refused.Field != c.field {
			t.Errorf("%s: %v, want a refusal of %q", c.what, err, c.field)
		}
	}
	spec, err := narrow.Delegate(catalog.KeySpec{Scopes: keys})
	if err != nil || !slices.Equal(spec.AllowedModels, narrow.Limits.AllowedModels) {
		t.Errorf("models that aren't named: %q, %v", spec.AllowedModels, err)
	}
	spec, err = short.Delegate(catalog.KeySpec{Scopes: keys})
	if err != nil || spec.ExpiresAt == nil || !spec.ExpiresAt.Equal(soon) {
		t.Errorf("an expiry that isn't named: %v, %v", spec.ExpiresAt, err)
	}
}

func TestModelPrices(t *testing.T) {
	t.Parallel()
	for price, want := range map[string]int64{
		"0": 0, "0.15": 150_000_000, "0.000001": 1000, "12": 12_000_000_000, "3.5": 3_500_000_000, "007": 7_000_000_000,
		"999999999.999999": 999_999_999_999_999_000, "1000000000": 1_000_000_000_000_000_000, "1000000000.000000": 1_000_000_000_000_000_000,
		"999999999999.5": 1_000_000_000_000_000_000, // as a release without a highest price took it
	} {
		m := catalog.Model{InputPrice: price, OutputPrice: price}
		if in, out := m.InputNano(), m.OutputNano(); in != want || out != want {
			t.Errorf("%s: %d and %d nano-units, want %d", price, in, out, want)
		}
	}
}
