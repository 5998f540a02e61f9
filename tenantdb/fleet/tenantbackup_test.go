package fleet_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/fleet"
)

// kept is a tenant with rows of every kind and some objects, and its store.
func kept(t *testing.T) (*bench, *blob.Store, catalog.Tenant) {
	t.Helper()
	b, store := stored(t)
	acme := b.create("acme")
	conn := b.super(acme.Database)
	if _, err := conn.Exec(t.Context(), `
set role freehold_owner;
create schema app;
create table app."odd ""names" (id bigint generated always as identity primary key, at timestamptz default now(), f float8, n numeric, j jsonb, b bytea, t text[]);
insert into app."odd ""names" (f, n, j, b, t)
select i / 3.0, i * 1.10, jsonb_build_object('i', i), sha256(i::text::bytea), array[i::text, null, 'é"'] from generate_series(1, 5000) i;
create table app.empty (id int);
create table app.parts (id int, day date) partition by range (day);
create table app.parts_1 partition of app.parts for values from ('2026-01-01') to ('2027-01-01');
insert into app.parts values (1, '2026-05-05'), (1, '2026-05-05');
create materialized view app.sums as select count(*) from app.parts`); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"files/a", "models/b/c", "spool/d", "exports/e"} {
		b.ok(store.Tenant(acme.ID).Put(t.Context(), key, strings.NewReader(key)))
	}
	return b, store, acme
}

// backup backs a tenant up, and returns the record.
func (b *bench) backup(id catalog.TenantID, o fleet.BackupOptions) catalog.TenantBackup {
	b.Helper()
	o.Actor = "test"
	op, err := b.fleet.Backup(b.Context(), id, o)
	b.ok(err)
	if op.State != catalog.OperationDone || op.Kind != catalog.KindBackup {
		b.Fatalf("the operation is %+v", op)
	}
	made, err := b.cat.TenantBackup(b.Context(), id, op.ID)
	b.ok(err)
	return made
}

