package catalogtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/catalog/catalogtest"
	"freehold/migrations/pgtest"
)

func TestMain(m *testing.M) { pgtest.MainLeak(m) }

// Each is a catalog of its own, in which Migrate finds nothing left to do.
func TestConfig(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 2 {
		c, cfg := catalogtest.Open(t)
		if tenants, err := c.Tenants(t.Context(), catalog.TenantFilter{}); err != nil || len(tenants) > 0 {
			t.Errorf("it has tenants %+v: %v", tenants, err)
		}
		before := shape(t, cfg.URL)
		from, to, err := catalog.Migrate(t.Context(), cfg)
		if err != nil || from != to || from == 0 {
			t.Errorf("migrated from %d to %d: %v", from, to, err)
		}
		if after := shape(t, cfg.URL); after != before {
			t.Errorf("%d tables are %d once migrated", before.tables, after.tables)
		}
		if seen[before.catalog] {
			t.Error("two catalogs are one")
		}
		seen[before.catalog] = true
	}
}

type facts struct {
	tables   int
	catalog  string
	stranger bool // may connect
}

const readFacts = `
select (select count(*) from pg_tables where schemaname in ('public', 'river')), catalog::text,
       has_database_privilege('public', current_database(), 'connect')
  from catalog_clock`

func shape(t *testing.T, url string) (f facts) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if err := conn.QueryRow(t.Context(), readFacts).Scan(&f.tables, &f.catalog, &f.stranger); err != nil {
		t.Fatal(err)
	}
	if f.stranger {
		t.Error("every role can connect to the catalog")
	}
	return f
}
