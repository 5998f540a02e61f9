package fleet_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/blob/blobtest"
	"freehold/tenantdb/fleet"
)

// What a tenant is called reaches no statement as text.
func TestCreateNames(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store := b.store()
	f := b.newFleet(fleet.Config{Blob: store})
	for slug, name := range map[string]string{
		"select":                            "order by",
		"user":                              `"; drop database postgres; --`,
		"a-b--c":                            "Größe & Söhne 東京 🏢",
		strings.Repeat("x", 63):             strings.Repeat("ü", 100),
		"t" + strings.Repeat("-", 61) + "9": `Robert'); drop table tenants;--`,
		"public":                            "$1 %s %d \\' {{.}}",
	} {
		made, token, err := f.Create(t.Context(), catalog.TenantSpec{
			Slug: slug, Name: name, Email: "ops@example.com", Labels: map[string]string{"grant": "all"},
		})
		if err != nil || token == "" || made.Name != name {
			t.Errorf("%s: %+v %v", slug, made, err)
			continue
		}
		b.whole(made, store)
		if got := one[string](b, b.super(made.Database), "select slug || '/' || name from freehold.tenant_identity"); got != slug+"/"+name {
			t.Errorf("the database is told %q", got)
		}
	}
	for _, slug := range []string{"", "a", "1abc", "Acme", "acme-", "ac me", "ac_me", "ämter", strings.Repeat("x", 64), "x'", "a.b"} {
		if _, _, err := f.Create(t.Context(), catalog.TenantSpec{Slug: slug}); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("slug %q: %v", slug, err)
		}
	}
}

// With the object store away nothing is begun; away in the middle, the operation
// waits and goes on.
func TestCreateWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, cfg := b.bucket()
	away := &outage{target: cfg.Endpoint}
	cfg.Endpoint = away.start(b)
	store, err := blob.Open(t.Context(), cfg, false)
	b.ok(err)
	f := b.newFleet(fleet.Config{Blob: store, Heartbeat: beat})
	away.down.Store(true)
	_, _, err = f.Create(t.Context(), catalog.TenantSpec{Slug: "acme"})
	if !errors.Is(err, fleet.ErrStore) || strings.Contains(err.Error(), blobtest.Secret) {
		t.Errorf("the store is away: %v", err)
	}
	if _, err := b.cat.TenantBySlug(t.Context(), "acme"); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("something was begun: %v", err)
	}
	away.down.Store(false)
	f.Crash(func(point string) {
		if point == "onboard/identity:recorded" {
			away.down.Store(true)
		}
	})
	_, token, err := f.Create(t.Context(), catalog.TenantSpec{Slug: "acme"})
	unfinished, ok := errors.AsType[*fleet.Unfinished](err)
	if !ok || !errors.Is(err, fleet.ErrStore) || token != "" || unfinished.Operation.State != catalog.OperationWaiting {
		t.Fatalf("away in the middle: %v", err)
	}
	f.Crash(nil)
	away.down.Store(false)
	b.work(f)
	b.settled(20 * time.Second)
	acme, err := b.cat.TenantBySlug(t.Context(), "acme")
	b.ok(err)
	b.whole(acme, store)
}

// A full server, one that takes no tenants and one that nobody knows are refused,
// and nothing is begun.
func TestCreateWhereThereIsNoRoom(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, draining, active := 1, catalog.ServerDraining, catalog.ServerActive
	_, err := b.cat.SetServer(t.Context(), "pg-1", catalog.ServerPatch{MaxDatabases: &one})
	b.ok(err)
	b.create("first")
	for name, spec := range map[string]catalog.TenantSpec{
		"full": {Slug: "second"}, "full, by name": {Slug: "second", Server: "pg-1"},
		"pinned": {Slug: "second", Pin: map[string]string{"disk": "nvme"}},
	} {
		_, _, err := b.fleet.Create(t.Context(), spec)
		full, ok := errors.AsType[*catalog.Full](err)
		if !ok || !errors.Is(err, catalog.ErrConflict) || len(full.Servers) != 1 || full.Servers[0].Server != "pg-1" {
			t.Errorf("%s: %v", name, err)
		}
	}
	zero := 0
	_, err = b.cat.SetServer(t.Context(), "pg-1", catalog.ServerPatch{MaxDatabases: &zero, State: &draining})
	b.ok(err)
	if _, _, err := b.fleet.Create(t.Context(), catalog.TenantSpec{Slug: "second"}); !errors.Is(err, catalog.ErrConflict) || !strings.Contains(err.Error(), "draining") {
		t.Errorf("draining: %v", err)
	}
	_, err = b.cat.SetServer(t.Context(), "pg-1", catalog.ServerPatch{State: &active})
	b.ok(err)
	if _, _, err := b.fleet.Create(t.Context(), catalog.TenantSpec{Slug: "second", Server: "pg-2"}); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	if list, err := b.cat.Tenants(t.Context(), catalog.TenantFilter{}); err != nil || len(list) != 1 {
		t.Errorf("something was begun: %+v %v", list, err)
	}
}

