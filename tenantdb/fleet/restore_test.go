package fleet_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/tenantdb"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/fleet"
)

// restoreLatest restores a tenant from its newest backup, in place or as a new one.
func restoreLatest(ctx context.Context, f *fleet.Fleet, id catalog.TenantID, as string) (err error) {
	o := fleet.TenantRestore{Backup: catalog.BackupLatest, Actor: "ops"}
	if as == "" {
		_, err = f.Restore(ctx, id, o)
	} else {
		_, _, err = f.RestoreAs(ctx, id, catalog.TenantSpec{Slug: as}, o)
	}
	return err
}

// patient is a ward with a backup, and with what happened before and after.
type patient struct {
	*ward
	kept, erased, later, atWork tenantdb.Settlement
	file, gone, newer           uuid.UUID
	before                      tenantdb.Usage
}

// addFile is an upload that has ended.
func (w *ward) addFile(text string) uuid.UUID {
	w.Helper()
	id := uuid.Must(uuid.NewV7())
	w.ok(w.store.Tenant(w.ID).Put(w.Context(), tenantdb.FileKey(id), strings.NewReader(text)))
	w.exec(`insert into freehold.files (id, state, purpose, name, bytes, sha256, api_key) values ($1, 'processed', 'user_data', 'a', $2, $3, '')`,
		id, len(text), bytes.Repeat([]byte("h"), 32))
	return id
}

// again connects anew to the tenant's database, as it is now.
func (w *ward) again() {
	w.Helper()
	var err error
	w.Tenant, err = w.cat.Tenant(w.Context(), w.ID)
	w.ok(err)
	w.in = w.super(w.Database)
	if w.State == catalog.Active {
		w.node, err = w.as(w.Tenant, w.Database)
		w.ok(err)
	}
}

func (w *ward) usage() tenantdb.Usage {
	w.Helper()
	now := time.Now().UTC()
	u, err := tenantdb.On(w.in, 1<<60).Usage(w.Context(), time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC))
	w.ok(err)
	return u
}

// backUp makes a backup of the tenant, and returns its id.
func (w *ward) backUp() string {
	w.Helper()
	op, err := w.fleet.Backup(w.Context(), w.ID, fleet.BackupOptions{Actor: "ops"})
	w.ok(err)
	return op.ID
}

// settleTrue settles a request with the hash of its payload.
func (w *ward) settleTrue(s tenantdb.Settlement) bool {
	w.Helper()
	sum := sha256.Sum256([]byte("salt\"hi\"\x00" + string(s.Output)))
	s.PayloadHash = sum[:]
	return w.settle(s)
}

func (b *bench) patient(store *blob.Store) *patient {
	b.Helper()
	w := b.ward(store)
	p := &patient{ward: w}
	w.exec(`set role freehold_owner; create schema shop; create table shop.orders (id bigint generated always as identity primary key, what text not null);
		insert into shop.orders (what) select 'order ' || n from generate_series(1, 50) n; reset role`)
	p.kept, p.erased = w.admitted(), w.admitted()
	p.settleTrue(p.kept)
	p.settleTrue(p.erased)
	p.atWork = w.admitted()
	p.file, p.gone = w.addFile("one"), w.addFile("two")
	w.visit()
	w.backUp()

	p.later = w.admitted()
	p.settleTrue(p.later)
	w.ok(tenantdb.On(w.node, w.Epoch).ErasePrediction(w.Context(), tenantdb.Eraser{Actor: "key:key_1", RequestID: "req_2"}, p.erased.ID))
	w.exec("delete from freehold.predictions where id = $1", p.kept.ID)
	w.exec("update shop.orders set what = 'ruined'")
	w.exec("delete from freehold.files where id = any($1)", []uuid.UUID{p.file, p.gone})
	w.ok(w.store.Tenant(w.ID).Delete(w.Context(), tenantdb.FileKey(p.gone)))
	p.newer = w.addFile("three")
	w.visit()
	p.before = w.usage()
	p.leave()
	return p
}

// leave ends the superuser's session in the tenant's database, which no admin may end.
func (w *ward) leave() {
	w.Helper()
	w.ok(w.in.Close(w.Context()))
}

