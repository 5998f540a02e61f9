package fleet_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/tenantdb/fleet"
)

// herd makes tenants named a-000, a-001, … on the servers of those names, by turns as
// their counts last.
func herd(t *testing.T, counts map[string]int) (tenants []catalog.Tenant, todo []fleet.PlanTenant) {
	t.Helper()
	for server, n := range counts {
		for i := range n {
			id, err := catalog.ParseTenantID(uuid.NewString())
			if err != nil {
				t.Fatal(err)
			}
			slug := fmt.Sprintf("%s-%03d", server, i)
			tenants = append(tenants, catalog.Tenant{ID: id, Slug: slug, State: catalog.Active, Server: server})
			todo = append(todo, fleet.PlanTenant{Tenant: id, Slug: slug, Server: server})
		}
	}
	return tenants, todo
}

// shape is the waves' names and sizes.
func shape(waves []fleet.PlanWave) string {
	var said []string
	for _, w := range waves {
		said = append(said, fmt.Sprintf("%s:%d", w.Name, len(w.Tenants)))
	}
	return strings.Join(said, " ")
}

func TestWaves(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		tenants  int
		canaries []string
		cents    []float64
		want     string
	}{
		{200, nil, nil, "1%:2 10%:18 100%:180"},
		{200, []string{"a-007", "a-009"}, nil, "canary:2 1%:2 10%:18 100%:178"},
		{1000, nil, []float64{0.1, 50}, "0.1%:1 50%:499 100%:500"},
		{5, nil, nil, "1%:1 100%:4"},
		{1, nil, nil, "1%:1"},
		{1, []string{"a-000"}, nil, "canary:1"},
		{3, []string{"a-000", "a-001", "a-002", "a-001"}, nil, "canary:3"},
		{0, nil, nil, "100%:0"},
		{30, nil, []float64{100}, "100%:30"},
		{301, nil, nil, "1%:4 10%:27 100%:270"},
	} {
		tenants, todo := herd(t, map[string]int{"a": c.tenants})
		got, err := fleet.Waves(fleet.RolloutSpec{Canary: c.canaries, Waves: c.cents}, 7, tenants, todo)
		if err != nil || shape(got) != c.want {
			t.Errorf("%d tenants, %v, %v: %s, want %s: %v", c.tenants, c.canaries, c.cents, shape(got), c.want, err)
		}
		seen := map[catalog.TenantID]bool{}
		for _, w := range got {
			for _, tenant := range w.Tenants {
				seen[tenant.Tenant] = true
			}
		}
		if len(seen) != c.tenants {
			t.Errorf("%d tenants: %d of them are in a wave", c.tenants, len(seen))
		}
	}
}

// Each wave meets every server by its part, in an order that isn't the slugs', and is
// the same each time, and another one for another rollout.
func TestWavesSpread(t *testing.T) {
	t.Parallel()
	tenants, todo := herd(t, map[string]int{"a": 300, "b": 100, "c": 3})
	order := func(target int64) (slugs []string, waves []fleet.PlanWave) {
		waves, err := fleet.Waves(fleet.RolloutSpec{Stream: catalog.StreamProduct}, target, tenants, todo)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range waves {
			for _, tenant := range w.Tenants {
				slugs = append(slugs, tenant.Slug)
			}
		}
		return slugs, waves
	}
	first, waves := order(2)
	count := map[string]int{}
	for _, tenant := range slices.Concat(waves[0].Tenants, waves[1].Tenants) { // 10 %
		count[tenant.Server]++
	}
	if len(waves[0].Tenants) < 3 || waves[0].Tenants[0].Server == waves[0].Tenants[1].Server {
		t.Errorf("the first wave: %v", waves[0].Tenants)
	}
	if count["a"] < 29 || count["a"] > 31 || count["b"] < 10 || count["b"] > 11 || count["c"] != 1 {
		t.Errorf("a tenth of 300, 100 and 3: %v", count)
	}
	slices.Reverse(todo)
	again, _ := order(2)
	other, _ := order(3)
	if !slices.Equal(first, again) || slices.Equal(first, other) || slices.IsSorted(first) {
		t.Errorf("%v … %v … %v", first[:4], again[:4], other[:4])
	}
}

func TestWavesCanaries(t *testing.T) {
	t.Parallel()
	tenants, todo := herd(t, map[string]int{"a": 20})
	for i := range tenants {
		if i%10 == 0 {
			tenants[i].Labels = map[string]string{"ring": fmt.Sprint(i)}
		}
	}
	tenants[3].State = catalog.Suspended
	for _, c := range []struct {
		spec fleet.RolloutSpec
		want string // of the first wave, or a part of the error
	}{
		{fleet.RolloutSpec{CanaryLabel: "ring"}, "canary:2"},
		{fleet.RolloutSpec{CanaryLabel: "ring=10"}, "canary:1"},
		{fleet.RolloutSpec{CanaryLabel: "ring=10", Canary: []string{"a-010", "a-001"}}, "canary:2"},
		{fleet.RolloutSpec{CanaryLabel: "ring=x"}, "canary_label: no active tenant has it"},
		{fleet.RolloutSpec{Canary: []string{"nobody", "a-003"}}, `canary: there is no tenant "nobody"; canary: a-003 is suspended`},
	} {
		waves, err := fleet.Waves(c.spec, 1, tenants, todo)
		switch {
		case err == nil && shape(waves[:1]) != c.want:
			t.Errorf("%v: %s, want %s", c.spec, shape(waves), c.want)
		case err != nil && (!errors.Is(err, catalog.ErrInvalid) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%v: %v, want %s", c.spec, err, c.want)
		}
	}
}
