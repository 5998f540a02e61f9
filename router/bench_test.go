package router_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"freehold/tenantdb"
)

// What the router adds to a plain pool's Acquire and Release, nothing sent.
func BenchmarkBorrow(b *testing.B) {
	s := setup(b, 1, nil)
	nothing := func(context.Context, *tenantdb.DB) error { return nil }
	s.visit(b, s.ids[0], 1)
	b.Run("routed", func(b *testing.B) {
		tenant := s.For(s.ids[0], 1)
		b.ReportAllocs()
		for b.Loop() {
			if err := tenant.Borrow(b.Context(), tenantdb.Interactive, nothing); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("pool", func(b *testing.B) {
		pool, err := pgxpool.New(b.Context(), s.dbs[0].TenantURL)
		if err != nil {
			b.Fatal(err)
		}
		defer pool.Close()
		b.ReportAllocs()
		for b.Loop() {
			conn, err := pool.Acquire(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			conn.Release()
		}
	})
}
