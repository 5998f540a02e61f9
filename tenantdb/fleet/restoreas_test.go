package fleet_test

import (
	"errors"
	"io"
	"slices"
	"testing"

	"freehold/catalog"
	"freehold/tenantdb"
	"freehold/tenantdb/fleet"
)

// A backup makes a new tenant too, which has what was the other one's to keep, and
// nothing that only that one used, owed or did. And a database that is lost is restored.
func TestRestoreAs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.patient(b.store())
	p.another()
	p.lost()
}

func (p *patient) another() {
	t, b := p.TB, p.bench
	t.Helper()
	b.setReady(1)
	b.ok(p.fleet.RefillReady(t.Context()))
	made, token, err := p.fleet.RestoreAs(t.Context(), p.ID, catalog.TenantSpec{Slug: "globex", Email: "a@example.com"},
		fleet.TenantRestore{Backup: catalog.BackupLatest, Actor: "ops"})
	b.ok(err)
	if token == "" || made.ID == p.ID {
		t.Fatalf("%+v", made)
	}
	b.whole(made, p.store)
	in := &ward{bench: b, Tenant: made, in: b.super(made.Database), fleet: p.fleet, store: p.store}
	for what, n := range map[string]int{
		"shop.orders where what like 'order %'":                        1,
		"freehold.predictions where state = 'interrupted'":             1,
		"freehold.usage_ledger":                                        0,
		"freehold.audit_seals":                                         0,
		"freehold.audit_log where action = 'tenant.restored'":          1,
		"freehold.files where id = '" + p.file.String() + "'":          1,
		"freehold.files":                                               1, // of the other no object is there
		"freehold.tenant_identity where slug = 'globex'":               1,
		"freehold.predictions where id = '" + p.kept.ID.String() + "'": 1,
	} {
		if what == "shop.orders where what like 'order %'" {
			n = 50
		}
		if got := in.count(what); got != n {
			t.Errorf("%s: %d, want %d", what, got, n)
		}
	}
	r, _, err := p.store.Tenant(made.ID).Get(t.Context(), tenantdb.FileKey(p.file))
	b.ok(err)
	defer r.Close()
	if text, _ := io.ReadAll(r); string(text) != "one" {
		t.Errorf("its file has %q", text)
	}
	report, err := p.fleet.VerifyAudit(t.Context(), made.ID, fleet.AuditLook{})
	b.ok(err)
	if !report.OK || len(report.Restores) != 1 || report.Restores[0].From != p.ID.String() {
		t.Errorf("audit %+v", report)
	}
	if p.again(); p.count("shop.orders where what = 'ruined'") != 50 || p.State != catalog.Active {
		t.Error("the other one was touched")
	}
	b.nothingLeft(p.store)
}

// lost restores a database that is lost: the bill is what the catalog knows, and the
// audit tells of the restore and not of a break.
func (p *patient) lost() {
	t, b := p.TB, p.bench
	t.Helper()
	p.leave()
	bill, err := b.cat.UsageByDay(t.Context(), p.ID)
	b.ok(err)
	_, err = b.super("postgres").Exec(t.Context(), "drop database "+p.Database+" with (force)")
	b.ok(err)
	o := fleet.TenantRestore{Backup: catalog.BackupLatest, Actor: "ops"}
	if _, err := p.fleet.Restore(t.Context(), p.ID, o); !errors.Is(err, tenantdb.ErrUnavailable) {
		t.Errorf("nothing can be taken along: %v", err)
	}
	o.Lost = true
	_, err = p.fleet.Restore(t.Context(), p.ID, o)
	b.ok(err)
	p.again()
	if used := p.usage(); used.Used < p.before.Used || used.Reserved != 0 {
		t.Errorf("used %+v, before %+v", used, p.before)
	}
	if p.count("freehold.predictions where state = 'in_progress'") > 0 || p.count("shop.orders where what like 'order %'") != 50 {
		t.Error("it isn't what the backup had")
	}
	p.visit()
	if now, err := b.cat.UsageByDay(t.Context(), p.ID); err != nil || !slices.Equal(now, bill) {
		t.Errorf("the bill is %+v, and was %+v: %v", now, bill, err)
	}
	if r := p.audited(1).Restores[0]; !r.Lost {
		t.Errorf("told %+v", r)
	}
	b.ok(b.admit(p.node, p.Epoch))
	b.nothingLeft(p.store)
}
