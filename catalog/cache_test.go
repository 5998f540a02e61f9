package catalog_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	tenant := b.tenant("acme")
	cache := b.cache(b.cat, catalog.CacheConfig{})
	key, token := b.key(tenant.ID, "read", "inference")
	for range 2 { // cold, then warm
		who, err := cache.Authenticate(ctx, token)
		b.ok(err)
		if who.Tenant != tenant.ID || who.Slug != "acme" || who.State != catalog.Active || who.KeyID != key.ID ||
			!who.Has("read") || who.Has("keys") || who.Epoch == 0 || who.Config.MonthlyTokenLimit != 1_000_000 {
			t.Errorf("identity %+v", who)
		}
	}
	_, all := b.key(tenant.ID, "all")
	if who, err := cache.Authenticate(ctx, all); err != nil || !who.Has("keys") {
		t.Errorf("%v, %v", who.Scopes, err)
	}

	// One answer for all that is wrong with a key.
	_, other := b.key(tenant.ID, "all")
	forged := forge(key.ID, other)
	soon := time.Now().Add(1500 * time.Millisecond)
	_, brief, err := b.cat.CreateKey(ctx, tenant.ID, catalog.KeySpec{Scopes: []string{"all"}, ExpiresAt: &soon})
	b.ok(err)
	_, err = cache.Authenticate(ctx, brief)
	b.ok(err)
	time.Sleep(time.Until(soon))
	revoked, gone := b.key(tenant.ID, "all")
	_, err = b.cat.RevokeKey(ctx, tenant.ID, revoked.ID)
	b.ok(err)
	for name, token := range map[string]string{
		"missing": "", "malformed": "sk-1234", "mistyped": token[:30] + "-" + token[31:],
		"another's secret": forged, "unknown": forge("000000000000", other), "expired": brief, "revoked": gone,
	} {
		for range 2 {
			if who, err := cache.Authenticate(ctx, token); !errors.Is(err, catalog.ErrInvalidKey) || who.KeyID != "" {
				t.Errorf("%s: %+v, %v", name, who, err)
			}
		}
	}

	for _, step := range []struct {
		to, from catalog.State
		want     error
	}{
		{catalog.Suspended, catalog.Active, nil}, {catalog.Moving, catalog.Suspended, nil},
		{catalog.Suspended, catalog.Moving, nil}, {catalog.Deleting, catalog.Suspended, catalog.ErrInvalidKey},
		{catalog.Deleted, catalog.Deleting, catalog.ErrInvalidKey},
	} {
		epoch, err := b.cat.SetState(ctx, tenant.ID, step.to, step.from)
		b.ok(err)
		b.within(5*time.Second, "seen", func() bool { return cache.Seen() >= epoch })
		who, err := cache.Authenticate(ctx, token)
		if !errors.Is(err, step.want) || (err == nil && (who.State != step.to || who.Epoch < epoch)) {
			t.Errorf("%s: %s, %v", step.to, who.State, err)
		}
	}
}

// forge puts the id before another token's secret, with the checksum made right
// by trying: the checksum is no secret, so what refuses is the hash.
func forge(id, token string) string {
	body := "fh_" + id + token[15:59]
	return body + crc62(body)
}

// A mistyped key needs no look-up, an unknown one needs one, not one each time.
func TestAuthenticate_lookUps(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	tenant := b.tenant("acme")
	_, token := b.key(tenant.ID, "all")
	cache := b.cache(b.cat, catalog.CacheConfig{})
	_, err := cache.Authenticate(ctx, token)
	b.ok(err)
	_, err = cache.Authenticate(ctx, forge("000000000000", token))
	b.is(err, catalog.ErrInvalidKey)

	// Whoever looks anything up now finds nothing to call.
	admin := b.admin()
	b.exec(admin, `revoke execute on function auth_key(text) from freehold_api`)
	b.exec(admin, `revoke select on tenants from freehold_catalog`)
	for _, known := range []string{forge("000000000000", token), token[:64] + "!", forge(token[3:15], token[:20]+strings.Repeat("x", 45))} {
		_, err = cache.Authenticate(ctx, known)
		b.is(err, catalog.ErrInvalidKey)
	}
	_, err = cache.Authenticate(ctx, token)
	b.ok(err)
	_, err = cache.Authenticate(ctx, forge("111111111111", token))
	b.is(err, catalog.ErrUnavailable)
}

