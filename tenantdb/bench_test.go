package tenantdb_test

import (
	"testing"

	"freehold/tenantdb"
)

// What a request costs its tenant's database, beside an empty statement: each is
// one round trip on an idle connection, and the server doesn't sync.
func BenchmarkRequest(m *testing.B) {
	b := setup(m)
	m.Run("select 1", func(m *testing.B) {
		for m.Loop() {
			if _, err := b.conn.Exec(m.Context(), "select 1"); err != nil {
				m.Fatal(err)
			}
		}
	})
	m.Run("admit+settle", func(m *testing.B) {
		for m.Loop() {
			p := b.admitted()
			b.settle(tenantdb.Settlement{ID: p.ID, State: "succeeded", Output: []byte(`{}`)})
		}
	})
}
