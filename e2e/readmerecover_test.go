package e2e_test

import (
	"strings"
	"testing"
)

// goBack does what README does with backups: a table is lost, and comes back; what
// the tenant was told and billed stays, and it can take everything along.
func goBack(t *testing.T, d devRun) {
	t.Helper()
	const counts = `freehold tenant psql acme -Atc 'select count(*) from freehold.predictions'
freehold tenant psql acme -Atc 'select sum(used) from freehold.tenant_counters'
freehold tenant psql acme -Atc 'select count(*) from freehold.models'`
	before := d.sh(t, sourced+counts)
	got := d.sh(t, "set -e\n"+readme(t, "recover"))
	if got.Code != 0 {
		t.Fatalf("README's block exits %d:\n%s%s", got.Code, got.Stdout, got.Stderr)
	}
	_, back, _ := strings.Cut(got.Stdout, "DROP TABLE")
	for _, want := range []string{"the big one", "by operator:", "manifest.json", "crm.deals/00001.jsonl"} {
		if !strings.Contains(back, want) {
			t.Errorf("README's block doesn't print %q:\n%s%s", want, got.Stdout, got.Stderr)
		}
	}
	after := d.sh(t, sourced+counts)
	if before.Code != 0 || before.Stdout != after.Stdout {
		t.Errorf("predictions, used tokens and models before: %s%s\nand after: %s%s", before.Stdout, before.Stderr, after.Stdout, after.Stderr)
	}
}
