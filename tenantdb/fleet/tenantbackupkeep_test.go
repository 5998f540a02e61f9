package fleet_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/fleet"
)

// Backups are begun when they are due, kept for as long as their plan says, and
// record and store agree after each.
func TestBackup_keeps(t *testing.T) {
	t.Parallel()
	b, store := stored(t)
	acme := b.create("acme")
	b.ok(b.fleet.Suspend(t.Context(), acme.ID))
	conn := b.catalogDB()
	ctx := t.Context()
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(ctx, sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	b.ok(b.fleet.KeepBackups(ctx))
	waiting := func() []catalog.Operation {
		t.Helper()
		list, err := b.cat.Operations(ctx, catalog.OperationFilter{State: catalog.OperationWaiting})
		b.ok(err)
		return list
	}
	if list := waiting(); len(list) > 0 {
		t.Fatalf("a tenant of a moment ago is backed up: %+v", list)
	}
	exec(`update tenants set created_at = now() - interval '22 hours'`)
	for range 2 {
		b.ok(b.fleet.KeepBackups(ctx))
	}
	list := waiting()
	if len(list) != 1 || list[0].Kind != catalog.KindBackup || list[0].Actor != "system" || list[0].TenantID != acme.ID {
		t.Fatalf("begun: %+v", list)
	}
	b.ok(b.fleet.Do(ctx, list[0].ID))
	first, err := b.cat.TenantBackup(ctx, acme.ID, catalog.BackupLatest)
	b.ok(err)
	if first.ID != list[0].ID || !first.Scheduled || first.ProvedAt != nil {
		t.Errorf("scheduled: %+v", first)
	}
	b.ok(b.fleet.KeepBackups(ctx))
	if list := waiting(); len(list) > 0 {
		t.Errorf("another one begins at once: %+v", list)
	}
	b.ok(b.fleet.ProveBackups(ctx))
	if first, err = b.cat.TenantBackup(ctx, acme.ID, first.ID); err != nil || first.ProvedAt == nil {
		t.Errorf("not proved: %+v, %v", first, err)
	}
	b.ok(b.fleet.ProveBackups(ctx)) // none is owed

	// One that the catalog has forgotten is recalled; what was cancelled, and what an
	// operation left beside its backup, is removed; what is gone from the store is
	// forgotten; what is nobody's stays.
	objects := store.Tenant(acme.ID)
	b.ok(b.cat.RemoveTenantBackup(ctx, first.ID))
	second := b.backup(acme.ID, fleet.BackupOptions{})
	recalled, err := b.cat.TenantBackup(ctx, acme.ID, first.ID)
	b.ok(err)
	first.ProvedAt, first.CreatedAt, recalled.CreatedAt = nil, time.Time{}, time.Time{}
	if recalled != first {
		t.Errorf("recalled %+v\nwas      %+v", recalled, first)
	}
	left := "backups/20260101T000000Z-" + second.ID + ".fhb"
	b.ok(objects.Put(ctx, left, strings.NewReader("left")))
	cancelled, err := b.fleet.BeginBackup(ctx, acme.ID, fleet.BackupOptions{})
	b.ok(err)
	_, err = b.fleet.CancelOperation(ctx, cancelled.ID, "test")
	b.ok(err)
	b.ok(objects.Put(ctx, "backups/20260101T000000Z-"+cancelled.ID+".fhb", strings.NewReader("late")))
	b.ok(objects.Delete(ctx, strings.TrimPrefix(first.Key, "tenants/"+acme.ID.String()+"/")))
	third := b.backup(acme.ID, fleet.BackupOptions{})
	b.holdsOnly(store, acme.ID, second, third)

	// Older than a month, all but the newest go; and old operations with them.
	exec(`update tenant_backups set made_at = made_at - interval '40 days'`)
	exec(`update operations set ended_at = now() - interval '31 days' where id = $1`, first.ID)
	b.ok(b.fleet.ExpireBackups(ctx))
	b.holdsOnly(store, acme.ID, third)
	if n := one[int](b, conn, `select count(*)::int from operation_steps where operation = $1`, first.ID); n != 0 {
		t.Errorf("%d steps of an old operation are left", n)
	}

	// A deletion takes all of them, and the record.
	b.ok(destroy(ctx, b.fleet, acme.ID))
	b.holdsOnly(store, acme.ID)
	b.nothingLeft(store)
}

// Killed with -9 at every point of a backup, the next worker goes on: in the end there
// is one backup for each operation, on record and whole, and nothing else.
func TestBackup_survivesKill(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store, cfg := b.bucket()
	b.fleet = b.newFleet(fleet.Config{Blob: store, Heartbeat: beat})
	acme := b.create("acme")
	points := []string{"backup/dump:stored", "proof/restore"}
	if pgtest.Long() {
		points = fleet.BackupPoints()
	}
	b.work(b.fleet)
	var made []catalog.TenantBackup
	for _, point := range points {
		o := b.orders(cfg)
		o.Backup, o.DieAt = "acme", point
		b.dies(o)
		b.settled(60 * time.Second)
		newest, err := b.cat.TenantBackup(t.Context(), acme.ID, catalog.BackupLatest)
		b.ok(err)
		if slices.ContainsFunc(made, func(k catalog.TenantBackup) bool { return k.ID == newest.ID }) || newest.ProvedAt == nil {
			t.Errorf("%s: no new backup, or not proved: %+v", point, newest)
		}
		made = append(made, newest)
	}
	b.holdsOnly(store, acme.ID, made...)
	// The database that a proof was killed over is dropped when it is surely nobody's.
	if left := one[int](b, b.super("postgres"), `select count(*)::int from pg_database where datname like 'freehold_scratch_%' and shobj_description(oid, 'pg_database') = 'freehold ' || $1`,
		must(b.cat.CatalogID(t.Context()))); left > 2 {
		t.Errorf("%d databases are left", left)
	}
	b.nothingLeft(store)
}

func TestTenantBackupKey(t *testing.T) {
	t.Parallel()
	const id = "01a209aa-faca-7336-9135-0aa11688eda7"
	key := fleet.TenantBackupKey(time.Date(2026, 11, 23, 18, 28, 55, 7, time.UTC), id)
	if key != "backups/20261123T182855Z-"+id+".fhb" {
		t.Errorf("key %s", key)
	}
	if got, ok := fleet.ParseTenantBackupKey(key); !ok || got != id {
		t.Errorf("made by %q, %v", got, ok)
	}
	for _, other := range []string{
		"", "backups/", "backups/x", strings.TrimPrefix(key, "backups/"), strings.TrimSuffix(key, ".fhb"),
		"backups/20261123T182855Z-.fhb", "backups/20261323T182855Z-" + id + ".fhb", "backups/20261123T182855-" + id + ".fhb",
	} {
		if got, ok := fleet.ParseTenantBackupKey(other); ok {
			t.Errorf("%q is taken for one made by %q", other, got)
		}
	}
}
