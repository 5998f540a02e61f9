package catalog_test

import (
	"slices"
	"testing"
	"time"

	"freehold/catalog"
)

func TestRolloutStatus(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	list := b.many("pg-1", 12)
	spec := b.spec(list[:2], list[2:])
	spec.Options.Parallel, spec.Options.Budget = 12, "12"
	r := b.begin(spec)
	s, err := b.cat.RolloutStatus(ctx, r.ID)
	b.ok(err)
	if s.ID != r.ID || s.Total != 12 || s.Waiting != 12 || s.Left != nil || s.Rate != 0 || len(s.Waves) != 2 || s.Waves[1].Targets != 10 {
		t.Errorf("at first %+v", s)
	}
	b.record(r, catalog.TargetDone, b.claim(r, "w", 2, 2)...)
	b.ok(b.cat.WavePassed(ctx, r, 0, nil))
	claims := b.claim(r, "w", 10, 10)
	slices.SortFunc(claims, func(x, y catalog.TargetClaim) int { return slices.Compare([]byte(x.Slug), []byte(y.Slug)) })
	results := ended(catalog.TargetDone, claims[:3]...)
	for i := range results {
		results[i].Took = time.Duration(i+1) * time.Second
	}
	failed := ended(catalog.TargetFailed, claims[3:8]...)
	failed[4].Kind, failed[4].File, failed[4].Error = catalog.FailAway, "", "connection refused\x00\xff"
	b.turn(catalog.Turn{Rollout: r.ID, Ended: append(results, failed...)})
	b.exec(b.admin(), `update rollout_targets set began_at = now() - interval '10 seconds'`)
	b.exec(b.admin(), `insert into tenant_schemas (tenant, fingerprint, schema_version, product_version, drifted, invalid_indexes)
		select tenant, '', 5, 1, wave = 0, case wave when 1 then '{i}'::text[] else '{}' end from rollout_targets where state = 'done'`)
	s, err = b.cat.RolloutStatus(ctx, r.ID)
	b.ok(err)
	if s.Done != 5 || s.Failed != 5 || s.Running != 2 || s.Waiting != 0 || s.Waves[1].Done != 3 || s.Waves[1].Failed != 5 || s.Waves[1].Running != 2 {
		t.Errorf("counted %+v", s)
	}
	if s.Rate < 0.4 || s.Rate > 0.5 || s.Left == nil || *s.Left < 4*time.Second || *s.Left > 5*time.Second {
		t.Errorf("%v a second, %v left", s.Rate, s.Left)
	}
	if s.Median != time.Second || s.Drifted != 2 || s.InvalidIndexes != 3 {
		t.Errorf("median %s, %d drifted, %d with invalid indexes", s.Median, s.Drifted, s.InvalidIndexes)
	}
	if len(s.Slowest) != 5 || s.Slowest[0].State != catalog.TargetRunning || s.Slowest[0].Millis < 10_000 || s.Slowest[2].Tenant != claims[2].Slug || s.Slowest[2].Millis != 3000 {
		t.Errorf("slowest %+v", s.Slowest)
	}
	var slugs []string
	for _, c := range claims[3:7] {
		slugs = append(slugs, c.Slug)
	}
	if f := s.Failures; len(f) != 2 || f[0].Count != 4 || !slices.Equal(f[0].Tenants, slugs) || f[0].File != "00005_more.sql" ||
		f[0].Kind != catalog.FailSQL || f[1].Count != 1 || f[1].Error != "connection refused" || f[1].Kind != catalog.FailAway {
		t.Errorf("failures %+v", s.Failures)
	}
	rows, err := b.cat.RolloutTargets(ctx, r.ID, catalog.TargetFilter{State: catalog.TargetFailed, After: claims[3].Slug, Limit: 2})
	if err != nil || len(rows) != 2 || rows[0].Tenant != claims[4].Slug || rows[0].Server != "pg-1" || rows[0].From != 4 || rows[0].Version != 4 ||
		rows[0].Wave != 1 || rows[0].Attempts != 1 || rows[0].Worker != "w" || rows[0].BeganAt == nil || rows[0].EndedAt == nil || rows[0].TenantID != claims[4].Tenant {
		t.Errorf("targets %+v, %v", rows, err)
	}
	if rows, err = b.cat.RolloutTargets(ctx, r.ID, catalog.TargetFilter{Tenant: claims[0].Slug}); err != nil || len(rows) != 1 || rows[0].Version != 5 {
		t.Errorf("target %+v, %v", rows, err)
	}
	_, err = b.cat.RolloutStatus(ctx, catalog.NewTenantID().String())
	b.is(err, catalog.ErrNotFound)
	_, err = b.cat.RolloutTargets(ctx, "nonsense", catalog.TargetFilter{})
	b.is(err, catalog.ErrNotFound)
}

func TestSetVersions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	one := b.tenant("acme")
	set := func(product, needs int64) catalog.Tenant {
		t.Helper()
		b.ok(b.cat.SetVersions(ctx, one.ID, catalog.Versions{Freehold: 4, Product: product}, needs))
		now, err := b.cat.Tenant(ctx, one.ID)
		b.ok(err)
		return now
	}
	first := set(7, 3)
	if first.SchemaVersion != 4 || first.ProductVersion != 7 {
		t.Errorf("versions %+v", first)
	}
	if again := set(7, -1); again.Epoch != first.Epoch {
		t.Error("nothing changed, and the epoch did")
	}
	if later := set(8, -1); later.Epoch <= first.Epoch {
		t.Error("the epoch stayed")
	}
	if n := b.number(b.admin(), `select schema_needs from tenants`); n != 3 {
		t.Errorf("needs %d", n)
	}
	b.is(b.cat.SetVersions(ctx, catalog.NewTenantID(), catalog.Versions{}, 0), catalog.ErrNotFound)
}
