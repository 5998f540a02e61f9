package catalog_test

import (
	"strings"
	"testing"
	"time"

	"freehold/catalog"
)

func TestTenantFilters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.admin()
	for _, slug := range []string{"acme", "globex", "initech", "hooli"} {
		b.tenant(slug)
	}
	b.exec(admin, `update tenants set schema_version = 2, created_at = now() - interval '40 days', plan = 'gold' where slug = 'acme'`)
	b.exec(admin, `update tenants set schema_version = 3, created_at = now() - interval '2 hours', labels = '{"tier": "1"}' where slug = 'globex'`)
	b.exec(admin, `update tenants set schema_version = 4, state = 'suspended' where slug = 'hooli'`)
	b.exec(admin, `update tenants set schema_version = 3, state = 'deleted' where slug = 'initech'`)
	for _, c := range []struct {
		name string
		f    catalog.TenantFilter
		want string
	}{
		{"all", catalog.TenantFilter{}, "acme globex hooli"},
		{"state", catalog.TenantFilter{State: "deleted"}, "initech"},
		{"server", catalog.TenantFilter{Server: "pg-2"}, ""},
		{"plan", catalog.TenantFilter{Plan: "gold"}, "acme"},
		{"label", catalog.TenantFilter{Label: "tier=1"}, "globex"},
		{"version", catalog.TenantFilter{Schema: "3"}, "globex"},
		{"below", catalog.TenantFilter{Schema: "<3"}, "acme"},
		{"up to", catalog.TenantFilter{Schema: "<=3"}, "acme globex"},
		{"above", catalog.TenantFilter{Schema: ">3"}, "hooli"},
		{"from", catalog.TenantFilter{Schema: ">=3"}, "globex hooli"},
		{"none so high", catalog.TenantFilter{Schema: ">999999999999999999"}, ""},
		{"older", catalog.TenantFilter{OlderThan: 30 * 24 * time.Hour}, "acme"},
		{"newer", catalog.TenantFilter{NewerThan: time.Hour}, "hooli"},
		{"between", catalog.TenantFilter{OlderThan: time.Hour, NewerThan: 24 * time.Hour}, "globex"},
		{"page", catalog.TenantFilter{After: "acme", Limit: 1}, "globex"},
	} {
		list, err := b.cat.Tenants(t.Context(), c.f)
		b.ok(err)
		var slugs []string
		for _, one := range list {
			slugs = append(slugs, one.Slug)
		}
		if got := strings.Join(slugs, " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	for _, f := range []catalog.TenantFilter{
		{Schema: "x"}, {Schema: "< 3"}, {Schema: "-1"}, {Schema: "9999999999999999999"}, {Schema: "=3"},
		{OlderThan: -1}, {NewerThan: -1}, {Limit: -1},
	} {
		_, err := b.cat.Tenants(t.Context(), f)
		b.is(err, catalog.ErrInvalid)
	}
}

func TestParseAge(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"90m": 90 * time.Minute, "30d": 720 * time.Hour, "1d12h": 36 * time.Hour, "45s": 45 * time.Second, "36500d": 876000 * time.Hour,
	} {
		if got, err := catalog.ParseAge("older_than", text); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "0s", "-1h", "1d-1h", "30", "30 d", "99999d", "99999d2000000h", "1h1d", "∞", "1w"} {
		if got, err := catalog.ParseAge("older_than", text); err == nil || !strings.Contains(err.Error(), "older_than") {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}
