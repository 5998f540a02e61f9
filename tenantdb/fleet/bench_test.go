package fleet_test

import (
	"fmt"
	"testing"

	"freehold/catalog"
)

// A whole onboarding: catalog row, role, database cloned from the template,
// privileges, identity, proof, key; the server doesn't sync.
func BenchmarkCreate(m *testing.B) {
	b := setup(m)
	n := 0
	for m.Loop() {
		if _, _, err := b.fleet.Create(m.Context(), catalog.TenantSpec{Slug: fmt.Sprintf("t-%05d", n)}); err != nil {
			m.Fatal(err)
		}
		n++
	}
}
