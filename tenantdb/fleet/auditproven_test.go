package fleet_test

import (
	"strings"
	"testing"

	"freehold/catalog"
	"freehold/tenantdb"
	"freehold/tenantdb/fleet"
)

// Who cuts a chain's end off, and waits until nodes have sealed more behind what is
// left, has signed seals and a catalog that has noted the last of them.
func TestCutAuditThatGoesOnIsFound(t *testing.T) {
	t.Parallel()
	w := setupWard(t)
	w.visit()
	sealed := func() {
		t.Helper()
		db := tenantdb.On(w.node, w.Epoch)
		w.ok(db.AddAuditEvent(t.Context(), "system", "act", "", nil))
		head, _, err := db.Seal(t.Context(), w.ID, w.cat.SignAudit)
		w.ok(err)
		w.ok(w.cat.SetAuditHeads(t.Context(), []catalog.AuditHead{head}))
	}
	verified := func() fleet.AuditReport {
		t.Helper()
		r, err := w.fleet.VerifyAudit(t.Context(), w.ID, fleet.AuditLook{})
		w.ok(err)
		return r
	}
	sealed()
	sealed()
	w.visit()
	if r := verified(); !r.OK {
		t.Fatalf("%+v", r.AuditCheck)
	}
	last, _, err := w.cat.AuditHead(t.Context(), w.ID)
	w.ok(err)
	w.exec("delete from freehold.audit_log where seal = $1", last.N)
	w.exec("delete from freehold.audit_seals where n = $1", last.N)
	sealed()
	sealed()
	sealed()
	check := func(when string) {
		t.Helper()
		if r := verified(); r.OK || !strings.Contains(r.Why, "noted outside") {
			t.Errorf("%s: %+v", when, r.AuditCheck)
		}
	}
	check("at once")
	w.visit()
	check("after a visit")
	if n := w.note(); !strings.Contains(n.Error, "audit") {
		t.Errorf("nobody is told: %+v", n)
	}
}

func TestTenantsRoleCannotPassForOperators(t *testing.T) {
	t.Parallel()
	w := setupWard(t)
	// The highest number is where the mirror goes on: with this row it never would.
	_, err := w.node.Exec(t.Context(), `
insert into freehold.audit_log (id, at, actor, action, operator_seq)
values (gen_random_uuid(), now(), 'system', 'x', 9223372036854775807)`)
	if err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("%v", err)
	}
}
