package catalog_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"freehold/catalog"
)

func TestFairParts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		budget  int
		demands []int
		want    []int
	}{
		{10, nil, []int{}},
		{10, []int{0}, []int{10}},
		{10, []int{99}, []int{10}},
		{10, []int{0, 0}, []int{5, 5}},
		{11, []int{0, 0}, []int{6, 5}},
		{10, []int{99, 0}, []int{9, 1}},
		{10, []int{99, 2, 99}, []int{4, 2, 4}},
		{10, []int{99, 99, 99}, []int{4, 3, 3}},
		{10, []int{4, 2, 1}, []int{5, 3, 2}},
		{12, []int{8, 8, 1, 1}, []int{5, 5, 1, 1}},
		{2, []int{9, 0, 9}, []int{1, 0, 1}},
		{3, []int{9, 9, 9}, []int{1, 1, 1}},
		{0, []int{9, 9}, []int{0, 0}},
		{-7, []int{9, 9}, []int{0, 0}},
	} {
		if got := catalog.FairParts(c.budget, c.demands); !slices.Equal(got, c.want) {
			t.Errorf("%d for %d: %d, want %d", c.budget, c.demands, got, c.want)
		}
	}
}

// What holds for any division: the whole budget is out, everybody has one while
// there are enough, and whoever lacks something has about as much as anybody.
func TestFairParts_holds(t *testing.T) {
	t.Parallel()
	for range 20_000 {
		demands := make([]int, 1+rand.IntN(9))
		for i := range demands {
			demands[i] = rand.IntN(40)
		}
		budget := rand.IntN(120)
		parts := catalog.FairParts(budget, demands)
		sum := 0
		for i, part := range parts {
			sum += part
			if part < 1 && budget >= len(demands) {
				t.Fatalf("%d for %d: %d: none for node %d", budget, demands, parts, i)
			}
			if part < demands[i] && part+1 < slices.Max(parts) {
				t.Fatalf("%d for %d: %d: node %d lacks what another has", budget, demands, parts, i)
			}
		}
		if sum != budget {
			t.Fatalf("%d for %d: %d: %d in all", budget, demands, parts, sum)
		}
	}
}
