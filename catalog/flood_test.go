package catalog_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"freehold/catalog"
)

// Made-up keys cost the catalog a few reads at a time, however many come, and who
// is known doesn't wait for them.
func TestAuthenticate_flood(t *testing.T) {
	t.Parallel()
	const keys, most = 2000, 8
	b := setup(t)
	b.cfg.ReaderConns = 3 * most // so that it isn't the pool that bounds them
	b.cat = b.open()
	ctx := t.Context()
	tenant := b.tenant("acme")
	_, token := b.key(tenant.ID, "all")
	cache := b.cache(b.cat, catalog.CacheConfig{})
	_, err := cache.Authenticate(ctx, token)
	b.ok(err)

	admin := b.admin()
	lock, err := b.admin().Begin(ctx)
	b.ok(err)
	_, err = lock.Exec(ctx, `lock table api_keys`)
	b.ok(err)
	inFlight := func() int64 {
		return b.number(admin, `
			select count(*) from pg_locks
			 where relation = 'api_keys'::regclass and not granted and
			       database = (select oid from pg_database where datname = current_database())`)
	}

	began := time.Now()
	var all sync.WaitGroup
	refused := make([]error, keys)
	for i := range keys {
		all.Go(func() { _, refused[i] = cache.Authenticate(ctx, forge(fmt.Sprintf("%012d", i), token)) })
	}
	b.within(10*time.Second, "reads in flight", func() bool { return inFlight() >= most })
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); {
		asked := time.Now()
		if _, err := cache.Authenticate(ctx, token); err != nil {
			t.Fatalf("a known key beside them: %v", err)
		}
		if took := time.Since(asked); took > 250*time.Millisecond {
			t.Errorf("a known key waited for %s", took)
		}
		if n := inFlight(); n > most {
			t.Fatalf("%d reads at once, want %d", n, most)
		}
	}
	all.Wait() // nobody waits for longer than a caller does
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("refused after %s", took)
	}
	for i, err := range refused {
		if !errors.Is(err, catalog.ErrUnavailable) {
			t.Fatalf("key %d: %v", i, err)
		}
	}
	b.ok(lock.Rollback(ctx))

	// Once the catalog answers, so do they.
	b.within(5*time.Second, "a new key", func() bool {
		_, err := cache.Authenticate(ctx, forge("zzzzzzzzzzzz", token))
		return errors.Is(err, catalog.ErrInvalidKey)
	})
	if _, err := cache.Route(ctx, tenant.ID, 0); err != nil {
		t.Error(err)
	}
}