// A cancelled onboarding leaves nothing, whether it waits, failed or runs.
func TestCancelOnboarding(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store := b.store()
	f := b.newFleet(fleet.Config{Blob: store, Heartbeat: beat})

	waits, err := f.Register(t.Context(), catalog.TenantSpec{Slug: "waits"})
	b.ok(err)
	o, err := f.CancelOperation(t.Context(), waits.Operation.ID, "ops")
	b.ok(err)
	if o.State != catalog.OperationCancelled {
		t.Errorf("waits: %+v", o)
	}

	runs := b.newFleet(fleet.Config{Blob: store, Heartbeat: beat})
	var op atomic.Value
	cancelled := make(chan error, 1)
	runs.Crash(func(point string) {
		if point != "onboard/identity:begun" {
			return
		}
		list, err := b.cat.Operations(context.WithoutCancel(t.Context()), catalog.OperationFilter{Tenant: "runs", Kind: catalog.KindOnboard})
		if err != nil || len(list) != 1 {
			t.Errorf("%+v %v", list, err)
			return
		}
		op.Store(list[0].ID)
		go func() {
			_, err := f.CancelOperation(t.Context(), list[0].ID, "ops")
			cancelled <- err
		}()
		for range 200 { // until it is asked for, as a slow step would
			if err := b.cat.KeepOperation(t.Context(), list[0], beat*5/2); errors.Is(err, catalog.ErrCancelled) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Error("nobody asked to cancel")
	})
	_, token, err := runs.Create(t.Context(), catalog.TenantSpec{Slug: "runs"})
	if !errors.Is(err, catalog.ErrCancelled) || token != "" {
		t.Errorf("runs: %v", err)
	}
	b.ok(<-cancelled)
	b.work(f)
	b.settled(20 * time.Second)
	for _, slug := range []string{"waits", "runs"} {
		if _, err := b.cat.TenantBySlug(t.Context(), slug); !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("%s: %v", slug, err)
		}
	}
	b.nothingLeft(store)
	// The slug is free again.
	_, token, err = f.Create(t.Context(), catalog.TenantSpec{Slug: "runs"})
	if err != nil || token == "" {
		t.Errorf("again: %v", err)
	}
	done, err := f.Register(t.Context(), catalog.TenantSpec{Slug: "done"})
	b.ok(err)
	b.ok(f.Do(t.Context(), done.Operation.ID))
	if _, err := f.CancelOperation(t.Context(), done.Operation.ID, "ops"); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("after its end: %v", err)
	}
}

// A ready database is claimed with all that a tenant has, and told its name later.
func TestClaimReady(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store := b.store()
	f := b.newFleet(fleet.Config{Blob: store})
	b.setReady(2)
	b.ok(f.RefillReady(t.Context()))
	ready, err := b.cat.ReadyDatabases(t.Context(), "pg-1")
	b.ok(err)
	made, token, err := f.Create(t.Context(), catalog.TenantSpec{Slug: "acme", Name: "Acme", Email: "ops@acme.example"})
	b.ok(err)
	if made.ID != ready[0].ID || token == "" {
		t.Errorf("claimed %v, want %v", made.ID, ready[0].ID)
	}
	b.whole(made, store)
	b.owedMails(made, 1)
	lines, err := f.Prove(t.Context(), made.ID)
	b.ok(err)
	for _, l := range lines {
		if !l.OK {
			t.Errorf("%+v", l)
		}
	}
	b.ok(f.NameDatabases(t.Context()))
	if got := one[string](b, b.super(made.Database), "select slug from freehold.tenant_identity"); got != "acme" {
		t.Errorf("the database is told %q", got)
	}
	b.ok(f.RefillReady(t.Context()))
	if ready, err = b.cat.ReadyDatabases(t.Context(), "pg-1"); err != nil || len(ready) != 2 {
		t.Errorf("refilled: %+v %v", ready, err)
	}
	// Brought to a newer schema with the fleet, and claimed there.
	newer := b.newFleet(fleet.Config{Blob: store, Tenant: with("create table freehold.notes (n integer);")})
	b.ok(newer.Upgrade(t.Context(), "ops"))
	b.ok(newer.RefillReady(t.Context()))
	second, _, err := newer.Create(t.Context(), catalog.TenantSpec{Slug: "globex"})
	b.ok(err)
	if second.SchemaVersion != latest+1 || !one[bool](b, b.super(second.Database), "select to_regclass('freehold.notes') is not null") {
		t.Errorf("claimed at schema %d", second.SchemaVersion)
	}
	b.setReady(0)
	b.ok(newer.RefillReady(t.Context()))
	b.nothingLeft(store)
}
