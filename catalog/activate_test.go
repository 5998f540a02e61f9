package catalog_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"freehold/catalog"
)

// None becomes active below the fleet's versions, in whichever stream.
func TestActivate_behind(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	first, paused := b.tenant("first"), b.tenant("paused")
	_, err := b.cat.SetState(ctx, paused.ID, catalog.Suspended, catalog.Active)
	b.ok(err)
	made, err := b.cat.CreateTenant(ctx, catalog.TenantSpec{Slug: "made"}, here())
	b.ok(err)
	b.ok(b.cat.SetVersions(ctx, first.ID, catalog.Versions{Freehold: 2, Product: 3}, -1))
	for _, c := range []struct {
		has    catalog.Versions
		behind bool
	}{
		{catalog.Versions{}, true},
		{catalog.Versions{Freehold: 1, Product: 3}, true},
		{catalog.Versions{Freehold: 5, Product: 2}, true},
		{catalog.Versions{Freehold: 2, Product: 4}, false},
	} {
		b.ok(b.cat.SetVersions(ctx, paused.ID, c.has, -1))
		b.ok(b.cat.SetVersions(ctx, made.Tenant.ID, c.has, -1))
		_, resumed := b.cat.SetState(ctx, paused.ID, catalog.Active, catalog.Suspended)
		activated := b.cat.ActivateTenant(ctx, made.Tenant.ID)
		for _, err := range []error{resumed, activated} {
			e, behind := errors.AsType[*catalog.Behind](err)
			if behind != c.behind || behind && (e.Has != c.has || e.Fleet != (catalog.Versions{Freehold: 2, Product: 3}) || !errors.Is(err, catalog.ErrConflict)) {
				t.Errorf("at %s: %v", c.has, err)
			}
		}
	}
	for _, id := range []catalog.TenantID{paused.ID, made.Tenant.ID} {
		if now, err := b.cat.Tenant(ctx, id); err != nil || now.State != catalog.Active || now.Epoch == 0 {
			t.Errorf("%+v: %v", now, err)
		}
	}
}

// A ready database is claimed at the fleet's versions of both streams alone, and what
// it needs of its binaries goes with it.
func TestClaim_both_streams(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme := b.tenant("acme")
	b.ok(b.cat.SetVersions(ctx, acme.ID, catalog.Versions{Freehold: 1, Product: 2}, 1))
	r, _, err := b.cat.AddReady(ctx, "pg-1", 1)
	b.ok(err)
	r.SchemaVersion, r.ProductVersion, r.SchemaNeeds = 1, 1, 1
	b.ok(b.cat.SetReady(ctx, r, "making", "ready"))
	o := here()
	made, err := b.cat.CreateTenant(ctx, catalog.TenantSpec{Slug: "made"}, o)
	b.ok(err)
	if made.Claimed || string(made.Operation.Args) != `{"schema": 1, "product": 2}` {
		t.Errorf("one of another product: %+v %s", made, made.Operation.Args)
	}
	r.ProductVersion = 2
	b.ok(b.cat.SetReady(ctx, r, "ready", "ready"))
	claimed, err := b.cat.CreateTenant(ctx, catalog.TenantSpec{Slug: "claimed"}, o)
	b.ok(err)
	if got := claimed.Tenant; !claimed.Claimed || got.SchemaVersion != 1 || got.ProductVersion != 2 {
		t.Errorf("%+v", claimed)
	}
	if n := b.number(b.admin(), "select schema_needs from tenants where slug = 'claimed'"); n != 1 {
		t.Errorf("it needs %d", n)
	}
}

// A rollout doesn't end beside a tenant that becomes active below its target, and
// none becomes so behind its end.
func TestActivate_and_the_end_of_a_rollout(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.server("pg-1")
	_, err := b.cat.CreateTenant(ctx, catalog.TenantSpec{Slug: "early"}, here())
	b.ok(err)
	early, err := b.cat.TenantBySlug(ctx, "early")
	b.ok(err)
	late, err := b.cat.CreateTenant(ctx, catalog.TenantSpec{Slug: "late"}, here())
	b.ok(err)
	begin := func() catalog.Rollout {
		r, err := b.cat.BeginRollout(ctx, catalog.RolloutSpec{
			Stream: catalog.StreamProduct, Target: 1, Actor: "ops",
			Options: catalog.RolloutOptions{Parallel: 1, Budget: "0"},
			Files:   []catalog.MigrationFile{{Version: 1, Name: "00001_notes.sql", Sum: make([]byte, 32), Body: "-- +goose Up\n"}},
			Waves:   []catalog.WaveSpec{{Name: "100%"}},
		}, catalog.Taker{Worker: "w", Lease: time.Minute})
		b.ok(err)
		return r
	}
	r := begin()

	// One is activated, and the last lock of that, the clock's, is not to be had.
	tx, err := b.admin().Begin(ctx)
	b.ok(err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	_, err = tx.Exec(ctx, "select seq from catalog_clock for update")
	b.ok(err)
	activated := make(chan error, 1)
	go func() { activated <- b.cat.ActivateTenant(ctx, early.ID) }()
	super := b.super()
	b.within(5*time.Second, "activation waits for the clock", func() bool {
		return b.number(super, `select count(*) from pg_stat_activity where datname = $1 and wait_event_type = 'Lock'`, b.database()) == 1
	})
	type answer struct {
		r   catalog.Rollout
		err error
	}
	ended := make(chan answer, 1)
	go func() {
		r, err := b.cat.EndRollout(ctx, r)
		ended <- answer{r, err}
	}()
	b.within(5*time.Second, "the end waits for it", func() bool {
		return b.number(super, `select count(*) from pg_stat_activity where datname = $1 and wait_event = 'advisory'`, b.database()) == 1
	})
	b.ok(tx.Rollback(ctx))
	b.ok(<-activated)
	if a := <-ended; a.err != nil || a.r.State != catalog.RolloutRunning {
		t.Fatalf("ended beside a tenant below its target: %+v", a)
	}
	b.ok(b.cat.SetVersions(ctx, early.ID, catalog.Versions{Product: 1}, -1))
	if r, err = b.cat.EndRollout(ctx, r); err != nil || r.State != catalog.RolloutDone {
		t.Fatalf("%+v: %v", r, err)
	}
	if err := b.cat.ActivateTenant(ctx, late.Tenant.ID); !isBehind(err) {
		t.Errorf("behind the end: %v", err)
	}
	// Also where nobody is active who could show how far the fleet is.
	_, err = b.cat.SetState(ctx, early.ID, catalog.Suspended, catalog.Active)
	b.ok(err)
	if err := b.cat.ActivateTenant(ctx, late.Tenant.ID); !isBehind(err) {
		t.Errorf("in an empty fleet: %v", err)
	}
}

func isBehind(err error) bool {
	_, behind := errors.AsType[*catalog.Behind](err)
	return behind
}
