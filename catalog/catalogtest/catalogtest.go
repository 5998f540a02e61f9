// Package catalogtest gives tests a catalog as catalog.Migrate leaves it, without
// its cost: a clone of one that was migrated once for the test process.
package catalogtest

import (
	"context"
	"sync"
	"testing"

	"freehold/catalog"
	"freehold/migrations/pgtest"
)

var keys = sync.OnceValues(catalog.NewKeyset)

// Config is a fresh catalog's, migrated and sealed, as pgtest.Catalog's are dropped.
// All of a test process have one keyset, so that a test of two keysets makes the
// other one, and its catalog, of its own.
func Config(t testing.TB) catalog.Config {
	t.Helper()
	keys, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	url := pgtest.CatalogFrom(t, func(ctx context.Context, url string) error {
		_, _, err := catalog.Migrate(ctx, catalog.Config{URL: url, Keyset: keys})
		return err
	})
	return catalog.Config{URL: url, Keyset: keys}
}

// Open is the catalog of Config, open until the test's end.
func Open(t testing.TB) (*catalog.Catalog, catalog.Config) {
	t.Helper()
	cfg := Config(t)
	c, err := catalog.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, cfg
}