// What a backup holds is what there was, while the tenant goes on writing; restored on
// trial it is the same. Whatever is changed in it is found, and it is nobody else's.
func TestBackup_roundTrip(t *testing.T) {
	t.Parallel()
	b, store, acme := kept(t)
	ctx := t.Context()
	writing, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	conn := b.super(acme.Database)
	go func() {
		for writing.Err() == nil {
			if _, err := conn.Exec(ctx, `insert into app.parts values (2, '2026-06-06')`); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	before := time.Now()
	made := b.backup(acme.ID, fleet.BackupOptions{Prove: true})
	stop()
	b.ok(<-done)
	if made.ProvedAt == nil || made.ProofError != "" || made.Scheduled || made.Objects != 2 || made.SchemaVersion != latest ||
		made.ServerVersion < 150000 || made.MadeAt.Before(before.Add(-time.Minute)) || made.MadeAt.After(time.Now().Add(time.Minute)) {
		t.Errorf("made %+v", made)
	}
	got, err := b.fleet.ReadBackup(ctx, acme.ID, made.Key)
	b.ok(err)
	h := got.Header
	if h.Tenant != acme.ID.String() || h.Slug != "acme" || h.Schema != latest || h.Operation != made.ID || h.Plan != acme.Plan ||
		!h.MadeAt.Equal(made.MadeAt) || h.Bytes == 0 || h.ServerVersion != made.ServerVersion {
		t.Errorf("header %+v", h)
	}
	if len(got.Objects) != 2 || got.Objects[0].Key != "files/a" || got.Objects[0].Size != 7 || got.Objects[1].Key != "models/b/c" || got.Objects[1].ETag == "" {
		t.Errorf("objects %+v", got.Objects)
	}
	if !bytes.HasPrefix(got.Dump, []byte("PGDMP")) {
		t.Errorf("the dump begins with %q", got.Dump[:min(10, len(got.Dump))])
	}
	rows := map[string]int64{}
	for _, table := range got.Tables {
		rows[table.Table] = table.Rows
	}
	if rows[`"app"."odd ""names"`] != 5000 || rows[`"app"."parts_1"`] < 2 || rows[`"freehold"."tenant_identity"`] != 1 {
		t.Errorf("tables %v", rows)
	}
	if n, there := rows[`"app"."empty"`]; !there || n != 0 {
		t.Errorf("an empty table has %d rows, %v", n, there)
	}
	object, size, err := store.Tenant(acme.ID).Get(ctx, strings.TrimPrefix(made.Key, "tenants/"+acme.ID.String()+"/"))
	b.ok(err)
	text, err := io.ReadAll(object)
	b.ok(errors.Join(err, object.Close()))
	if int64(len(text)) != made.Bytes || size.Size != made.Bytes {
		t.Errorf("%d bytes of %d", len(text), made.Bytes)
	}
	v := &vandal{bench: b, store: store, acme: acme, made: made, text: text}
	v.flip()
	v.reseal()
	v.elsewhere()
	v.b("as it was", text, nil)
	b.nothingLeft(store)
}

// vandal puts other bytes where a backup was, and looks what becomes of it.
type vandal struct {
	*bench
	store *blob.Store
	acme  catalog.Tenant
	made  catalog.TenantBackup
	text  []byte
}

func (v *vandal) b(what string, text []byte, want error) {
	v.Helper()
	name := strings.TrimPrefix(v.made.Key, "tenants/"+v.acme.ID.String()+"/")
	v.ok(v.store.Tenant(v.acme.ID).Put(v.Context(), name, bytes.NewReader(text)))
	if err := v.fleet.CheckBackup(v.Context(), v.acme.ID, v.made.Key); !errors.Is(err, want) {
		v.Errorf("%s: %v, want %v", what, err, want)
	}
}

// flip changes a byte here and there, and cuts here and there.
func (v *vandal) flip() {
	places := []int{9, 200, len(v.text) / 2, len(v.text) - 1}
	if pgtest.Long() {
		places = append(places, 0, 30, len(v.text)/4, len(v.text)-17)
	}
	for _, at := range places {
		text := slices.Clone(v.text)
		text[at] ^= 1
		v.b("a flipped byte", text, catalog.ErrSealBroken)
		v.b("cut short", v.text[:at], catalog.ErrSealBroken)
	}
	v.b("longer", append(slices.Clone(v.text), 0), catalog.ErrSealBroken)
}

// frame is one of a backup's.
type frame struct {
	kind byte
	body []byte
}

// frames opens the seal and takes the backup apart.
func (v *vandal) frames() (list []frame) {
	v.Helper()
	plain, err := v.cat.OpenStream(bytes.NewReader(v.text), "object:"+v.made.Key)
	v.ok(err)
	text, err := io.ReadAll(plain)
	v.ok(err)
	for len(text) > 0 {
		n := binary.BigEndian.Uint32(text[1:])
		list = append(list, frame{text[0], text[5 : 5+n]})
		text = text[5+n:]
	}
	return list
}

// sealed puts frames together and seals them.
func (v *vandal) sealed(seal func(io.Writer, string) (io.WriteCloser, error), key string, list []frame) []byte {
	v.Helper()
	var out bytes.Buffer
	w, err := seal(&out, "object:"+key)
	v.ok(err)
	for _, f := range list {
		head := binary.BigEndian.AppendUint32([]byte{f.kind}, uint32(len(f.body)))
		_, err := w.Write(append(head, f.body...))
		v.ok(err)
	}
	v.ok(w.Close())
	return out.Bytes()
}

// reseal changes what is inside of a seal that holds: nobody but us could, and it is
// found all the same.
func (v *vandal) reseal() {
	list := v.frames()
	var kinds []byte
	for _, f := range list {
		kinds = append(kinds, f.kind)
	}
	if !bytes.HasPrefix(kinds, []byte("HOD")) || !bytes.HasSuffix(kinds, []byte("DE")) {
		v.Fatalf("frames %q", kinds)
	}
	check := func(what string, list []frame, want error) {
		v.Helper()
		v.b(what, v.sealed(v.cat.SealStream, v.made.Key, list), want)
	}
	for i := range list {
		check("cut at a frame's end", list[:i], catalog.ErrSealBroken)
		if list[i].kind != 'D' || i == 2 {
			check("without a frame", slices.Delete(slices.Clone(list), i, i+1), catalog.ErrSealBroken)
		}
	}
	check("something behind the end", append(slices.Clone(list), list[len(list)-1]), catalog.ErrSealBroken)
	with := func(i int, old, new string) []frame {
		list := slices.Clone(list)
		body := strings.Replace(string(list[i].body), old, new, 1)
		if body == string(list[i].body) {
			v.Fatalf("nothing is %q", old)
		}
		list[i].body = []byte(body)
		return list
	}
	last := len(list) - 1
	check("a newer format", with(0, `"freehold_tenant":1`, `"freehold_tenant":2`), catalog.ErrConflict)
	check("another tenant in the header", with(0, v.acme.ID.String(), catalog.NewTenantID().String()), catalog.ErrSealBroken)
	check("another sum of the dump", with(last, `"dump_sha256":"`, `"dump_sha256":"0`), catalog.ErrSealBroken)
	check("another count of objects", with(last, `"objects":2`, `"objects":3`), catalog.ErrSealBroken)

	// Tables that hold something else are found by restoring.
	check("another row count", with(last, `"rows":5000`, `"rows":5001`), nil)
	err := v.fleet.ProveBackup(v.Context(), v.made)
	if !errors.Is(err, fleet.ErrBackupBroken) || !strings.Contains(err.Error(), `"app"."odd ""names"`) {
		v.Errorf("a proof says %v", err)
	}
	check("no dump", slices.Concat(list[:2], list[last:]), catalog.ErrSealBroken)
	if err := v.fleet.ProveBackup(v.Context(), v.made); !errors.Is(err, fleet.ErrBackupBroken) {
		v.Errorf("a proof of what was cut says %v", err)
	}
	now, err := v.cat.TenantBackup(v.Context(), v.acme.ID, v.made.ID)
	v.ok(err)
	if now.ProofError == "" || now.ProvedAt == nil || !now.ProvedAt.Equal(*v.made.ProvedAt) {
		v.Errorf("on record is %q, %v", now.ProofError, now.ProvedAt)
	}
}

// elsewhere has the backup be another tenant's, and another catalog's.
func (v *vandal) elsewhere() {
	other := v.create("globex")
	v.refused("by another tenant", v.fleet, other.ID, v.made.Key, catalog.ErrNotFound)
	name := strings.TrimPrefix(v.made.Key, "tenants/"+v.acme.ID.String()+"/")
	v.ok(v.store.Tenant(other.ID).Put(v.Context(), name, bytes.NewReader(v.text)))
	v.refused("copied to another tenant", v.fleet, other.ID, "tenants/"+other.ID.String()+"/"+name, catalog.ErrSealBroken)
	v.ok(v.store.Tenant(other.ID).Delete(v.Context(), name))
	v.refused("one that isn't there", v.fleet, other.ID, "tenants/"+other.ID.String()+"/"+name, catalog.ErrNotFound)
	v.refused("an object that is no backup", v.fleet, v.acme.ID, "tenants/"+v.acme.ID.String()+"/files/a", catalog.ErrNotFound)
	v.b("as it was", v.text, nil)
	v.refused("another catalog's", v.anew(v.store).fleet, v.acme.ID, v.made.Key, catalog.ErrSealBroken)
	keys, err := catalog.NewKeyset()
	v.ok(err)
	v.b("another keyset's", v.sealed(keys.SealStream, v.made.Key, v.frames()), catalog.ErrSealBroken)
}

func (v *vandal) refused(what string, f *fleet.Fleet, id catalog.TenantID, key string, want error) {
	v.Helper()
	if err := f.CheckBackup(v.Context(), id, key); !errors.Is(err, want) {
		v.Errorf("%s: %v, want %v", what, err, want)
	}
}

// A backup that can't be made is refused, waits, or fails, and leaves nothing.
func TestBackup_fails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store, away := b.unsteady()
	b.fleet = b.newFleet(fleet.Config{Blob: store, Heartbeat: beat})
	acme := b.create("acme")
	ctx := t.Context()
	if _, err := b.newFleet(fleet.Config{}).Backup(ctx, acme.ID, fleet.BackupOptions{}); !errors.Is(err, fleet.ErrStore) {
		t.Errorf("without a store: %v", err)
	}
	if _, err := b.fleet.Backup(ctx, catalog.NewTenantID(), fleet.BackupOptions{}); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("nobody's: %v", err)
	}
	// The store goes away when all was begun, and comes back.
	b.fleet.Crash(func(point string) {
		if point == "backup/dump:noted" {
			away.Store(true)
		}
	})
	op, err := b.fleet.Backup(ctx, acme.ID, fleet.BackupOptions{Actor: "test"})
	if !errors.Is(err, fleet.ErrStore) || op.State != catalog.OperationWaiting || op.Error == "" {
		t.Errorf("without its store: %v, %s", err, op.State)
	}
	away.Store(false)
	b.fleet.Crash(nil)
	if _, err := b.fleet.Backup(ctx, acme.ID, fleet.BackupOptions{}); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("while another one waits: %v", err)
	}
	b.ok(b.fleet.Do(ctx, op.ID))
	made, err := b.cat.TenantBackup(ctx, acme.ID, op.ID)
	b.ok(err)

	// Cancelled while it is at work, it stops at once and leaves nothing.
	slow := b.newFleet(fleet.Config{Blob: store, Heartbeat: beat})
	reached := make(chan struct{})
	slow.Crash(func(point string) {
		if point == "backup/dump:stored" {
			close(reached)
			time.Sleep(beat * 3 / 2) // the worker hears of it meanwhile
		}
	})
	ended := make(chan error, 1)
	go func() {
		_, err := slow.Backup(ctx, acme.ID, fleet.BackupOptions{Actor: "test"})
		ended <- err
	}()
	<-reached
	running, err := b.cat.Operations(ctx, catalog.OperationFilter{State: catalog.OperationRunning})
	b.ok(err)
	cancelled, err := b.fleet.CancelOperation(ctx, running[0].ID, "test")
	b.ok(err)
	if err := <-ended; !errors.Is(err, catalog.ErrCancelled) || cancelled.State != catalog.OperationCancelled {
		t.Errorf("cancelled: %v, %s", err, cancelled.State)
	}
	b.holdsOnly(store, acme.ID, made)

	_, err = b.cat.SetState(ctx, acme.ID, catalog.Moving, catalog.Active)
	b.ok(err)
	if _, err := b.fleet.BeginBackup(ctx, acme.ID, fleet.BackupOptions{}); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("while it moves: %v", err)
	}
	_, err = b.cat.SetState(ctx, acme.ID, catalog.Active, catalog.Moving)
	b.ok(err)
	b.nothingLeft(store)
}

// holdsOnly checks that these backups of a tenant are on record and in the store, that
// there are no others, and that each is whole.
func (b *bench) holdsOnly(store *blob.Store, id catalog.TenantID, want ...catalog.TenantBackup) {
	b.Helper()
	list, err := b.cat.TenantBackups(b.Context(), id)
	b.ok(err)
	var recorded, there, wanted []string
	for _, k := range list {
		recorded = append(recorded, k.Key)
	}
	b.ok(store.Tenant(id).List(b.Context(), "backups/", func(o blob.Object) error {
		there = append(there, "tenants/"+id.String()+"/"+o.Key)
		return nil
	}))
	for _, k := range want {
		wanted = append(wanted, k.Key)
		b.ok(b.fleet.CheckBackup(b.Context(), id, k.Key))
	}
	for _, keys := range [][]string{recorded, there, wanted} {
		slices.Sort(keys)
	}
	if !slices.Equal(recorded, wanted) || !slices.Equal(there, wanted) {
		b.Errorf("recorded %q\nstored   %q\nwanted   %q", recorded, there, wanted)
	}
}
