package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/cli"
	"freehold/migrations/lint"
	"freehold/tenantdb/fleet"
)

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// An operator writes a migration, has it linted, planned, tried, and takes one back.
func TestMigratePlan(t *testing.T) { //nolint:paralleltest // the environment is the process's
	w := setupTown(t, 31, 1)
	dir := filepath.Join(t.TempDir(), "migrations")
	out, _ := w.run("", 0, "migrate", "new", "add_notes", "--dir", dir)
	if !strings.HasPrefix(out, filepath.Join(dir, "00001_add_notes.sql")+"\n") || !strings.Contains(out, "freehold migrate lint --dir") {
		t.Errorf("new: %s", out)
	}
	w.run("", 1, "migrate", "new", "Add-Notes", "--dir", dir)

	write(t, dir, "00001_add_notes.sql", "-- +goose Up\ncreate schema app;\ncreate table app.notes (id bigint primary key);\n-- +goose Down\ndrop schema app cascade;\n")
	write(t, dir, "00002_index.sql", "-- +goose Up\ncreate index notes_id on app.notes (id);\n-- +goose Down\ndrop index app.notes_id;\n")
	var found []lint.Finding
	out, _ = w.run("", 1, "migrate", "lint", "--dir", dir, "-o", "json")
	if err := json.Unmarshal([]byte(out), &found); err != nil || len(found) == 0 || found[0].File != "00002_index.sql" {
		t.Errorf("lint: %v %s", err, out)
	}
	if out, _ = w.run("", 1, "migrate", "lint", "--dir", dir); !strings.Contains(out, "error  00002_index.sql:2  index-not-concurrently") || !strings.Contains(out, "safe: ") {
		t.Errorf("lint: %s", out)
	}
	if _, told := w.run("", 1, "migrate", "plan", "--dir", dir); !strings.Contains(told, "index-not-concurrently") || !strings.Contains(told, "--no-lint") {
		t.Errorf("a plan with errors: %s", told)
	}
	write(t, dir, "00002_index.sql", "-- +goose NO TRANSACTION\n-- +goose Up\ncreate index concurrently notes_id on app.notes (id);\n-- +goose Down\ndrop index concurrently app.notes_id;\n")
	w.run("", 0, "migrate", "lint", "--dir", dir)
	out, told := w.run("", 0, "migrate", "plan", "--dir", dir, "--canary", "real-00", "--waves", "10%,50")
	for _, want := range []string{
		"product: 31 tenants to version 2\n", "00002_index.sql (no transaction)", "canary  1        0     main 1", "real-00",
		"10%     4        0     far 4", "100%    ", "begin it: freehold migrate up",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the plan lacks %q:\n%s%s", want, out, told)
		}
	}
	out, _ = w.run("", 0, "migrate", "plan", "--dir", dir, "--dry-run", "real-00", "-o", "json")
	var report fleet.DryRunReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.To != 2 || len(report.Steps) != 2 || report.Fleet.Tenants != 31 {
		t.Errorf("dry run: %v %s", err, out)
	}

	// Back from this binary's schema, and only when it is said twice.
	out, told = w.run("", 2, "migrate", "down", "real-00", "--to", "3")
	if !strings.Contains(out, "00004_inference.sql") || !strings.Contains(told, "--yes") {
		t.Errorf("down: %s%s", out, told)
	}
	out, _ = w.run("", 0, "migrate", "down", "real-00", "--to", "3", "--yes")
	if !strings.Contains(out, "real-00 is at version 3 of freehold") || !strings.Contains(out, "until: freehold migrate up\n") {
		t.Errorf("down: %s", out)
	}
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"migrate down real-00", 2, "--to says which"},
		{"migrate down nobody --to 1 --yes", 1, "tenant nobody: not found"},
		{"migrate down real-00 --to 9 --yes", 2, "to: it is at version 3 already"},
		{"migrate down real-00 --to 1 --stream bogus", 2, "--stream is freehold or product"},
		{"migrate plan --stream freehold --dir x", 2, "--dir has the product's migrations"},
		{"migrate plan --schema-only", 2, "--dry-run names a tenant"},
		{"migrate plan --dry-run nobody", 1, "tenant nobody: not found"},
		{"migrate plan --waves ten", 2, "--waves wants per cents"},
		{"migrate plan --waves 10,5", 2, "waves: want rising per cents"},
		{"migrate plan --no-gate --gate-latency 3", 2, "--no-gate or a gate"},
		{"migrate plan --retries -1", 2, "not negative"},
		{"migrate plan --budget x", 2, "budget: want a number"},
		{"migrate plan --canary nobody", 2, `there is no tenant "nobody"`},
		{"migrate plan --to 99", 2, "to: there is no migration 99"},
		{"migrate lint --dir /nowhere", 1, "no such file"},
	} {
		if _, told := w.run("", c.status, strings.Fields(c.args)...); !strings.Contains(told, c.want) {
			t.Errorf("%s: %s, want %s", c.args, told, c.want)
		}
	}
}

