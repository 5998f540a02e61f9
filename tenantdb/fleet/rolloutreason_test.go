package fleet_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/fleet"
)

// What is said of a failure is its own, and quotes no rows; and one database that takes
// no connection holds nobody up, however often others of its server are reached.
func TestRollout_reasons(t *testing.T) {
	t.Parallel()
	b := setup(t)
	list := b.several(5)
	slow, full, twice, beyond := list[0], list[1], list[2], list[3]
	for database, sql := range map[string]string{
		slow.Database:  "create table public.slow ()",
		twice.Database: "create table public.twice (word text); insert into public.twice values ('row-of-acme'), ('row-of-acme'); alter table public.twice owner to freehold_owner",
		"postgres":     "alter database " + full.Database + " connection limit 0",
	} {
		_, err := b.super(database).Exec(t.Context(), sql)
		b.ok(err)
	}
	set := product(b, "create schema app;", `
-- +goose StatementBegin
do $$ begin
	if to_regclass('public.slow') is not null then perform pg_sleep(5); end if;
	if to_regclass('public.twice') is not null then create unique index on public.twice (word); end if;
end $$;
-- +goose StatementEnd
`)
	f := b.newFleet(fleet.Config{Heartbeat: beat})
	spec := fleet.RolloutSpec{
		Stream: catalog.StreamProduct, Set: set, Waves: []float64{100}, Actor: "ops",
		Options: catalog.RolloutOptions{Parallel: 2, Budget: "100%", Retries: 2, StatementTimeout: 150 * time.Millisecond},
	}
	r, err := f.StartRollout(t.Context(), spec)
	b.ok(err)
	if now, err := b.runs(f, r.ID)(); !errors.Is(err, fleet.ErrPartial) || now.State != catalog.RolloutPartial {
		t.Errorf("%s %q: %v", now.State, now.Reason, err)
	}
	rows := b.targets(r.ID)
	for _, want := range []struct {
		slug, kind, text string
		tries            int
	}{
		{slow.Slug, catalog.FailTime, "00002_step.sql: a statement took longer than 150ms", 1},
		{full.Slug, catalog.FailAway, "unavailable", 3},
		{twice.Slug, catalog.FailSQL, "SQLSTATE 23505", 1},
	} {
		row := rows[want.slug]
		if row.State != catalog.TargetFailed || row.Kind != want.kind || !strings.Contains(row.Error, want.text) ||
			row.Attempts != want.tries || strings.Contains(row.Error, "acme") {
			t.Errorf("%s: %+v", want.slug, row)
		}
	}
	if s := b.status(r.ID); s.Failed != 3 || s.Done != 2 {
		t.Errorf("%d failed, %d done", s.Failed, s.Done)
	}
	_, err = b.cat.AbortRollout(t.Context(), r.ID, "ops", "")
	b.ok(err)

	// The catalog forgot that a database is beyond the target: it learns it again.
	_, err = b.catalogDB().Exec(t.Context(), "update tenants set product_version = case slug when $1 then 0 else 2 end", beyond.Slug)
	b.ok(err)
	spec.Target = 1
	r, err = f.StartRollout(t.Context(), spec)
	b.ok(err)
	if now, err := b.runs(f, r.ID)(); err != nil || now.State != catalog.RolloutDone {
		t.Errorf("%s %q: %v", now.State, now.Reason, err)
	}
	if row := b.targets(r.ID)[beyond.Slug]; row.State != catalog.TargetDone || row.Version != 2 {
		t.Errorf("beyond the target: %+v", row)
	}
	b.productAt(beyond.Slug, 2)
}

// Who upgrades ends what an older release began, and then goes on to its own schema.
func TestUpgrade_behind_another(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.several(1)[0]
	set := with("create table freehold.notes (n integer); -- this test's own")
	older := b.newFleet(fleet.Config{Tenant: set, Heartbeat: beat})
	r, err := older.StartRollout(t.Context(), fleet.RolloutSpec{Stream: catalog.StreamFreehold, Actor: "ops"})
	b.ok(err)
	newer := b.newFleet(fleet.Config{Heartbeat: beat, Tenant: set.With(fstest.MapFS{
		fmt.Sprintf("%05d_more.sql", latest+2): {Data: []byte("-- +goose Up\nselect 1;\n")},
	})})
	b.ok(newer.Upgrade(t.Context(), "ops"))
	now, err := b.cat.Tenant(t.Context(), acme.ID)
	b.ok(err)
	if state := b.status(r.ID).State; state != catalog.RolloutDone || now.SchemaVersion != latest+2 {
		t.Errorf("the rollout is %s, the tenant at %d", state, now.SchemaVersion)
	}
}
