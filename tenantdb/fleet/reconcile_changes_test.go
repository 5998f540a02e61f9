package fleet_test

import (
	"strings"
	"testing"

	"freehold/catalog"
	"freehold/tenantdb/fleet"
)

// What goes, or is made, between the look at it and the reading of the catalog is
// no finding.
func TestReconcileWhileThingsChange(t *testing.T) {
	t.Parallel()
	y := setupYard(t)
	dropped := y.stray("database", y.mark) // as a ready one that was too many
	stays := y.stray("database", y.mark)
	y.fleet.Crash(func(point string) {
		if point == "reconcile/looked" {
			y.do(y.disk, "drop database if exists "+dropped.DatabaseName())
		}
	})
	r := y.reconcile()
	y.finds(r, "dropped meanwhile", dropped, "")
	y.finds(r, "stays", stays, "database_unknown")
}

// What another catalog is about to make is its own, and what may belong to a server
// that wasn't seen isn't said to be nobody's.
func TestReconcileKnowsTooLittle(t *testing.T) {
	t.Parallel()
	y := setupYard(t)
	others := y.stray("role", "freehold "+catalog.NewTenantID().String())
	y.strayOf("database", others, "") // it is marked when it is whole
	prefix := catalog.NewTenantID()
	y.ok(y.blob.CreatePrefix(t.Context(), prefix))
	fix := func(r fleet.Report, kind, object string) string {
		t.Helper()
		for _, f := range r.Findings {
			if f.Kind == kind && strings.Contains(f.Object, object) {
				return f.Fix
			}
		}
		t.Errorf("no %s of %s among %+v", kind, object, r.Findings)
		return ""
	}
	// A catalog that knows nobody was lost, and clears nothing.
	if got := fix(y.reconcile(), "prefix_unknown", "tenants/"); got != "freehold catalog restore --list" {
		t.Errorf("fix of an empty catalog: %s", got)
	}
	y.tenant("acme")
	r := y.reconcile()
	y.finds(r, "another catalog's", others, "")
	if got := fix(r, "prefix_unknown", prefix.String()); !strings.Contains(got, "remove it") {
		t.Errorf("fix: %s", got)
	}
	y.do(y.rows, "update servers set port = 1")
	if got := fix(y.reconcile(), "prefix_unknown", prefix.String()); strings.Contains(got, "remove it") || !strings.Contains(got, "pg-1") {
		t.Errorf("fix while its server may be away: %s", got)
	}
}
