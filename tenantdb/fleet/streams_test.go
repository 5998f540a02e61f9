package fleet_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/tenantdb/fleet"
)

// notes is a product's first migration: a table that the tenant's role may use.
const notes = `-- +goose Up
create schema app;
grant usage on schema app to freehold_tenant;
create table app.notes (id bigint generated always as identity primary key, body text not null);
grant select, insert, update, delete on app.notes to freehold_tenant;
`

// tags is its second.
const tags = `-- +goose Up
create table app.tags (name text primary key);
grant select on app.tags to freehold_tenant;
`

// keep has the catalog keep a product's migrations, as after rollouts that ended at
// target.
func (b *bench) keep(target int64, bodies ...string) {
	b.Helper()
	rows := b.catalogDB()
	for i, body := range bodies {
		sum := sha256.Sum256([]byte(body))
		_, err := rows.Exec(b.Context(), `
			insert into migration_files (stream, version, name, sha256, body) values ('product', $1, $2, $3, $4)
			on conflict (stream, version) do update set sha256 = excluded.sha256, body = excluded.body`,
			i+1, fmt.Sprintf("%05d_app.sql", i+1), sum[:], body)
		b.ok(err)
	}
	_, err := rows.Exec(b.Context(), `
		insert into rollouts (id, stream, target, actor, options, state) values (gen_random_uuid(), 'product', $1, 'ops', '{}', 'done')`, target)
	b.ok(err)
}

// usesNotes writes and reads the product's table as the tenant's role does.
func (b *bench) usesNotes(t catalog.Tenant) {
	b.Helper()
	conn, err := b.as(t, t.Database)
	b.ok(err)
	_, err = conn.Exec(b.Context(), "insert into app.notes (body) values ('hello')")
	b.ok(err)
	if n := one[int](b, conn, "select count(*)::int from app.notes"); n != 1 {
		b.Errorf("%s: %d notes", t.Slug, n)
	}
	for _, sql := range []string{"create table app.more ()", "drop table app.notes", "update product.schema_version set version_id = 9"} {
		if _, err := conn.Exec(b.Context(), sql); sqlstate(err) != "42501" {
			b.Errorf("%s: %s: %v", t.Slug, sql, err)
		}
	}
}

// New tenants have both streams, cloned from a template or claimed; what the product
// grants to tenants' roles they have, and no more.
func TestProduct_new_tenants(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.keep(1, notes+"-- this test's own: templates are shared\n", tags)
	acme := b.create("acme")
	b.whole(acme, nil)
	b.usesNotes(acme)
	if acme.SchemaVersion != latest || acme.ProductVersion != 1 {
		t.Errorf("%+v", acme)
	}
	lines, err := b.fleet.Prove(t.Context(), acme.ID)
	b.ok(err)
	for _, l := range lines {
		if !l.OK {
			t.Errorf("%+v", l)
		}
	}
	first := b.fleet.TemplateOf(catalog.Versions{Freehold: latest, Product: 1})
	super := b.super("postgres")
	there := func(name string) bool {
		return one[bool](b, super, "select exists (select from pg_database where datname = $1)", name)
	}
	if !strings.HasPrefix(first, fmt.Sprintf("freehold_template_%dp1_", latest)) || !there(first) {
		t.Errorf("no template %s", first)
	}

	// The fleet moves on: ready databases and templates with it.
	b.setReady(1)
	b.ok(b.fleet.RefillReady(t.Context()))
	ready, err := b.cat.ReadyDatabases(t.Context(), "")
	b.ok(err)
	if len(ready) != 1 || ready[0].ProductVersion != 1 || ready[0].SchemaVersion != latest {
		t.Fatalf("%+v", ready)
	}
	_, err = b.super(acme.Database).Exec(t.Context(), "set role freehold_owner; create table app.tags ()")
	b.ok(err)
	b.ok(b.cat.SetVersions(t.Context(), acme.ID, catalog.Versions{Freehold: latest, Product: 2}, -1))
	made := b.create("made") // the ready one doesn't fit any more
	if made.ID == ready[0].ID || made.ProductVersion != 2 || there(first) {
		t.Errorf("%+v; the first template is there: %t", made, there(first))
	}
	b.ok(b.fleet.RefillReady(t.Context()))
	claimed := b.create("claimed")
	if claimed.ID != ready[0].ID || claimed.ProductVersion != 2 {
		t.Errorf("claimed %+v", claimed)
	}
	b.usesNotes(claimed)
	if conn, err := b.as(claimed, claimed.Database); err != nil || one[int](b, conn, "select count(*)::int from app.tags") != 0 {
		t.Errorf("the second migration: %v", err)
	}
}

