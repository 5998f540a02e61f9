package replica

import (
	"maps"
	"slices"
)

// differing names the tables that two databases don't have alike.
func differing(source, target map[string]Sum) error {
	var tables []string
	for name, sum := range source {
		if there, has := target[name]; !has || there != sum {
			tables = append(tables, name)
		}
	}
	for name := range maps.Keys(target) {
		if _, has := source[name]; !has {
			tables = append(tables, name)
		}
	}
	if len(tables) == 0 {
		return nil
	}
	slices.Sort(tables)
	return &Differs{Tables: tables}
}