// back looks that what the backup had is there, and what happened since too.
func (p *patient) back() {
	p.Helper()
	p.again()
	for what, n := range map[string]int{
		"shop.orders where what like 'order %'":                                                                                                           50,
		"freehold.predictions where input is not null and id = '" + p.kept.ID.String() + "'":                                                              1,
		"freehold.predictions where id = '" + p.later.ID.String() + "' and state = 'succeeded'":                                                           1,
		"freehold.predictions where input is null and output is null and end_user = '' and erased_at is not null and id = '" + p.erased.ID.String() + "'": 1,
		"freehold.predictions where state = 'in_progress'":                                                                                                1,
		"freehold.files where id = '" + p.file.String() + "'":                                                                                             1,
		"freehold.files where id = '" + p.newer.String() + "'":                                                                                            1,
		"freehold.files":        2,
		"freehold.reservations": 1,
		"pg_inherits where inhparent = 'freehold.predictions'::regclass": 6,
	} {
		if got := p.count(what); got != n {
			p.Errorf("%s: %d, want %d", what, got, n)
		}
	}
	after := p.usage()
	if after.Used != p.before.Used || after.Reserved != p.before.Reserved || len(after.Lines) != 1 || after.Lines[0] != p.before.Lines[0] {
		p.Errorf("used %+v, before %+v", after, p.before)
	}
}

func (p *patient) audited(restores int) fleet.AuditReport {
	p.Helper()
	report, err := p.fleet.VerifyAudit(p.Context(), p.ID, fleet.AuditLook{Payloads: true})
	p.ok(err)
	if !report.OK || len(report.Restores) != restores {
		p.Fatalf("audit %+v", report)
	}
	return report
}

// A restore in place brings back what the backup has, and nothing that was used, owed,
// erased or done since is set back. Until it is confirmed it can be reverted.
func TestRestore(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.patient(b.store())
	epoch := p.Epoch
	op, err := p.fleet.Restore(t.Context(), p.ID, fleet.TenantRestore{Backup: catalog.BackupLatest, Actor: "ops"})
	b.ok(err)
	if op.State != catalog.OperationDone {
		t.Fatalf("%+v", op)
	}
	p.back()
	if err := b.admit(p.node, epoch); !errors.Is(err, tenantdb.ErrFenced) {
		t.Errorf("who knows the old truth: %v", err)
	}
	if !p.settleTrue(p.atWork) {
		t.Error("what was at work could not be settled")
	}
	backup, err := b.cat.TenantBackup(t.Context(), p.ID, catalog.BackupLatest)
	b.ok(err)
	if backup.ProvedAt == nil || backup.ProofError != "" {
		t.Errorf("the backup: %+v", backup)
	}
	r := p.audited(1).Restores[0]
	if r.By != "operator:ops" || r.Backup != backup.ID || !r.MadeAt.Equal(backup.MadeAt) || !strings.Contains(r.String(), "by operator:ops at ") {
		t.Errorf("told %+v", r)
	}
	p.visit()
	if p.note().Error != "" || p.audited(1).Unsealed != 0 {
		t.Errorf("visited: %+v", p.note())
	}
	b.nothingLeft(p.store)
	if _, err := p.fleet.Restore(t.Context(), p.ID, fleet.TenantRestore{Backup: catalog.BackupLatest}); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("restored again, unconfirmed: %v", err)
	}

	// And back again: what was settled since isn't lost.
	p.leave()
	_, err = p.fleet.RevertRestore(t.Context(), p.ID, "ops")
	b.ok(err)
	p.again()
	if p.count("shop.orders where what = 'ruined'") != 50 || p.ended(p.atWork.ID) != "succeeded" || p.count("freehold.reservations") > 0 {
		t.Error("it isn't as it was")
	}
	if r := p.audited(2).Restores[0]; !r.Reverted || r.By != "operator:ops" {
		t.Errorf("told %+v", r)
	}
	if err := p.fleet.ConfirmTenant(t.Context(), p.ID, "ops"); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("nothing waits to be confirmed: %v", err)
	}
	p.leave()
	b.ok(p.fleet.Suspend(t.Context(), p.ID))
	b.ok(restoreLatest(t.Context(), p.fleet, p.ID, ""))
	if p.again(); p.State != catalog.Suspended || p.count("shop.orders where what like 'order %'") != 50 {
		t.Errorf("suspended: %+v", p.Tenant)
	}
	if _, err := b.as(p.Tenant, p.Database); sqlstate(err) != "28000" {
		t.Errorf("its role can log in: %v", err)
	}
	b.ok(p.fleet.ConfirmTenant(t.Context(), p.ID, "ops"))
	if n := p.count("pg_database where datname like 'freehold_kept_" + strings.TrimPrefix(p.Database, "t_") + "%'"); n != 1 {
		t.Errorf("%d databases are kept, want the one that was reverted", n)
	}
	b.ok(p.fleet.Resume(t.Context(), p.ID))
	b.nothingLeft(p.store)
}

