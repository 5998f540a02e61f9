package catalog_test

import (
	"context"
	"crypto/rand"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations/pgtest"
)

func TestMigrate_makesItsDatabaseOnce(t *testing.T) {
	t.Parallel()
	keys, err := catalog.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(pgtest.AdminURL(t))
	if err != nil {
		t.Fatal(err)
	}
	name := "made_" + strings.ToLower(rand.Text()[:12])
	at.Path = "/" + name
	at.RawQuery += "&search_path=pg_catalog" // whatever comes first there, ours goes into public
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, pgtest.SuperURL(t))
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, "drop database "+name+" with (force)"); err != nil {
			t.Error(err)
		}
	})
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if _, _, err := catalog.Migrate(t.Context(), catalog.Config{URL: at.String(), Keyset: keys}); err != nil {
				t.Errorf("migrate a catalog that isn't there: %v", err)
			}
		})
	}
	all.Wait()
	c, err := catalog.Open(t.Context(), catalog.Config{URL: at.String(), Keyset: keys})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
