package fleet_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb/fleet"
)

// What a process that was killed had begun a worker ends, of the same release: others
// keep their hands off it.
func TestRollout_workers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	list := b.several(3)
	const sql = "create table freehold.notes (n integer);"
	right := b.newFleet(fleet.Config{Tenant: with(sql), Heartbeat: beat, Worker: "right"})
	r, err := right.StartRollout(t.Context(), fleet.RolloutSpec{
		Stream: catalog.StreamFreehold, Waves: []float64{100}, Actor: "ops", Options: catalog.RolloutOptions{Parallel: 1},
	})
	b.ok(err)
	b.dies(order{
		CatalogURL: b.cfg.URL, Keyset: b.keyset(), Heartbeat: beat, Rollout: r.ID, TakeOver: true, Worker: "killed", Extra: sql,
		DieAt: "rollout/applied", Nth: 2,
	})
	for name, f := range map[string]*fleet.Fleet{
		"older":    b.newFleet(fleet.Config{Heartbeat: beat, Worker: "older"}),
		"anothers": b.newFleet(fleet.Config{Tenant: with(sql + "select 1;"), Heartbeat: beat, Worker: "anothers"}),
	} {
		if _, err := f.RunRollout(t.Context(), r.ID, true, nil); !errors.Is(err, fleet.ErrOtherBinary) {
			t.Errorf("%s: %v", name, err)
		}
		b.work(f)
	}
	b.work(right)
	b.until("it is done", func() bool { return b.status(r.ID).State == catalog.RolloutDone })
	by := map[string]int{}
	for _, row := range b.targets(r.ID) {
		by[row.Worker]++
	}
	if by["killed"] != 1 || by["right"] != 2 || len(by) != 2 {
		t.Errorf("done by %v", by)
	}
	for _, one := range list {
		now, err := b.cat.Tenant(t.Context(), one.ID)
		b.ok(err)
		if now.SchemaVersion != latest+1 {
			t.Errorf("%s is at schema %d", now.Slug, now.SchemaVersion)
		}
	}
}

// While the catalog is away nothing fails for that: it goes on when it is there again.
func TestRollout_catalog_away(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.several(2)
	f := b.newFleet(fleet.Config{Heartbeat: beat})
	r, err := f.StartRollout(t.Context(), fleet.RolloutSpec{
		Stream: catalog.StreamProduct, Set: product(b, "create schema app;"), Waves: []float64{100}, Actor: "ops",
		Options: catalog.RolloutOptions{Parallel: 1, Budget: "0"},
	})
	b.ok(err)
	reached, goOn := holds(f, "rollout/claimed")
	ended := b.runs(f, r.ID)
	b.comes("a target is claimed", reached)
	back := b.catalogAway()
	goOn()
	time.Sleep(500 * time.Millisecond)
	back()
	now, err := ended()
	if err != nil || now.State != catalog.RolloutDone {
		t.Errorf("%s %q: %v", now.State, now.Reason, err)
	}
	for slug := range b.targets(r.ID) {
		b.productAt(slug, 1)
	}
}

// Resumed while a process is at it, what that one has under way is its own still, and
// recorded.
func TestRollout_resumed_meanwhile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create("acme")
	f := b.newFleet(fleet.Config{Heartbeat: time.Minute}) // nobody's lease ends in this test
	r, err := f.StartRollout(t.Context(), fleet.RolloutSpec{Stream: catalog.StreamProduct, Set: product(b, "create schema app;"), Actor: "ops"})
	b.ok(err)
	reached, goOn := holds(f, "rollout/ddl")
	ended := b.runs(f, r.ID)
	b.comes("a migration runs", reached)
	_, err = b.cat.ResumeRollout(t.Context(), r.ID, "ops")
	b.ok(err)
	b.until("it is taken anew", func() bool { return b.targets(r.ID)["acme"].Attempts == 2 })
	goOn()
	if now, err := ended(); err != nil || now.State != catalog.RolloutDone {
		t.Errorf("%s %q: %v", now.State, now.Reason, err)
	}
	b.productAt("acme", 1)
}

// A worker that waits in the rollout of one stream works on that of the other.
func TestRollout_two_streams(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create("acme")
	b.create("globex")
	f := b.newFleet(fleet.Config{Tenant: with("create table freehold.notes (n integer);"), Heartbeat: beat})
	options := catalog.RolloutOptions{Parallel: 1}
	own, err := f.StartRollout(t.Context(), fleet.RolloutSpec{Stream: catalog.StreamFreehold, Actor: "ops", Options: options})
	b.ok(err)
	reached, goOn := holds(f, "rollout/claimed")
	b.work(f)
	b.comes("Freehold's is begun", reached)
	func() {
		defer goOn()
		others, err := f.StartRollout(t.Context(), fleet.RolloutSpec{Stream: catalog.StreamProduct, Set: product(b, "create schema app;"), Actor: "ops", Options: options})
		b.ok(err)
		b.until("the product's is done", func() bool { return b.status(others.ID).State == catalog.RolloutDone })
	}()
	b.until("Freehold's is done", func() bool { return b.status(own.ID).State == catalog.RolloutDone })
}

// catalogAway has the catalog's database end all sessions and take none, until back.
func (b *bench) catalogAway() (back func()) {
	b.Helper()
	super, name := b.super("postgres"), b.catalogDB().Config().Database
	allow := func(sessions string) {
		_, err := super.Exec(b.Context(), "alter database "+pgx.Identifier{name}.Sanitize()+" connection limit "+sessions)
		b.ok(err)
	}
	allow("0")
	_, err := super.Exec(b.Context(), "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name)
	b.ok(err)
	return func() { allow("-1") }
}
