package catalog_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"freehold/catalog"
)

func exportKey(id string) string { return "exports/" + id }

// export begins one of a tenant's.
func (b *bench) export(t catalog.Tenant, actor string) catalog.Export {
	b.Helper()
	e, err := b.cat.BeginExport(b.Context(), catalog.ExportSpec{Tenant: t.ID, Actor: actor, Steps: []string{"write", "done"}}, exportKey)
	b.ok(err)
	return e
}

// taken takes an export's operation.
func (b *bench) taken(e catalog.Export) catalog.Operation {
	b.Helper()
	o, err := b.cat.TakeOperation(b.Context(), e.ID, catalog.Taker{Worker: "w", Lease: time.Minute})
	b.ok(err)
	return o
}

func (b *bench) exportIs(e catalog.Export, state, failure string) catalog.Export {
	b.Helper()
	now, err := b.cat.Export(b.Context(), e.TenantID, e.ID)
	b.ok(err)
	if now.State != state || now.Error != failure {
		b.Errorf("it is %s %q, want %s %q", now.State, now.Error, state, failure)
	}
	return now
}

// An export from its beginning until it is forgotten.
func TestExport(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.server("pg-1")
	acme, other := b.tenant("acme"), b.tenant("other")
	e := b.export(acme, "key:k1")
	if e.State != catalog.ExportWaiting || e.Key != "exports/"+e.ID || e.Actor != "key:k1" || e.Tenant != "acme" {
		t.Errorf("begun: %+v", e)
	}
	if _, err := b.cat.Export(t.Context(), other.ID, e.ID); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("another tenant's: %v", err)
	}
	var busy *catalog.Busy
	_, err := b.cat.BeginExport(t.Context(), catalog.ExportSpec{Tenant: acme.ID, Actor: "key:k1"}, exportKey)
	if !errors.As(err, &busy) || busy.Operation.ID != e.ID {
		t.Errorf("a second one: %v", err)
	}
	o, sum := b.taken(e), bytes.Repeat([]byte{7}, 32)
	if err := b.cat.EndExport(t.Context(), o, time.Hour); !errors.Is(err, catalog.ErrLost) {
		t.Errorf("ended before it was written: %v", err)
	}
	b.ok(b.cat.BeginExportWriting(t.Context(), o))
	b.ok(b.cat.NoteExport(t.Context(), o, catalog.ExportTotals{Rows: 5}))
	if now := b.exportIs(e, catalog.ExportRunning, ""); now.Rows != 5 {
		t.Errorf("at work: %+v", now)
	}
	b.ok(b.cat.ExportFailed(t.Context(), o, "The store was away."))
	b.ok(b.cat.EndOperation(t.Context(), o, catalog.OperationFailed, "internals", 0))
	b.exportIs(e, catalog.ExportFailed, "The store was away.")
	if err := b.cat.BeginExportWriting(t.Context(), o); !errors.Is(err, catalog.ErrLost) {
		t.Errorf("written by who lost it: %v", err)
	}
	o = b.taken(e) // once more
	b.ok(b.cat.BeginExportWriting(t.Context(), o))
	b.ok(b.cat.ExportWritten(t.Context(), o, sum, catalog.ExportTotals{Tables: 1, Rows: 2, Files: 3, Bytes: 4}))
	for range 2 {
		b.ok(b.cat.EndExport(t.Context(), o, time.Hour))
	}
	now := b.exportIs(e, catalog.ExportDone, "")
	if now.Rows != 2 || now.Bytes != 4 || now.SHA256[:2] != "07" || time.Until(*now.ExpiresAt) > time.Hour || now.ReadyAt == nil {
		t.Errorf("done: %+v", now)
	}
	b.ok(b.cat.EndOperation(t.Context(), o, catalog.OperationDone, "", 0))
	over, err := b.cat.ExportsOver(t.Context(), 10)
	if b.ok(err); len(over) > 0 {
		t.Errorf("over already: %+v", over)
	}
	admin := b.admin()
	b.exec(admin, `update exports set expires_at = now()`)
	b.exportIs(e, catalog.ExportExpired, "")
	for range 2 {
		if over, err = b.cat.ExportsOver(t.Context(), 10); err != nil || len(over) != 1 || over[0].ID != e.ID || over[0].Key == "" {
			t.Fatalf("over: %+v %v", over, err)
		}
	}
	b.ok(b.cat.ForgetExport(t.Context(), e.ID))
	if over, err = b.cat.ExportsOver(t.Context(), 10); err != nil || len(over) > 0 {
		t.Errorf("forgotten: %+v %v", over, err)
	}
	rows, err := b.cat.AuditRows(t.Context(), catalog.AuditFilter{Tenant: "acme", Action: "export.create"})
	if b.ok(err); len(rows) != 1 || rows[0].Actor != "key:k1" {
		t.Errorf("audit: %+v", rows)
	}
}

