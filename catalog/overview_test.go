package catalog_test

import (
	"testing"
	"time"

	"freehold/migrations/pgtest"
)

// The overview of many tenants costs little more than that of none.
func TestOverviewOfMany(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.server("pg-1")
	tenants := int64(2_000)
	if pgtest.Long() {
		tenants = 100_000
	}
	admin := b.admin()
	b.exec(admin, `insert into tenants (id, slug, name, state, server_id, database, role, secret, secret_key_id, epoch, schema_version, created_at)
		select gen_random_uuid(), 't-' || i, 'T', 'active', s.id, 'd_' || i, 'd_' || i, '', 0, 0, 2 + i % 2, now() - interval '3 days'
		  from generate_series(1, $1::bigint) i, servers s`, tenants)
	b.exec(admin, `vacuum analyze tenants`)
	best := time.Hour
	for range 5 {
		began := time.Now()
		o, err := b.cat.Overview(t.Context(), 3)
		b.ok(err)
		best = min(best, time.Since(began))
		if o.Tenants["active"] != int(tenants) || len(o.Below) != 1 || o.Below[0].Version != 2 || o.Below[0].Count != int(tenants)/2 ||
			len(o.Below[0].Tenants) != 3 || o.FirstTenant < 70*time.Hour || o.Backup != nil || len(o.Servers) != 1 {
			t.Fatalf("%+v", o)
		}
	}
	t.Logf("%d tenants: %s", tenants, best)
	if most := 200*time.Millisecond + time.Duration(tenants)*10*time.Microsecond; best > most {
		t.Errorf("took %s, want less than %s", best, most)
	}
}