// Who comes while a rollout goes on ends at its target: claimed, made, resumed.
func TestRollout_newcomers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create("acme")
	paused := b.create("paused")
	b.ok(b.fleet.Suspend(t.Context(), paused.ID))
	b.setReady(2)
	b.ok(b.fleet.RefillReady(t.Context()))
	f := b.newFleet(fleet.Config{})
	var once sync.Once
	reached, goOn := make(chan struct{}), make(chan struct{})
	f.Crash(func(point string) {
		if point == "rollout/ddl" {
			once.Do(func() {
				close(reached)
				<-goOn
			})
		}
	})
	set := migrations.Product([]migrations.File{{Version: 1, Name: "00001_app.sql", Body: notes}})
	r, err := f.StartRollout(t.Context(), fleet.RolloutSpec{Stream: catalog.StreamProduct, Set: &set, Actor: "ops"})
	b.ok(err)
	ended := make(chan error, 1)
	go func() {
		r, err := f.RunRollout(t.Context(), r.ID, false, nil)
		if err == nil && r.State != catalog.RolloutDone {
			err = fmt.Errorf("it is %s", r.State)
		}
		ended <- err
	}()
	func() {
		defer close(goOn)
		select {
		case <-reached:
		case err := <-ended:
			t.Fatalf("it ended before a migration was run: %v", err)
		}
		b.create("claimed")
		b.setReady(0)
		b.ok(b.fleet.RefillReady(t.Context()))
		b.create("made")
		b.ok(b.fleet.Resume(t.Context(), paused.ID))
	}()
	b.ok(<-ended)
	for _, slug := range []string{"acme", "claimed", "made", "paused"} {
		one, err := b.cat.TenantBySlug(t.Context(), slug)
		b.ok(err)
		if one.State != catalog.Active || one.ProductVersion != 1 {
			t.Errorf("%+v", one)
		}
		b.usesNotes(one)
	}
	b.setReady(1)
	b.ok(b.fleet.RefillReady(t.Context()))
	if list, err := b.cat.ReadyDatabases(t.Context(), ""); err != nil || len(list) != 1 || list[0].ProductVersion != 1 {
		t.Errorf("%+v: %v", list, err)
	}
}

// A suspended tenant is brought to the fleet's versions before anybody is let in. What
// can't be is told, and leaves it suspended.
func TestResume_brings_up(t *testing.T) {
	t.Parallel()
	b := setup(t)
	newer := b.newFleet(fleet.Config{Tenant: with("create table freehold.more (n integer);")})
	acme, ahead := b.create("acme"), b.create("ahead")
	b.ok(b.fleet.Suspend(t.Context(), acme.ID))
	b.keep(1, notes)
	fleetAt := catalog.Versions{Freehold: latest + 1, Product: 1}
	b.ok(b.cat.SetVersions(t.Context(), ahead.ID, fleetAt, -1))

	err := b.fleet.Resume(t.Context(), acme.ID)
	if !errors.Is(err, fleet.ErrOtherBinary) || !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("by an older binary: %v", err)
	}
	b.keptOut(acme)
	super := b.super(acme.Database)
	_, err = super.Exec(t.Context(), "create schema app authorization freehold_owner")
	b.ok(err)
	err = newer.Resume(t.Context(), acme.ID)
	refused, ok := errors.AsType[*fleet.NotUpgraded](err)
	if !ok || !errors.Is(err, catalog.ErrConflict) || !strings.Contains(refused.Error(), "00001_app.sql") || !strings.Contains(err.Error(), "42P06") {
		t.Errorf("a conflicting schema: %v", err)
	}
	b.keptOut(acme)
	// What had been done stands, and is known.
	if now, err := b.cat.Tenant(t.Context(), acme.ID); err != nil || now.SchemaVersion != latest+1 || now.ProductVersion != 0 {
		t.Errorf("%+v: %v", now, err)
	}
	_, err = super.Exec(t.Context(), "drop schema app")
	b.ok(err)

	// The fleet moves on once more between the look at it and the change of state.
	newer.Crash(func(point string) {
		if point == "resume/up" {
			newer.Crash(nil)
			b.keep(2, notes, tags)
			fleetAt.Product = 2
			b.ok(b.cat.SetVersions(t.Context(), ahead.ID, fleetAt, -1))
		}
	})
	b.ok(newer.Resume(t.Context(), acme.ID))
	now, err := b.cat.Tenant(t.Context(), acme.ID)
	b.ok(err)
	if now.State != catalog.Active || now.SchemaVersion != latest+1 || now.ProductVersion != 2 {
		t.Errorf("%+v", now)
	}
	b.usesNotes(now)
	b.ok(newer.Resume(t.Context(), acme.ID)) // twice is once
}

