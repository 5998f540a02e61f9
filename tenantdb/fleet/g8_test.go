package fleet_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/fleet"
)

// counted is a product whose migrations count themselves: in a transaction of their
// own, without one, and slowly.
var counted = []string{
	"create schema app;\ncreate table app.runs (file integer);\ninsert into app.runs values (1);",
	"-- +goose NO TRANSACTION\ncreate index concurrently if not exists runs_file on app.runs (file);",
	"insert into app.runs values (3);\nselect pg_sleep(0.03);",
}

// Killed with -9 at every step of a tenant's migration and gone on with by another
// process, also while two of them race, a rollout applies each migration once to each
// database, and what it says is true.
func TestG8_RolloutSurvivesKill(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenants, more, races := 6, 0, 1
	if pgtest.Long() {
		tenants, more, races = 50, 3, 5
	}
	list := b.several(tenants)
	r, err := b.fleet.StartRollout(t.Context(), fleet.RolloutSpec{
		Stream: catalog.StreamProduct, Set: product(b, counted...), Waves: []float64{100}, Actor: "ops",
		Options: catalog.RolloutOptions{Parallel: 2, Budget: "0", Soak: -1},
	})
	b.ok(err)
	o := order{CatalogURL: b.cfg.URL, Keyset: b.keyset(), Heartbeat: beat / 2, Rollout: r.ID, TakeOver: true}

	// Each dies somewhere else: at another point, at another tenant, or migration.
	nth := map[string]int{"locked": 2, "ddl": 2, "row": 3, "done": 2}
	for _, point := range fleet.RolloutPoints() {
		name := strings.TrimPrefix(point, "rollout/")
		o.DieAt, o.Nth = point, max(1, nth[name])+more
		if slices.Contains([]string{"ddl", "row", "applied"}, name) {
			o.Nth += more * (len(counted) - 1)
		}
		b.dies(o)
		if t.Failed() {
			return
		}
		b.truthful(r, list)
	}

	o.DieAt = ""
	for n := range races {
		leads, helps := o, o
		leads.Worker, helps.Worker, helps.TakeOver = "leads", "helps", false
		one, other := b.start(leads), b.start(helps)
		b.until("one leads", func() bool {
			now, err := b.cat.Rollout(t.Context(), r.ID)
			b.ok(err)
			return now.Worker == "leads" || now.State != catalog.RolloutRunning
		})
		time.Sleep(rand.N(200 * time.Millisecond))
		_ = one.Process.Kill() // or it has ended
		_ = one.Wait()
		if n < races-1 {
			time.Sleep(rand.N(200 * time.Millisecond))
			_ = other.Process.Kill()
		}
		if err := other.Wait(); n == races-1 && err != nil {
			t.Errorf("who helped didn't go on to the end: %v", err)
		}
		b.truthful(r, list)
	}
	now, err := b.cat.RolloutStatus(t.Context(), r.ID)
	b.ok(err)
	if now.State != catalog.RolloutDone || now.Total != tenants || now.Done != tenants {
		t.Errorf("%s: %d of %d are done, %d failed", now.State, now.Done, now.Total, now.Failed)
	}
	b.onceEach(r, list)
}

// truthful checks what a rollout says of its targets against their databases: what is
// done is done, and no tenant's row says more than its database has.
func (b *bench) truthful(r catalog.Rollout, list []catalog.Tenant) {
	b.Helper()
	targets, err := b.cat.RolloutTargets(b.Context(), r.ID, catalog.TargetFilter{})
	b.ok(err)
	if len(targets) != len(list) {
		b.Errorf("%d targets, want %d", len(targets), len(list))
	}
	for _, target := range targets {
		now, err := b.cat.Tenant(b.Context(), target.TenantID)
		b.ok(err)
		if target.State == catalog.TargetDone != (now.ProductVersion == r.Target) || target.State == catalog.TargetFailed {
			b.Errorf("%s is %s, and at version %d: %s", target.Tenant, target.State, now.ProductVersion, target.Error)
		}
	}
}

// onceEach checks that each of counted was applied once to each database.
func (b *bench) onceEach(r catalog.Rollout, list []catalog.Tenant) {
	b.Helper()
	const (
		runs     = `select array_agg(file order by file)::text from app.runs`
		versions = `select array_agg(version_id order by version_id)::text from product.schema_version where version_id > 0 and is_applied`
		valid    = `select count(*)::int from pg_index where indisvalid and indexrelid = 'app.runs_file'::regclass`
	)
	for _, t := range list {
		now, err := b.cat.Tenant(b.Context(), t.ID)
		b.ok(err)
		conn := b.super(t.Database)
		if got := one[string](b, conn, runs); got != "{1,3}" {
			b.Errorf("%s: its migrations ran as %s", t.Slug, got)
		}
		if got := one[string](b, conn, versions); got != "{1,2,3}" {
			b.Errorf("%s: it has versions %s", t.Slug, got)
		}
		if n := one[int](b, conn, valid); n != 1 || now.ProductVersion != 3 || now.State != catalog.Active {
			b.Errorf("%s is %s at version %d, with %d indexes", t.Slug, now.State, now.ProductVersion, n)
		}
		b.ok(conn.Close(b.Context()))
	}
	const held = `select count(*)::int from rollout_targets where rollout = $1 and (lease_until is not null or state <> 'done')`
	if n := one[int](b, b.catalogDB(), held, r.ID); n != 0 {
		b.Errorf("%d targets are held by somebody", n)
	}
}
