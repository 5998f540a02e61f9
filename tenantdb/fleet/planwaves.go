package fleet

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"freehold/catalog"
)

// canaryWave is the name of the wave before all others.
const canaryWave = "canary"

// defaultWaves are per cents of the tenants.
var defaultWaves = []float64{1, 10, 100}

// waves divides those that are to be migrated: the canaries, then as many as each per
// cent of them all says, at least one. Empty waves are left out, unless all are.
func waves(spec RolloutSpec, target int64, tenants []catalog.Tenant, todo []PlanTenant) ([]PlanWave, error) {
	chosen, err := canaries(spec, tenants)
	if err != nil {
		return nil, err
	}
	todo = spread(fmt.Sprintf("%s %d", spec.Stream, target), todo)
	list := []PlanWave{}
	first := PlanWave{Name: canaryWave}
	var rest []PlanTenant
	for _, t := range todo {
		if chosen[t.Tenant] {
			first.Tenants = append(first.Tenants, t)
		} else {
			rest = append(rest, t)
		}
	}
	if len(first.Tenants) > 0 {
		list = append(list, first)
	}
	cents := spec.Waves
	if len(cents) == 0 {
		cents = defaultWaves
	}
	if cents[len(cents)-1] < 100 {
		cents = append(slices.Clone(cents), 100)
	}
	begin := 0
	for _, cent := range cents {
		// A trillionth is what floating point may be off.
		end := min(len(rest), max(1, int(math.Ceil(float64(len(todo))*cent/100-1e-12))))
		if cent == 100 {
			end = len(rest)
		}
		if end > begin {
			list = append(list, PlanWave{Name: strconv.FormatFloat(cent, 'f', -1, 64) + "%", Tenants: rest[begin:end]})
			begin = end
		}
	}
	if len(list) == 0 {
		list = append(list, PlanWave{Name: "100%", Tenants: []PlanTenant{}})
	}
	return list, nil
}

// canaries are the tenants that somebody named. One who is mistyped, or can't be
// migrated now, is an error: the wave would tell nothing.
func canaries(spec RolloutSpec, tenants []catalog.Tenant) (map[catalog.TenantID]bool, error) {
	found := map[catalog.TenantID]bool{}
	var bad mistakes
	for _, slug := range spec.Canary {
		i := slices.IndexFunc(tenants, func(t catalog.Tenant) bool { return t.Slug == slug })
		if i < 0 {
			bad.when(true, "canary", "there is no tenant %q", slug)
			continue
		}
		t := tenants[i]
		bad.when(t.State != catalog.Active && t.State != catalog.Moving, "canary", "%s is %s", slug, t.State)
		found[t.ID] = true
	}
	if label := spec.CanaryLabel; label != "" {
		key, value, valued := strings.Cut(label, "=")
		has := false
		for _, t := range tenants {
			is, there := t.Labels[key]
			if there && (!valued || is == value) && (t.State == catalog.Active || t.State == catalog.Moving) {
				found[t.ID], has = true, true
			}
		}
		bad.when(!has, "canary_label", "no active tenant has it")
	}
	return found, bad.err()
}

// spread orders tenants so that each beginning of the list meets every server by its
// part of them, and nobody is always first: by chance, which for one rollout is always
// the same.
func spread(seed string, todo []PlanTenant) []PlanTenant {
	type place struct {
		PlanTenant
		chance uint64
		part   float64 // of its server's tenants before it
	}
	servers := map[string][]*place{}
	places := make([]place, len(todo))
	for i, t := range todo {
		sum := sha256.Sum256([]byte(seed + t.Tenant.String()))
		places[i] = place{t, binary.BigEndian.Uint64(sum[:]), 0}
		servers[t.Server] = append(servers[t.Server], &places[i])
	}
	for _, its := range servers {
		slices.SortFunc(its, func(a, b *place) int { return cmp.Compare(a.chance, b.chance) })
		for i, p := range its {
			p.part = float64(i) / float64(len(its))
		}
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.part, b.part), cmp.Compare(a.chance, b.chance), cmp.Compare(a.Slug, b.Slug))
	})
	ordered := make([]PlanTenant, len(places))
	for i, p := range places {
		ordered[i] = p.PlanTenant
	}
	return ordered
}