// What can't be restored is refused, and nothing changes.
func TestRestore_refuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.ward(b.store())
	ctx := t.Context()
	// More than is sealed in one piece, so that not all is known from the beginning.
	w.exec("create table noise as select gen_random_uuid()::text || gen_random_uuid() as a from generate_series(1, 8000); alter table noise owner to freehold_owner")
	whole := w.backUp()
	other, _, err := w.fleet.Create(ctx, catalog.TenantSpec{Slug: "globex"})
	b.ok(err)
	row, err := b.cat.TenantBackup(ctx, w.ID, whole)
	b.ok(err)
	key := strings.TrimPrefix(row.Key, "tenants/"+w.ID.String()+"/")
	object, _, err := w.store.Tenant(w.ID).Get(ctx, key)
	b.ok(err)
	text, err := io.ReadAll(object)
	b.ok(err)
	b.ok(object.Close())
	put := func(of catalog.TenantID, text []byte) { b.ok(w.store.Tenant(of).Put(ctx, key, bytes.NewReader(text))) }
	is := func(id catalog.TenantID) (s [3]any) {
		now, err := b.cat.Tenant(ctx, id)
		b.ok(err)
		return [3]any{now.State, now.Epoch, one[int](b, w.in, "select count(*)::int from pg_database where datname like '%'||$1||'%'", strings.TrimPrefix(now.Database, "t_"))}
	}
	refused := func(name string, id catalog.TenantID, which string, want error) {
		t.Helper()
		before := is(id)
		if _, err := w.fleet.Restore(ctx, id, fleet.TenantRestore{Backup: which, Actor: "ops"}); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
		if after := is(id); after != before {
			t.Errorf("%s: it was %v and is %v", name, before, after)
		}
	}
	w.ruled()
	refused("no such backup", w.ID, uuid.NewString(), catalog.ErrNotFound)
	refused("no such moment", w.ID, "2020-01-01T00:00:00Z", catalog.ErrNotFound)
	refused("nonsense", w.ID, "yesterday", catalog.ErrInvalid)
	refused("another tenant's", other.ID, whole, catalog.ErrNotFound)
	stolen := row
	stolen.ID, stolen.TenantID, stolen.Key = uuid.Must(uuid.NewV7()).String(), other.ID, "tenants/"+other.ID.String()+"/"+key
	put(other.ID, text)
	b.ok(b.cat.RecallTenantBackup(ctx, stolen))
	refused("another tenant's, put under this one's name", other.ID, stolen.ID, catalog.ErrSealBroken)
	for name, at := range map[string]int{"flipped at its beginning": 10, "in its middle": len(text) / 2, "at its end": len(text) - 5} {
		bad := bytes.Clone(text)
		bad[at] ^= 1
		put(w.ID, bad)
		refused(name, w.ID, whole, catalog.ErrSealBroken)
	}
	put(w.ID, text[:len(text)-100])
	refused("cut short", w.ID, whole, catalog.ErrSealBroken)
	if row, err = b.cat.TenantBackup(ctx, w.ID, whole); err != nil || row.ProofError == "" {
		t.Errorf("nobody is told: %+v %v", row, err)
	}
	put(w.ID, text)
	full := int64(1)
	_, err = b.cat.SetServer(ctx, "pg-1", catalog.ServerPatch{DiskBytes: &full})
	b.ok(err)
	refused("no room", w.ID, whole, catalog.ErrConflict)
}

// ruled looks that every table of Freehold's has its rule: one that a newer schema adds
// isn't forgotten.
func (w *ward) ruled() {
	w.Helper()
	rows, _ := w.in.Query(w.Context(), `
		select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
		 where n.nspname = 'freehold' and c.relkind in ('r', 'p') and not c.relispartition order by 1`)
	have, err := pgx.CollectRows(rows, pgx.RowTo[string])
	w.ok(err)
	ruled := fleet.CarriedTables()
	slices.Sort(ruled)
	if !slices.Equal(have, ruled) {
		w.Errorf("the schema has %v, and a restore has rules for %v", have, ruled)
	}
}

// A backup that is newer than the fleet is refused.
func TestRestore_refusesNewerSchema(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store := b.store()
	newer := b.newFleet(fleet.Config{Blob: store, Tenant: with("create table freehold.extra (id integer);")})
	acme, _, err := newer.Create(t.Context(), catalog.TenantSpec{Slug: "acme"})
	b.ok(err)
	_, err = newer.Backup(t.Context(), acme.ID, fleet.BackupOptions{Actor: "ops"})
	b.ok(err)
	o := fleet.TenantRestore{Backup: catalog.BackupLatest, Actor: "ops"}
	f := b.newFleet(fleet.Config{Blob: store})
	if _, err := f.Restore(t.Context(), acme.ID, o); !errors.Is(err, migrations.ErrAhead) || !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("in place: %v", err)
	}
	if _, _, err := f.RestoreAs(t.Context(), acme.ID, catalog.TenantSpec{Slug: "globex"}, o); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("as a new one: %v", err)
	}
	if _, err := b.cat.TenantBySlug(t.Context(), "globex"); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("something was begun: %v", err)
	}
}