// A change is seen by every cache within a second, also when its notification is
// lost, and when the connection that hears them is.
func TestCache_truth(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*bench){
		"notified": func(*bench) {},
		"notifications lost": func(b *bench) {
			b.exec(b.admin(), `
				create or replace function catalog_tick(p_platform boolean) returns bigint language sql as $$
					update catalog_clock set seq = seq + 1,
					       platform_seq = case when p_platform then seq + 1 else platform_seq end returning seq $$`)
		},
		"connection lost": func(b *bench) {
			b.exec(b.admin(), `
				select pg_terminate_backend(pid) from pg_stat_activity
				 where datname = current_database() and pid <> pg_backend_pid()`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			ctx := t.Context()
			tenant := b.tenant("acme")
			key, token := b.key(tenant.ID, "all")
			var mu sync.Mutex
			told := map[catalog.TenantID]int64{}
			one := b.cache(b.cat, catalog.CacheConfig{NodeName: "one"})
			two := b.cache(b.open(), catalog.CacheConfig{NodeName: "two"}, func(id catalog.TenantID, epoch int64) {
				mu.Lock()
				defer mu.Unlock()
				told[id] = epoch
			})
			for _, cache := range []*catalog.Cache{one, two} {
				_, err := cache.Authenticate(ctx, token)
				b.ok(err)
				_, err = cache.Route(ctx, tenant.ID, 0)
				b.ok(err)
			}
			lose(b)
			epoch, err := b.open().RevokeKey(ctx, tenant.ID, key.ID)
			b.ok(err)
			for _, cache := range []*catalog.Cache{one, two} {
				b.within(time.Second, "revoked", func() bool {
					_, err := cache.Authenticate(ctx, token)
					return errors.Is(err, catalog.ErrInvalidKey)
				})
				b.within(time.Second, "route", func() bool {
					r, err := cache.Route(ctx, tenant.ID, 0)
					return err == nil && r.Epoch >= epoch
				})
			}
			b.within(time.Second, "told", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return told[tenant.ID] == epoch && len(told) == 1
			})
			b.within(time.Second, "written", func() bool {
				nodes, err := b.cat.Nodes(ctx)
				b.ok(err)
				return len(nodes) == 2 && nodes[0].Seen >= epoch && nodes[1].Seen >= epoch
			})
		})
	}
}

