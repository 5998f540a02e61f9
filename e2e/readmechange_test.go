package e2e_test

import (
	"fmt"
	"strings"
	"testing"
)

// schemaChange does what README does with one schema change over all tenants: one of
// them, sabotaged, is named with reason and file, mended, and the rollout is resumed
// to its end.
func schemaChange(t *testing.T, d devRun, tenants int) {
	t.Helper()
	got := d.sh(t, readme(t, "schema-change"))
	if got.Code != 0 {
		t.Fatalf("README's block exits %d:\n%s%s", got.Code, got.Stdout, got.Stderr)
	}
	before, rest, found := strings.Cut(got.Stdout, "CREATE SCHEMA\n")
	broken, after, again := strings.Cut(rest, "DROP SCHEMA\n")
	if !found || !again {
		t.Fatalf("README's block prints:\n%s%s", got.Stdout, got.Stderr)
	}
	dry, up, _ := strings.Cut(broken, fmt.Sprintf("%d of %d tenants at version 1\n", tenants-1, tenants))
	up, status, partial := strings.Cut(up, "exit status 3\n")
	if !partial {
		t.Errorf("README's block doesn't end in part:\n%s%s", broken, got.Stderr)
	}
	inPart := fmt.Sprintf("done in part: 1 of %d failed, %d done\n", tenants, tenants-1)
	names := []string{inPart, "1 tenant failed (sql)", "00001_desk.sql", `schema "desk" already exists`, "\n  tenant-0007\n", "→ freehold migrate resume "}
	for text, want := range map[string][]string{
		before: {"1 migration: 0 errors, 0 warnings\n"},
		dry:    {"clone of acme", "dropped again", "table desk.tickets"},
		up:     names,
		status: names,
		after:  {fmt.Sprintf("%d of %[1]d tenants at version 1\n", tenants)},
	} {
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("not printed: %q in\n%s", w, text)
			}
		}
	}
	if !strings.HasPrefix(status, inPart) {
		t.Errorf("status doesn't begin with whether to worry:\n%s", status)
	}
	end := d.sh(t, sourced+`freehold migrate status | head -n 1; freehold migrate drift; freehold status | tail -n 1
freehold tenant psql tenant-0007 -Atc 'select count(*) from desk.tickets'`)
	for _, w := range []string{fmt.Sprintf("done: %d tenants at version 1, in ", tenants), "as their migrations make them\n", "nothing needs you\n0\n"} {
		if !strings.Contains(end.Stdout, w) {
			t.Errorf("at the end, not printed: %q in\n%s%s", w, end.Stdout, end.Stderr)
		}
	}
}
