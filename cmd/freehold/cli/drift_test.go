package cli_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"freehold/catalog"
	"freehold/cmd/freehold/cli"
	"freehold/tenantdb/fleet"
)

// Nothing to tell is status 0; what differs, or can't be seen, is status 3.
func TestMigrateDrift(t *testing.T) { //nolint:paralleltest // the environment is the process's
	w := setupTown(t, 3, 1)
	real := w.real[0].Slug
	if out, stderr := w.run("", 0, "migrate", "drift", real); out != "1 of 1 compared tenant as their migrations make them\n" || stderr != "" {
		t.Errorf("%q %q", out, stderr)
	}
	out, _ := w.run("", 3, "migrate", "drift", "-o", "json")
	var report fleet.DriftReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Same != 1 || len(report.Unseen) != 2 || strings.Contains(out, "null") {
		t.Errorf("%v\n%s", err, out)
	}
	out, stderr := w.run("", 3, "migrate", "drift")
	if !strings.Contains(out, "\nnot compared: far-1: ") || stderr != "freehold: drift: schemas are not as they should be: done in part\n" {
		t.Errorf("%q %q", out, stderr)
	}
	w.run("", 1, "migrate", "drift", "nope")
	w.run("", 2, "migrate", "drift", "--parallel", "0")
	w.run("", 1, "migrate", "drift", "--dir", t.TempDir()+"/none")
}

func TestDriftLines(t *testing.T) {
	t.Parallel()
	many := strings.Fields("a b c d e f g h i j k l")
	got := cli.DriftLines(fleet.DriftReport{
		Compared: 20, Same: 7,
		Groups: []fleet.DriftGroup{{
			Versions: catalog.Versions{Freehold: 4, Product: 2}, Tenants: many,
			Differences: []catalog.Difference{{Object: "column app.notes.body", What: catalog.DiffOther, Is: "text", Should: "character varying(40)"}},
		}},
		Invalid: []fleet.DriftInvalid{{Tenant: "m", Indexes: []string{"app.notes_body"}}},
		Rebuilt: []fleet.RebuiltIndex{{Tenant: "m", Index: `"app"."x"`, Done: "rebuilt"}, {Tenant: "m", Index: `"app"."y"`, Reason: "locked"}},
		Unseen:  []fleet.DriftUnseen{{Tenant: "z", Reason: "server far is down"}},
		Edited:  []fleet.DriftEdited{{Stream: catalog.StreamProduct, Version: 1, Name: "00001_app.sql"}},
	})
	want := []string{
		"7 of 20 compared tenants as their migrations make them",
		"",
		"12 tenants (schema 4, product 2) not as they should be: a, b, c, d, e, f, g, h, i, j and 2 more",
		"  column app.notes.body: is text, should be character varying(40)",
		"  → change it by hand (freehold tenant psql --write SLUG), or by a migration for all, then: freehold migrate drift",
		"",
		"indexes that aren't valid, and that nothing uses",
		"  m: app.notes_body",
		"  → freehold migrate drift --rebuild",
		"",
		`rebuilt "app"."x" of m`,
		`not rebuilt: "app"."y" of m: locked`,
		"",
		"not compared: z: server far is down",
		"",
		"edited since it was rolled out: 00001_app.sql of stream product → take the edit back, and write a new migration",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}