// Whatever changes while it is read is read again: no answer is older than the
// epoch that the cache has seen when the answer is given.
func TestCache_neverOlderThanSeen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenant := b.tenant("acme")
	_, token := b.key(tenant.ID, "all")
	cache := b.cache(b.cat, catalog.CacheConfig{})
	other := b.open()
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() {
		for i := int64(1); ctx.Err() == nil; i++ {
			if _, _, err := other.PatchConfig(t.Context(), tenant.ID, catalog.ConfigPatch{MonthlyTokenLimit: &i}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	reads := 0
	for ctx.Err() == nil {
		seen := cache.Seen()
		who, err := cache.Authenticate(t.Context(), token)
		b.ok(err)
		// All changes are this one tenant's.
		if who.Epoch < seen {
			t.Fatalf("identity of epoch %d, seen %d", who.Epoch, seen)
		}
		r, err := cache.Route(t.Context(), tenant.ID, who.Epoch)
		b.ok(err)
		if r.Epoch < who.Epoch {
			t.Fatalf("route of epoch %d, wanted %d", r.Epoch, who.Epoch)
		}
		reads++
	}
	all.Wait()
	if reads < 10 {
		t.Errorf("only %d reads", reads)
	}
}

func TestCache_platform(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	_, err := b.cat.AddEngine(ctx, catalog.EngineSpec{Name: "builtin", Kind: "builtin"})
	b.ok(err)
	before := catalog.NewCache(b.cat, catalog.CacheConfig{})
	if e, err := before.Engine(ctx, "builtin"); err != nil || e.Kind != "builtin" {
		t.Errorf("before Run: %+v, %v", e, err)
	}
	if before.Ready() || before.Confirmed(time.Hour) {
		t.Error("ready before Run")
	}
	cache := b.cache(b.cat, catalog.CacheConfig{})
	_, err = cache.Model(ctx, "embed")
	b.is(err, catalog.ErrNotFound)
	_, err = cache.Engine(ctx, "none")
	b.is(err, catalog.ErrNotFound)
	_, err = b.cat.AddModel(ctx, catalog.Model{Name: "embed", Engine: "builtin", Kind: "embedding"})
	b.ok(err)
	b.within(time.Second, "model", func() bool {
		m, err := cache.Model(ctx, "embed")
		return err == nil && m.Kind == "embedding"
	})
	list, err := cache.Models(ctx)
	if err != nil || len(list) != 1 {
		t.Errorf("%+v: %v", list, err)
	}
	b.ok(b.cat.RemoveModel(ctx, "embed"))
	b.within(time.Second, "no model", func() bool {
		list, err := cache.Models(ctx)
		return err == nil && len(list) == 0
	})
}

// What a route holds of its server is renewed when the server changes.
func TestCache_serverUpdated(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme, globex := b.tenant("acme"), b.tenant("globex")
	cache := b.cache(b.cat, catalog.CacheConfig{})
	for _, id := range []catalog.TenantID{acme.ID, globex.ID} {
		_, err := cache.Route(ctx, id, 0)
		b.ok(err)
	}
	spec := catalog.ServerSpec{
		Name: "pg-1", Host: "db.invalid", Port: 6432, SSLMode: "disable", AdminUser: "admin", Password: "p",
		Version: 160000, MaxConnections: 50, Budget: 40, Reserve: 10,
	}
	s, err := b.cat.UpdateServer(ctx, spec)
	b.ok(err)
	if s.Port != 6432 || s.Tenants != 2 {
		t.Errorf("updated %+v", s)
	}
	b.within(time.Second, "new routes", func() bool {
		one, err := cache.Route(ctx, acme.ID, 0)
		b.ok(err)
		two, err := cache.Route(ctx, globex.ID, 0)
		b.ok(err)
		return one.Config.Port == 6432 && two.Config.Port == 6432 && two.Budget == 40
	})
	spec.Host = "elsewhere"
	_, err = b.cat.UpdateServer(ctx, spec)
	b.is(err, catalog.ErrExists)
}

// Once the catalog hasn't confirmed for StaleServe, what is known is no answer;
// until then it is.
func TestCache_stale(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	tenant := b.tenant("acme")
	_, token := b.key(tenant.ID, "all")
	_, stranger := b.key(tenant.ID, "all")
	const stale = 2500 * time.Millisecond
	cache := b.cache(b.cat, catalog.CacheConfig{StaleServe: stale})
	_, err := cache.Authenticate(ctx, token)
	b.ok(err)
	_, err = cache.Route(ctx, tenant.ID, 0)
	b.ok(err)

	// Nobody can log in any more, and who is in is thrown out.
	super := b.super()
	name := pgx.Identifier{b.database()}.Sanitize()
	b.exec(super, `alter database `+name+` with allow_connections false`)
	b.exec(super, `select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()`, b.database())
	b.within(time.Second, "noticed", func() bool { return !cache.Confirmed(300 * time.Millisecond) })
	if _, err := cache.Authenticate(ctx, token); err != nil {
		t.Errorf("known tenant, catalog away for a moment: %v", err)
	}
	began := time.Now()
	_, err = cache.Authenticate(ctx, stranger)
	b.is(err, catalog.ErrUnavailable)
	_, err = cache.Route(ctx, tenant.ID, 1<<40)
	b.is(err, catalog.ErrUnavailable)
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("two unknown ones were answered after %s, more than 2 s each", took)
	}
	b.within(stale+time.Second, "stale", func() bool { return !cache.Ready() })
	_, err = cache.Authenticate(ctx, token)
	b.is(err, catalog.ErrUnavailable)
	_, err = cache.Route(ctx, tenant.ID, 0)
	b.is(err, catalog.ErrUnavailable)
	_, err = cache.Models(ctx)
	b.is(err, catalog.ErrUnavailable)

	b.exec(super, `alter database `+name+` with allow_connections true`)
	b.within(3*time.Second, "back", func() bool {
		_, err := cache.Authenticate(ctx, token)
		return err == nil
	})
	_, err = cache.Authenticate(ctx, stranger)
	b.ok(err)
}

// A catalog that was restored from an older copy has gone back in time.
func TestCache_catalogRestored(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	tenant := b.tenant("acme")
	_, token := b.key(tenant.ID, "all")
	cache := b.cache(b.cat, catalog.CacheConfig{})
	_, err := cache.Authenticate(ctx, token)
	b.ok(err)
	b.exec(b.as("freehold_catalog"), `
		with k as (update api_keys set revoked_at = now()), t as (update tenants set epoch = 1)
		update catalog_clock set seq = 1, platform_seq = 1`)
	b.within(time.Second, "back in time", func() bool { return cache.Seen() == 1 })
	_, err = cache.Authenticate(ctx, token)
	b.is(err, catalog.ErrInvalidKey)
}

func TestCache_leaves(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenant := b.tenant("acme")
	_, token := b.key(tenant.ID, "all")
	cache := catalog.NewCache(b.cat, catalog.CacheConfig{NodeName: "n", Version: "v1"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- cache.Run(ctx) }()
	b.within(5*time.Second, "node's row", func() bool {
		nodes, err := b.cat.Nodes(t.Context())
		b.ok(err)
		return len(nodes) == 1 && nodes[0].Name == "n" && nodes[0].Version == "v1" && nodes[0].ID == cache.NodeID()
	})
	cancel()
	b.ok(<-done)
	if nodes, err := b.cat.Nodes(t.Context()); err != nil || len(nodes) != 0 {
		t.Errorf("%+v: %v", nodes, err)
	}
	if _, err := cache.Authenticate(t.Context(), token); err != nil || cache.Ready() {
		t.Errorf("ready %v after Run, %v", cache.Ready(), err)
	}
}
