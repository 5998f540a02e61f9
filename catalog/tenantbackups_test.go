package catalog_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations"
)

// backups is a catalog with one tenant, acme, and a connection past the API that can
// set its clocks.
type backups struct {
	*bench
	acme catalog.Tenant
	conn *pgx.Conn
}

func setupBackups(t *testing.T) *backups {
	t.Helper()
	b := &backups{bench: setup(t)}
	b.acme = b.tenant("acme")
	b.conn = b.as(migrations.RoleCatalog)
	b.exec(b.conn, `update tenants set created_at = now() - interval '1 year', updated_at = now() - interval '1 year'`)
	return b
}

// begin begins a backup in this test's hands.
func (b *backups) begin(id catalog.TenantID) catalog.Operation {
	b.Helper()
	o, err := b.cat.BeginBackup(b.Context(), catalog.OperationSpec{Tenant: id, Actor: "system", Steps: []string{"dump"}},
		catalog.Taker{Worker: "test", Lease: time.Minute})
	b.ok(err)
	return o
}

// made is a backup that was made so long ago.
func (b *backups) made(id catalog.TenantID, ago time.Duration) catalog.TenantBackup {
	b.Helper()
	o := b.begin(id)
	k := catalog.TenantBackup{Key: "tenants/" + id.String() + "/backups/" + o.ID, MadeAt: time.Now().Add(-ago), Bytes: 10, ServerVersion: 150000}
	b.ok(b.cat.AddTenantBackup(b.Context(), o, k))
	b.ok(b.cat.AddTenantBackup(b.Context(), o, k)) // twice is once
	b.ok(b.cat.EndOperation(b.Context(), o, catalog.OperationDone, "", 0))
	k, err := b.cat.TenantBackup(b.Context(), id, o.ID)
	b.ok(err)
	return k
}

func TestTenantBackup(t *testing.T) {
	t.Parallel()
	b := setupBackups(t)
	globex := b.tenant("globex")
	old, young := b.made(b.acme.ID, 48*time.Hour), b.made(b.acme.ID, time.Hour)
	for which, want := range map[string]string{
		catalog.BackupLatest: young.ID,
		old.ID:               old.ID,
		time.Now().Add(-2 * time.Hour).Format(time.RFC3339): old.ID,
		time.Now().UTC().Format(time.RFC3339Nano):           young.ID,
	} {
		got, err := b.cat.TenantBackup(t.Context(), b.acme.ID, which)
		b.ok(err)
		if got.ID != want || got.Tenant != "acme" || got.TenantID != b.acme.ID {
			t.Errorf("%s is %+v", which, got)
		}
	}
	for which, want := range map[string]error{
		time.Now().Add(-72 * time.Hour).Format(time.RFC3339): catalog.ErrNotFound,
		uuid.NewString(): catalog.ErrNotFound, "newest": catalog.ErrInvalid, "": catalog.ErrInvalid,
	} {
		_, err := b.cat.TenantBackup(t.Context(), b.acme.ID, which)
		b.is(err, want)
	}
	for _, which := range []string{catalog.BackupLatest, young.ID} { // another tenant's
		_, err := b.cat.TenantBackup(t.Context(), globex.ID, which)
		b.is(err, catalog.ErrNotFound)
	}

	b.ok(b.cat.ProveTenantBackup(t.Context(), young.ID, ""))
	b.ok(b.cat.ProveTenantBackup(t.Context(), young.ID, "it doesn't\x00 hold"))
	got, err := b.cat.TenantBackup(t.Context(), b.acme.ID, catalog.BackupLatest)
	b.ok(err)
	if got.ProvedAt == nil || got.ProofError != "it doesn't hold" {
		t.Errorf("proved: %+v", got)
	}
	b.is(b.cat.ProveTenantBackup(t.Context(), uuid.NewString(), ""), catalog.ErrNotFound)

	b.ok(b.cat.RemoveTenantBackup(t.Context(), young.ID))
	b.ok(b.cat.RemoveTenantBackup(t.Context(), young.ID))
	b.ok(b.cat.RecallTenantBackup(t.Context(), young))
	b.ok(b.cat.RecallTenantBackup(t.Context(), old)) // known
	list, err := b.cat.TenantBackups(t.Context(), b.acme.ID)
	b.ok(err)
	if len(list) != 2 || list[0].ID != young.ID || list[1].ID != old.ID || !list[0].MadeAt.Equal(young.MadeAt) {
		t.Errorf("listed %+v", list)
	}
}