// keptOut checks that a tenant is suspended, and can't log in.
func (b *bench) keptOut(t catalog.Tenant) {
	b.Helper()
	if now, err := b.cat.Tenant(b.Context(), t.ID); err != nil || now.State != catalog.Suspended {
		b.Errorf("%s is %s: %v", t.Slug, now.State, err)
	}
	b.shut(t)
}

// An onboarding that began before the fleet moved on, or was begun by a release that
// knew of no product, ends at the fleet's versions.
func TestOnboarding_overtaken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.create("acme")
	b.ok(b.cat.SetVersions(t.Context(), acme.ID, catalog.Versions{Freehold: latest}, 0))
	f := b.newFleet(fleet.Config{})
	f.Crash(func(point string) {
		if point == "onboard/proof:recorded" {
			b.keep(1, notes)
			b.ok(b.cat.SetVersions(t.Context(), acme.ID, catalog.Versions{Freehold: latest, Product: 1}, -1))
		}
	})
	made, _, err := f.Create(t.Context(), catalog.TenantSpec{Slug: "overtaken"})
	b.ok(err)
	b.whole(made, nil)
	if made.ProductVersion != 1 {
		t.Errorf("%+v", made)
	}
	b.usesNotes(made)

	older, err := b.fleet.Register(t.Context(), catalog.TenantSpec{Slug: "older"})
	b.ok(err)
	_, err = b.catalogDB().Exec(t.Context(), "update operations set args = args - 'product' where id = $1", older.Operation.ID)
	b.ok(err)
	b.ok(b.fleet.Do(t.Context(), older.Operation.ID))
	made, err = b.cat.Tenant(t.Context(), older.Tenant.ID)
	b.ok(err)
	if made.ProductVersion != 1 || made.State != catalog.Active {
		t.Errorf("%+v", made)
	}
	b.usesNotes(made)
}

// A migration of the product's that fails leaves the onboarding failed, with the file
// and the reason; mended, it goes on.
func TestOnboarding_product_fails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.keep(1, "-- +goose Up\nselect no_such_column;\n")
	made, err := b.fleet.Register(t.Context(), catalog.TenantSpec{Slug: "acme"})
	b.ok(err)
	if err := b.fleet.Do(t.Context(), made.Operation.ID); err == nil {
		t.Fatal("it did not fail")
	}
	o, err := b.cat.Operation(t.Context(), made.Operation.ID)
	b.ok(err)
	if o.State != catalog.OperationFailed || !strings.Contains(o.Error, "00001_app.sql") || !strings.Contains(o.Error, "42703") {
		t.Errorf("%+v", o)
	}
	b.keep(1, notes)
	b.ok(b.fleet.Do(t.Context(), made.Operation.ID))
	acme, err := b.cat.Tenant(t.Context(), made.Tenant.ID)
	b.ok(err)
	b.usesNotes(acme)
}

// An adopted database is brought to the fleet's versions before it is served.
func TestAdopt_brings_up(t *testing.T) {
	t.Parallel()
	b, store := stored(t)
	young, _ := b.onboard("young")
	b.anonymous(young)
	to := b.anew(store)
	_, err := to.fleet.AddServer(t.Context(), to.server())
	b.ok(err)
	to.keep(1, notes)
	adopted, token, err := to.fleet.Adopt(t.Context(), "pg-1", young.ID, "")
	b.ok(err)
	if adopted.State != catalog.Active || adopted.ProductVersion != 1 || adopted.SchemaVersion != latest || token == "" {
		t.Errorf("%+v", adopted)
	}
	to.usesNotes(adopted)
	b.ok(to.served(young.ID))
}

// The doctor tells of tenants that are behind in the product's stream; not of those
// that resuming brings up.
func TestDoctor_product_stragglers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, paused := b.create("acme"), b.create("paused")
	told := func() bool {
		findings, err := b.fleet.Doctor(t.Context())
		b.ok(err)
		return finding(findings, "1 of 2 tenants are behind the product's schema 1") != nil
	}
	if told() {
		t.Error("without a product")
	}
	b.keep(1, notes)
	b.ok(b.fleet.Suspend(t.Context(), paused.ID))
	if !told() {
		t.Error("nothing is told of acme")
	}
}

func TestTemplateVersions(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"freehold_template_4_0123456789ab":       "4",
		"freehold_template_12p3_0123456789ab":    "12, product 3",
		"freehold_template_4p_0123456789ab":      "",
		"freehold_template_4_0123456789":         "",
		"freehold_template_p4_0123456789ab":      "",
		"freehold_template_4p3_0123456789ab_old": "",
		"x_freehold_template_4_0123456789ab":     "",
		"freehold_scratch_0123456789ab":          "",
	} {
		v, ok := fleet.TemplateVersions(name)
		if ok != (want != "") || ok && v.String() != want {
			t.Errorf("%s: %s %t", name, v, ok)
		}
	}
}
