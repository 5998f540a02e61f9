package catalog_test

import (
	"bytes"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/migrations"
)

// reloaded is another catalog, filled with a dump of this one.
func (b *bench) reloaded() *bench {
	b.Helper()
	text, _ := b.dump()
	to := b.empty()
	_, err := to.cat.Load(b.Context(), bytes.NewReader(text), "d")
	b.ok(err)
	return to
}

// A deletion that waited can be taken back after a restore as it could before it,
// also one that the restore has put before a person; and asked for again it has its
// grace.
func TestEndRestore_deletionsCanBeTakenBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.server("pg-1")
	ids := map[string]catalog.TenantID{}
	for _, slug := range []string{"waits", "doubtful", "again"} {
		ids[slug] = b.tenant(slug).ID
		_, _, err := b.cat.BeginDeletion(t.Context(), ids[slug], 2*time.Hour, "op", []string{"one"})
		b.ok(err)
	}
	to := b.reloaded()
	_, err := to.cat.EndRestore(t.Context(), "op", 0, []catalog.TenantID{ids["doubtful"], ids["again"]}, nil)
	b.ok(err)
	o, _, err := to.cat.BeginDeletion(t.Context(), ids["again"], time.Hour, "op", []string{"one"})
	b.ok(err)
	if o.State != catalog.OperationWaiting || time.Until(o.RunAt) < 50*time.Minute {
		t.Errorf("asked for again it is %s, due in %s", o.State, time.Until(o.RunAt))
	}
	for slug, id := range ids {
		if _, err := to.cat.Undelete(t.Context(), id); err != nil {
			t.Errorf("%s: %v", slug, err)
		}
	}
	if n := to.number(to.as(migrations.RoleCatalog), `select count(*) from operations where kind = 'delete' and state <> 'cancelled'`); n != 0 {
		t.Errorf("%d operations can still be done", n)
	}
}

// Before the end nobody knows which tenants were taken back meanwhile: no worker
// takes anything, however long that lasts. And whoever restores has an hour then.
func TestRestoring_nothingIsDone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.server("pg-1")
	_, _, err := b.cat.BeginDeletion(t.Context(), b.tenant("acme").ID, 0, "op", []string{"one"})
	b.ok(err)
	to := b.reloaded()
	to.exec(to.as(migrations.RoleCatalog), `update operations set run_at = now() - interval '1 day'`)
	by := catalog.Taker{Worker: "w", Lease: time.Minute}
	if o, took, err := to.cat.NextOperation(t.Context(), by, catalog.KindDelete); err != nil || took {
		t.Errorf("took %+v, %v", o, err)
	}
	_, err = to.cat.EndRestore(t.Context(), "op", 0, nil, nil)
	b.ok(err)
	list, err := to.cat.Operations(t.Context(), catalog.OperationFilter{Kind: catalog.KindDelete})
	if err != nil || len(list) != 1 || time.Until(list[0].RunAt) < 50*time.Minute {
		t.Errorf("after the end: %+v, %v", list, err)
	}
}

// A restored catalog's own dump can be restored: what EndRestore writes down too.
func TestEndRestore_isDumped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.server("pg-1")
	to := b.reloaded()
	_, err := to.cat.EndRestore(t.Context(), "op", 0, nil, nil)
	b.ok(err)
	again := to.reloaded()
	if rows := again.rows(again.as(migrations.RoleCatalog), "operator_audit"); len(rows) != 1 {
		t.Errorf("the audit has %q", rows)
	}
}
