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
	var last catalog.Tenant
	n := 0
	for m.Loop() {
		var err error
		if last, _, err = b.fleet.Create(m.Context(), catalog.TenantSpec{Slug: fmt.Sprintf("t-%05d", n)}); err != nil {
			m.Fatal(err)
		}
		n++
	}
	var size float64
	b.ok(b.super("postgres").QueryRow(m.Context(), "select pg_database_size($1) / 1e6", last.Database).Scan(&size))
	m.ReportMetric(size, "MB/tenant")
}