func TestPlanLines(t *testing.T) {
	t.Parallel()
	p := fleet.Plan{
		Stream: catalog.StreamProduct, Target: 3, Latest: 4, Current: 2, Suspended: 1,
		Pending: []fleet.PlanFile{{Version: 2, Name: "00002_a.sql", NoTx: true}, {Version: 3, Name: "00003_b.sql", Contracts: 2}},
		Servers: []fleet.PlanServer{{Name: "east", Tenants: 2, Parallel: 4, Reserve: 10}, {Name: "west", Tenants: 4, Parallel: 4, Reserve: 10}},
		Waves: []fleet.PlanWave{
			{Name: "canary", Tenants: []fleet.PlanTenant{{Slug: "acme", Server: "east", From: 1}}},
			{Name: "100%", Tenants: []fleet.PlanTenant{
				{Slug: "b", Server: "west", From: 1}, {Slug: "c", Server: "east", From: 2}, {Slug: "d", Server: "west", From: 1},
				{Slug: "e", Server: "west", From: 1}, {Slug: "f", Server: "west", From: 1},
			}},
		},
		Warnings: []string{"a warning"},
	}
	want := `product: 6 tenants to version 3 (the latest is 4)
already there: 2
suspended, brought up when resumed: 1
migrations: 00002_a.sql (no transaction), 00003_b.sql (contracts 2)

WAVE    TENANTS  FROM  SERVERS         WHO
canary  1        1     east 1          acme
100%    5        1–2   east 1, west 4  b, c, d, e and 1 more

SERVER  TENANTS  AT ONCE  RESERVE
east    2        4        10
west    4        4        10

warning: a warning

begin it: freehold migrate up, with the same flags`
	if got := strings.Join(cli.PlanLines(p, false), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	p.Problems = []string{"a problem"}
	got := strings.Join(cli.PlanLines(p, true), "\n")
	if !strings.Contains(got, "b, c, d, e, f\n") || !strings.HasSuffix(got, "problem: a problem\nit can't be begun like this") {
		t.Errorf("with a problem:\n%s", got)
	}
}

func TestDryRunLines(t *testing.T) {
	t.Parallel()
	r := fleet.DryRunReport{
		Tenant: "acme", Server: "east", Stream: catalog.StreamProduct, From: 1, To: 3, CloneTook: 1234 * time.Millisecond,
		Bytes: 12 << 20, BytesAfter: 14 << 20,
		Steps: []fleet.DryRunStep{
			{File: "00002_a.sql", Took: 120 * time.Millisecond, Grown: 2 << 20, WAL: 300 << 10, Created: []string{"table app.tags"},
				Rewrites: []fleet.DryRunRelation{{Relation: "app.notes", Kind: "table", Bytes: 9 << 20}},
				Built:    []fleet.DryRunRelation{{Relation: "app.i", Kind: "index", On: "app.notes", Bytes: 100, Invalid: true}},
				Locks: []fleet.DryRunLock{
					{Relation: "app.notes", Kind: "table", Mode: "AccessExclusiveLock", Blocks: "reads and writes", Held: 118 * time.Millisecond},
					{Relation: "app.other", Kind: "table", Mode: "RowExclusiveLock", Held: 3 * time.Millisecond},
				}},
			{File: "00003_b.sql", NoTx: true, Took: 80 * time.Microsecond},
		},
		Fleet: fleet.DryRunFleet{Tenants: 200, Estimated: 61 * time.Second, Soak: time.Minute, How: "so"},
	}
	want := `clone of acme on east: 12.0 MB, made in 1.2s; dropped again

00002_a.sql: 120ms, 2.0 MB more, 300 kB of WAL at most
  rewrites: table app.notes (9.0 MB)
  builds: index app.i on app.notes (100 B, NOT VALID)
  creates: table app.tags
  LOCK                 ON               HELD   BLOCKS
  AccessExclusiveLock  table app.notes  118ms  reads and writes
  RowExclusiveLock     table app.other  3ms    nothing

00003_b.sql (no transaction): 80µs, 0 B more, 0 B of WAL at most
  locks: none that anybody waits for

version 1 to 3 of product, 12.0 MB to 14.0 MB
the fleet: estimated 1m1s for 200 tenants, and 1m0s of soak
  (so)`
	if got := strings.Join(cli.DryRunLines(r), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	r.Failure = &fleet.DryRunFailure{File: "00004_c.sql", Kind: catalog.FailSQL, Error: "00004_c.sql: it is there (SQLSTATE 42P07)"}
	if got := strings.Join(cli.DryRunLines(r), "\n"); !strings.Contains(got, "\nFAILED (sql): 00004_c.sql: it is there") {
		t.Errorf("a failure:\n%s", got)
	}
}