// One that nobody goes on with has failed, and what it left goes in the end; then
// nobody writes it any more.
func TestExportThatIsLeft(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.server("pg-1")
	acme := b.tenant("acme")
	e := b.export(acme, "operator:ann")
	_, err := b.cat.CancelOperation(t.Context(), e.ID)
	b.ok(err)
	b.exportIs(e, catalog.ExportFailed, "The export was cancelled.")
	failed := b.export(acme, "operator:ann")
	o := b.taken(failed)
	b.ok(b.cat.BeginExportWriting(t.Context(), o))
	b.ok(b.cat.EndOperation(t.Context(), o, catalog.OperationFailed, "internals", 0))
	b.exportIs(failed, catalog.ExportFailed, "The export could not be made.")
	admin := b.admin()
	b.exec(admin, `update operations set ended_at = now() - interval '25 hours'`)
	over, err := b.cat.ExportsOver(t.Context(), 10)
	if b.ok(err); len(over) != 2 {
		t.Errorf("over: %+v", over)
	}
	o = b.taken(failed)
	if err := b.cat.BeginExportWriting(t.Context(), o); !errors.Is(err, catalog.ErrLost) {
		t.Errorf("written after it was given up: %v", err)
	}
	rows, err := b.cat.AuditRows(t.Context(), catalog.AuditFilter{Tenant: "acme", Action: "export.create"})
	if b.ok(err); len(rows) != 2 || rows[0].Actor != "ann" {
		t.Errorf("audit: %+v", rows)
	}
}

// What may not be exported, and the same request again.
func TestExportRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.server("pg-1")
	acme := b.tenant("acme")
	spec := catalog.ExportSpec{Tenant: acme.ID, Actor: "key:k1", Steps: []string{"write"}, RequestKey: "key:k1/a", RequestHash: []byte{1}}
	first, err := b.cat.BeginExport(t.Context(), spec, exportKey)
	b.ok(err)
	again, err := b.cat.BeginExport(t.Context(), spec, exportKey)
	if b.ok(err); again.ID != first.ID {
		t.Errorf("the same request began %s, then %s", first.ID, again.ID)
	}
	spec.RequestHash = []byte{2}
	if _, err := b.cat.BeginExport(t.Context(), spec, exportKey); !errors.Is(err, catalog.ErrMismatch) {
		t.Errorf("another request: %v", err)
	}
	_, err = b.cat.CancelOperation(t.Context(), first.ID)
	b.ok(err)
	admin := b.admin()
	b.exec(admin, `insert into exports (id, tenant, actor, state, expires_at) select gen_random_uuid(), $1, 'x', 'done', now() + interval '1 hour' from generate_series(1, 10)`, acme.ID)
	spec.RequestKey = ""
	if _, err := b.cat.BeginExport(t.Context(), spec, exportKey); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("an eleventh: %v", err)
	}
	b.exec(admin, `update exports set expires_at = now()`)
	for _, state := range []string{"moving", "deleting", "provisioning"} {
		b.exec(admin, `update tenants set state = $2, before_move = case when $2 = 'moving' then 'active' else '' end where id = $1`, acme.ID, state)
		if _, err := b.cat.BeginExport(t.Context(), spec, exportKey); !errors.Is(err, catalog.ErrConflict) {
			t.Errorf("of one that is %s: %v", state, err)
		}
	}
	b.exec(admin, `update tenants set state = 'suspended', before_move = '' where id = $1`, acme.ID)
	b.export(acme, "operator:ann")
	spec.Tenant = catalog.NewTenantID()
	if _, err := b.cat.BeginExport(t.Context(), spec, exportKey); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("of nobody: %v", err)
	}
	list, err := b.cat.Exports(t.Context(), acme.ID, "", 5)
	if b.ok(err); len(list) != 5 {
		t.Errorf("a page of %d", len(list))
	}
	var in *catalog.Invalid
	if _, err := b.cat.Exports(t.Context(), acme.ID, "x", 5); !errors.As(err, &in) {
		t.Errorf("after nothing: %v", err)
	}
}
