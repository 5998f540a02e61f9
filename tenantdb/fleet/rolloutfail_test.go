package fleet_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/migrations/localpg"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/fleet"
)

// elsewhere adds a second server, pg-2, which can be stopped and started again. In the
// short form it is the first one by another name, and the catalog says where it isn't.
func (b *bench) elsewhere() (stop, start func()) {
	b.Helper()
	add := b.server()
	add.Name = "pg-2"
	if !pgtest.Long() {
		add.URL = strings.Replace(add.URL, "127.0.0.1", "localhost", 1)
		_, err := b.fleet.AddServer(b.Context(), add)
		b.ok(err)
		conn := b.catalogDB()
		port := one[int](b, conn, "select port from servers where name = 'pg-2'")
		set := func(port int) {
			_, err := conn.Exec(b.Context(), "update servers set port = $1 where name = 'pg-2'", port)
			b.ok(err)
		}
		return func() { set(1) }, func() { set(port) }
	}
	cfg := localpg.Config{DataDir: pgtest.TempDir(b), NoSync: true}
	var pg *localpg.Server
	start = func() {
		b.Helper()
		var err error
		pg, err = localpg.Start(b.Context(), cfg)
		b.ok(err)
		cfg.Port = pg.Port()
	}
	stop = func() {
		if pg != nil {
			_ = pg.Stop(b.Context())
			pg = nil
		}
	}
	b.Cleanup(func() {
		if pg != nil {
			_ = pg.Stop(b.Context())
		}
	})
	start()
	b.ok(pg.Bootstrap(b.Context(), "fleet", "secret"))
	add.URL, add.Password = fmt.Sprintf("postgres://fleet@127.0.0.1:%d/postgres?sslmode=disable", pg.Port()), "secret"
	_, err := b.fleet.AddServer(b.Context(), add)
	b.ok(err)
	return stop, start
}

// trouble is a tenant whose migration fails, and how that is mended.
type trouble struct {
	slug, kind, text string
	mend             func()
}

// Failures of every kind are named with kind, reason and file; the others end, and
// once the causes are mended all do. The budget holds exactly.
func TestRolloutFailuresOfEveryKind(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenants, conflicts := 9, 2
	if pgtest.Long() {
		tenants, conflicts = 100, 5
	}
	first := product(b, "create schema app;\ncreate table app.notes (n integer); -- this test's own: templates are shared")
	set := product(b, "create schema app;\ncreate table app.notes (n integer); -- this test's own: templates are shared",
		"alter table app.notes add tag text;\ncreate table app.tags (name text);")
	files, err := first.Files()
	b.ok(err)
	b.keep(1, files[0].Body)
	list := b.several(tenants - 1)
	stop, start := b.elsewhere()
	_, _, err = b.fleet.Create(t.Context(), catalog.TenantSpec{Slug: "faraway", Server: "pg-2"})
	b.ok(err)

	var troubles []trouble
	var canary []string
	for _, victim := range list[:conflicts] {
		super := b.super(victim.Database)
		_, err := super.Exec(t.Context(), "create table app.tags (name text)")
		b.ok(err)
		canary = append(canary, victim.Slug)
		troubles = append(troubles, trouble{victim.Slug, catalog.FailSQL, `relation "tags" already exists (SQLSTATE 42P07)`, func() {
			_, err := super.Exec(t.Context(), "drop table app.tags")
			b.ok(err)
		}})
	}

	// More failures than are borne, by one: nothing new is begun.
	f := b.newFleet(fleet.Config{Heartbeat: beat})
	spec := fleet.RolloutSpec{
		Stream: catalog.StreamProduct, Set: set, Canary: canary, Waves: []float64{100}, Actor: "ops",
		Options: catalog.RolloutOptions{Parallel: 1, Budget: "1", Soak: -1, Retries: 1, LockTimeout: 100 * time.Millisecond},
	}
	r, err := f.StartRollout(t.Context(), spec)
	b.ok(err)
	now, err := b.runs(f, r.ID)()
	want := fmt.Sprintf("2 of %d tenants failed, and the budget of 1 bears 1", tenants)
	if !errors.Is(err, fleet.ErrPartial) || now.State != catalog.RolloutHalted || now.Reason != want {
		t.Errorf("%s %q: %v", now.State, now.Reason, err)
	}
	if s := b.status(r.ID); s.Failed != 2 || s.Waiting != tenants-2 || s.Total != tenants {
		t.Errorf("halted: %d failed, %d of %d wait", s.Failed, s.Waiting, s.Total)
	}
	for slug, row := range b.targets(r.ID) {
		if (row.State == catalog.TargetFailed) != (row.Attempts > 0) {
			t.Errorf("%s was begun: %+v", slug, row)
		}
	}
	_, err = b.cat.AbortRollout(t.Context(), r.ID, "ops", "too many")
	b.ok(err)

	troubles = append(troubles, b.sabotage(list[conflicts], list[conflicts+1], list[conflicts+2])...)
	troubles = append(troubles, trouble{"faraway", catalog.FailAway, "", start})
	stop()

	spec.Canary, spec.Options.Parallel, spec.Options.Budget = nil, 4, fmt.Sprint(len(troubles))
	r, err = f.StartRollout(t.Context(), spec)
	b.ok(err)
	now, err = b.runs(f, r.ID)()
	if !errors.Is(err, fleet.ErrPartial) || now.State != catalog.RolloutPartial {
		t.Errorf("%s %q: %v", now.State, now.Reason, err)
	}
	b.named(r.ID, tenants, troubles)

	// Mended one by one; in the short form the first of them, then the others.
	for len(troubles) > 0 {
		n := 1
		if !pgtest.Long() && len(troubles) < conflicts+4 {
			n = len(troubles)
		}
		for _, mended := range troubles[:n] {
			mended.mend()
		}
		troubles = troubles[n:]
		_, err = b.cat.ResumeRollout(t.Context(), r.ID, "ops")
		b.ok(err)
		now, err = b.runs(f, r.ID)()
		if len(troubles) > 0 != errors.Is(err, fleet.ErrPartial) {
			t.Errorf("%d causes left: %s, %v", len(troubles), now.State, err)
		}
		b.named(r.ID, tenants, troubles)
	}
	if now.State != catalog.RolloutDone {
		t.Errorf("at last it is %s", now.State)
	}
	all, err := b.cat.Tenants(t.Context(), catalog.TenantFilter{})
	b.ok(err)
	for _, one := range all {
		if one.ProductVersion != 2 {
			t.Errorf("%s is at version %d", one.Slug, one.ProductVersion)
		}
	}
}