// Only who has the operation records a backup, and only a tenant that is there and
// not busy is backed up.
func TestBeginBackup(t *testing.T) {
	t.Parallel()
	b := setupBackups(t)
	ctx := t.Context()
	failed := b.begin(b.acme.ID)
	b.ok(b.cat.EndOperation(ctx, failed, catalog.OperationFailed, "no", 0))
	o := b.begin(b.acme.ID)
	if was, err := b.cat.Operation(ctx, failed.ID); err != nil || was.State != catalog.OperationCancelled {
		t.Errorf("the one that failed is %s: %v", was.State, err)
	}
	_, err := b.cat.BeginBackup(ctx, catalog.OperationSpec{Tenant: b.acme.ID}, catalog.Taker{})
	b.is(err, catalog.ErrConflict)
	stale := o
	stale.Token--
	b.is(b.cat.AddTenantBackup(ctx, stale, catalog.TenantBackup{Key: "k", MadeAt: time.Now()}), catalog.ErrLost)
	b.ok(b.cat.EndOperation(ctx, o, catalog.OperationCancelled, "", 0))
	b.is(b.cat.AddTenantBackup(ctx, o, catalog.TenantBackup{Key: "k", MadeAt: time.Now()}), catalog.ErrLost)

	waits, err := b.cat.BeginBackup(ctx, catalog.OperationSpec{Tenant: b.acme.ID, Steps: []string{"dump"}}, catalog.Taker{})
	b.ok(err)
	if waits.Kind != catalog.KindBackup || waits.State != catalog.OperationWaiting || len(waits.Steps) != 1 {
		t.Errorf("begun %+v", waits)
	}
	_, err = b.cat.CancelOperation(ctx, waits.ID)
	b.ok(err)
	_, err = b.cat.SetState(ctx, b.acme.ID, catalog.Moving, catalog.Active)
	b.ok(err)
	_, err = b.cat.BeginBackup(ctx, catalog.OperationSpec{Tenant: b.acme.ID}, catalog.Taker{})
	b.is(err, catalog.ErrConflict)
	_, err = b.cat.BeginBackup(ctx, catalog.OperationSpec{Tenant: catalog.NewTenantID()}, catalog.Taker{})
	b.is(err, catalog.ErrNotFound)

	// Ended long ago, it is no more listed as an operation.
	b.exec(b.conn, `update operations set ended_at = now() - interval '31 days' where id = $1`, failed.ID)
	b.ok(b.cat.PruneBackups(ctx))
	_, err = b.cat.Operation(ctx, failed.ID)
	b.is(err, catalog.ErrNotFound)
	if _, err := b.cat.Operation(ctx, o.ID); err != nil {
		t.Errorf("a young one: %v", err)
	}
}

func TestExpireTenantBackups(t *testing.T) {
	t.Parallel()
	b := setupBackups(t)
	const day = 24 * time.Hour
	ctx := t.Context()
	lone := b.tenant("lone")
	only := b.made(lone.ID, 400*day)
	ages := []time.Duration{400 * day, 300 * day, 200 * day, 31 * day, 29 * day, 60 * day}
	var all []catalog.TenantBackup
	for _, age := range ages {
		all = append(all, b.made(b.acme.ID, age))
	}
	// Somebody restores from one of them: by its id in place, by its key elsewhere.
	b.exec(b.conn, `insert into operations (id, kind, tenant, actor, state, args) values (gen_random_uuid(), 'restore', $1, 'op', 'failed', jsonb_build_object('backup', $2::text))`,
		b.acme.ID, all[1].ID)
	b.exec(b.conn, `insert into operations (id, kind, tenant, actor, state, args) values (gen_random_uuid(), 'onboard', $1, 'op', 'running', jsonb_build_object('from', jsonb_build_object('key', $2::text)))`,
		lone.ID, all[2].Key)
	expire := func(id catalog.TenantID) (keys []string) {
		t.Helper()
		list, err := b.cat.ExpireTenantBackups(ctx, id, 10)
		b.ok(err)
		for _, e := range list {
			keys = append(keys, e.Key)
		}
		slices.Sort(keys)
		return keys
	}
	if got := expire(lone.ID); len(got) > 0 {
		t.Errorf("of the only backup, %s, goes %q", only.Key, got)
	}
	want := []string{all[0].Key, all[3].Key, all[5].Key}
	slices.Sort(want)
	if got := expire(catalog.TenantID{}); !slices.Equal(got, want) {
		t.Errorf("went %q, want %q", got, want)
	}
	// The newest may be broken: the newest that nobody has found so stays too.
	b.exec(b.conn, `delete from operations where kind in ('restore', 'onboard') and args <> '{}' and args ? 'backup' or args ? 'from'`)
	b.exec(b.conn, `update tenant_backups set made_at = made_at - interval '90 days' where tenant = $1`, b.acme.ID)
	b.ok(b.cat.ProveTenantBackup(ctx, all[4].ID, "no"))
	if got := expire(b.acme.ID); !slices.Equal(got, []string{all[1].Key}) {
		t.Errorf("went %q, want %q", got, all[1].Key)
	}
	// What the plan keeps is the plan's.
	_, err := b.cat.SetBackupPlan(ctx, catalog.BackupPlan{Plan: "standard", Every: time.Hour, Keep: 365 * day})
	b.ok(err)
	newest := b.made(b.acme.ID, time.Hour)
	if got := expire(b.acme.ID); len(got) > 0 {
		t.Errorf("kept for a year, %q went", got)
	}
	b.ok(b.cat.RemoveBackupPlan(ctx, "standard"))
	if got := expire(b.acme.ID); len(got) != 2 || slices.Contains(got, newest.Key) {
		t.Errorf("went %q", got)
	}
}
