package fleet_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"io"
	"strings"
	"testing"

	"freehold/catalog"
	"freehold/tenantdb"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/fleet"
)

// anchors is a tenant with an audit, and the objects that its heads are noted in.
type anchors struct {
	*bench
	t     catalog.Tenant
	store *blob.Store
	db    *tenantdb.DB
}

func setupAnchors(t *testing.T) *anchors {
	t.Helper()
	a := &anchors{bench: setup(t)}
	a.store = a.bench.store()
	a.fleet = a.newFleet(fleet.Config{Blob: a.store})
	a.t = a.create("acme")
	conn, err := a.as(a.t, a.t.Database)
	a.ok(err)
	a.db = tenantdb.On(conn, 1<<62)
	return a
}

// sealed adds a row, seals it and notes the head.
func (a *anchors) sealed() {
	a.Helper()
	a.ok(a.db.AddAuditEvent(a.Context(), "system", "act", "", nil))
	head, n, err := a.db.Seal(a.Context(), a.t.ID, a.cat.SignAudit)
	a.ok(err)
	if n != 1 {
		a.Fatalf("%d rows sealed", n)
	}
	a.ok(a.cat.SetAuditHeads(a.Context(), []catalog.AuditHead{head}))
}

func (a *anchors) verify(look fleet.AuditLook) fleet.AuditReport {
	a.Helper()
	r, err := a.fleet.VerifyAudit(a.Context(), a.t.ID, look)
	a.ok(err)
	return r
}

// objects are the anchors, by key.
func (a *anchors) objects() map[string]string {
	a.Helper()
	list := map[string]string{}
	platform := a.store.Platform()
	a.ok(platform.List(a.Context(), "audit-heads/", func(o blob.Object) error {
		in, _, err := platform.Get(a.Context(), o.Key)
		if err != nil {
			return err
		}
		defer in.Close()
		text, err := io.ReadAll(in)
		list[o.Key] = string(text)
		return err
	}))
	return list
}

func TestAnchorAudits(t *testing.T) {
	t.Parallel()
	a := setupAnchors(t)
	a.ok(a.fleet.AnchorAudits(t.Context()))
	if list := a.objects(); len(list) != 0 {
		t.Fatalf("anchored nothing: %v", list)
	}
	a.sealed()
	a.sealed()
	a.ok(a.fleet.AnchorAudits(t.Context()))
	first := a.objects()
	if len(first) != 1 {
		t.Fatalf("%v", first)
	}
	a.ok(a.fleet.AnchorAudits(t.Context()))
	for key, text := range a.objects() {
		if first[key] != text {
			t.Errorf("written again although nothing was sealed: %s", text)
		}
	}
	all := fleet.AuditLook{Payloads: true, Anchor: true}
	r := a.verify(all)
	if !r.OK || r.Rows != 2 || r.Noted != 2 || r.Anchored != 2 || !strings.HasPrefix(r.Anchor, "platform/audit-heads/2") || len(r.PublicKeys) != 1 {
		t.Fatalf("%+v", r)
	}

	// Cut off in the tenant's database and in the catalog: the store still knows, and
	// another anchor doesn't forget.
	super, rows := a.super(a.t.Database), a.catalogAdmin()
	for _, sql := range []string{`delete from freehold.audit_log where seal = 2`, `delete from freehold.audit_seals where n = 2`} {
		_, err := super.Exec(t.Context(), sql)
		a.ok(err)
	}
	if r := a.verify(fleet.AuditLook{}); r.OK || !strings.Contains(r.Why, "end was removed") {
		t.Errorf("cut off, and the catalog knew: %+v", r)
	}
	_, err := rows.Exec(t.Context(), `delete from audit_heads`)
	a.ok(err)
	a.ok(a.fleet.AnchorAudits(t.Context()))
	if r := a.verify(fleet.AuditLook{}); !r.OK {
		t.Errorf("nobody but the store knows: %+v", r)
	}
	if r := a.verify(all); r.OK || r.Anchored != 2 || !strings.Contains(r.Why, "end was removed") {
		t.Errorf("the store knows: %+v", r)
	}

	// What we haven't signed is nobody's word.
	platform := a.store.Platform()
	for key, text := range a.objects() {
		forged := strings.Replace(text, `\"n\":2`, `\"n\":9`, 1)
		if forged == text {
			t.Fatal(text)
		}
		a.ok(platform.Put(t.Context(), key[:len("audit-heads/2026-09-")]+"99T00.json", strings.NewReader(forged)))
	}
	if r := a.verify(all); r.Anchored != 2 {
		t.Errorf("forged: %+v", r)
	}

	// A restore says that it went back: then the chain goes on, and so do anchors.
	head, _, err := a.db.Seal(t.Context(), a.t.ID, a.cat.SignAudit)
	a.ok(err)
	a.ok(a.cat.RewindAuditHead(t.Context(), "ann", head))
	if r := a.verify(all); !r.OK {
		t.Errorf("restored: %+v", r)
	}
	a.ok(a.fleet.AnchorAudits(t.Context()))
	a.sealed()
	if r := a.verify(all); !r.OK || r.Noted != 2 || r.Anchored != 1 {
		t.Errorf("restored, and gone on: %+v", r)
	}
}

// Any state of a tenant can be verified and exported, also a suspended one's; the
// export stands by itself.
func TestVerifyAudit_suspended(t *testing.T) {
	t.Parallel()
	a := setupAnchors(t)
	a.sealed()
	a.ok(a.fleet.Suspend(t.Context(), a.t.ID))
	r := a.verify(fleet.AuditLook{Payloads: true})
	if !r.OK || r.Rows != 1 || r.Slug != "acme" {
		t.Errorf("%+v", r)
	}
	var file bytes.Buffer
	n, err := a.fleet.ExportAudit(t.Context(), a.t.ID, &file)
	a.ok(err)
	key, err := hex.DecodeString(r.PublicKeys[r.Keys[0]])
	a.ok(err)
	check, err := tenantdb.VerifyAuditFile(&file, []ed25519.PublicKey{key})
	a.ok(err)
	if n != 1 || !check.OK || !check.Trusted || check.Head != r.Head || check.Tenant != a.t.ID.String() {
		t.Errorf("%d rows, %+v", n, check)
	}
	if _, err := a.fleet.VerifyAudit(t.Context(), a.t.ID, fleet.AuditLook{Anchor: true}); err != nil {
		t.Errorf("no anchor yet: %v", err)
	}
	bare := a.newFleet(fleet.Config{})
	if _, err := bare.VerifyAudit(t.Context(), a.t.ID, fleet.AuditLook{Anchor: true}); err == nil {
		t.Error("compared with a store that isn't there")
	}
	if err := bare.AnchorAudits(context.WithoutCancel(t.Context())); err == nil {
		t.Error("anchored in a store that isn't there")
	}
}