// sabotage makes a tenant's table locked, another's database ahead of the product, and
// the third's not there.
func (b *bench) sabotage(locked, ahead, missing catalog.Tenant) []trouble {
	b.Helper()
	tx, err := b.super(locked.Database).Begin(b.Context())
	b.ok(err)
	_, err = tx.Exec(b.Context(), "lock table app.notes in access share mode")
	b.ok(err)
	future := b.super(ahead.Database)
	_, err = future.Exec(b.Context(), "insert into product.schema_version (version_id, is_applied) values (9, true)")
	b.ok(err)
	super := b.super("postgres")
	_, err = super.Exec(b.Context(), "alter database "+missing.Database+" rename to "+missing.Database+"_away")
	b.ok(err)
	return []trouble{
		{locked.Slug, catalog.FailLocked, "(SQLSTATE 55P03)", func() { b.ok(tx.Rollback(b.Context())) }},
		{ahead.Slug, catalog.FailAhead, "", func() {
			_, err := future.Exec(b.Context(), "delete from product.schema_version where version_id = 9")
			b.ok(err)
		}},
		{missing.Slug, catalog.FailMissing, "", func() {
			_, err := super.Exec(b.Context(), "alter database "+missing.Database+"_away rename to "+missing.Database)
			b.ok(err)
		}},
	}
}

// named checks that exactly these failed, each with its reason, and all others are
// done.
func (b *bench) named(id string, tenants int, troubles []trouble) {
	b.Helper()
	s := b.status(id)
	if s.Failed != len(troubles) || s.Done != s.Total-len(troubles) || s.Total != tenants {
		b.Errorf("%d of %d are done, %d failed, want %d", s.Done, s.Total, s.Failed, len(troubles))
	}
	rows := b.targets(id)
	for _, t := range troubles {
		row := rows[t.slug]
		file, tries := "", 1
		if t.kind == catalog.FailSQL || t.kind == catalog.FailLocked {
			file = "00002_step.sql"
		}
		if t.kind == catalog.FailLocked || t.kind == catalog.FailAway {
			tries = 2
		}
		if row.State != catalog.TargetFailed || row.Kind != t.kind || row.File != file || row.Error == "" ||
			!strings.Contains(row.Error, t.text) || row.Attempts != tries {
			b.Errorf("%s: %+v", t.slug, row)
		}
		if !slices.ContainsFunc(s.Failures, func(g catalog.FailureGroup) bool {
			return g.Kind == t.kind && g.File == file && g.Error == row.Error && slices.Contains(g.Tenants, t.slug)
		}) {
			b.Errorf("%s is in no group of %+v", t.slug, s.Failures)
		}
	}
}
