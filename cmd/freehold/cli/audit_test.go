package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"freehold/migrations/pgtest"
	"freehold/tenantdb"
)

// What operators did to a tenant stands in its own audit, which is verified on line
// and in an export of it.
func TestTenantAuditCommands(t *testing.T) { //nolint:paralleltest // the environment is the process's
	w := setupTown(t, 1, 1)
	w.run("", 0, "config", "set", "real-00", "pii_mode=redact")
	w.run("", 0, "key", "create", "real-00")
	w.ok(w.fleet.VisitDue(t.Context())) // a worker

	var report struct {
		tenantdb.AuditCheck

		Tenant     string
		Noted      int64
		PublicKeys map[int64]string `json:"public_keys"`
	}
	w.into(&report, "audit", "verify", "real-00", "--payloads")
	if !report.OK || report.Rows < 2 || report.N < 1 || report.Noted != report.N || report.Unsealed != 0 || report.Tenant != w.real[0].ID.String() || len(report.PublicKeys) != 1 {
		t.Fatalf("%+v", report)
	}
	key := report.PublicKeys[report.Keys[0]]
	if out, _ := w.run("", 0, "audit", "verify", "real-00"); !strings.Contains(out, key) || !strings.Contains(out, report.Head) || !strings.Contains(out, "intact") {
		t.Errorf("shown:\n%s", out)
	}
	export, _ := w.run("", 0, "audit", "export", "real-00")
	if !strings.Contains(export, "config.set") || w.audited("audit.export") != 1 {
		t.Errorf("exported:\n%s", export)
	}
	dir := t.TempDir()
	file, keys, odd := filepath.Join(dir, "a.jsonl"), filepath.Join(dir, "keys"), filepath.Join(dir, "odd.jsonl")
	for name, text := range map[string]string{file: export, keys: key + "\n", odd: strings.Replace(export, "config.set", "config.sit", 1)} {
		w.ok(os.WriteFile(name, []byte(text), 0o600))
	}
	operators, _ := w.run("", 0, "audit", "export", "--operator")

	super, err := pgx.ParseConfig(pgtest.SuperURL(t))
	w.ok(err)
	super.Database = w.real[0].Database
	conn, err := pgx.ConnectConfig(t.Context(), super)
	w.ok(err)
	defer func() { w.ok(conn.Close(t.Context())) }()
	_, err = conn.Exec(t.Context(), `update freehold.audit_log set actor = 'operator:nobody' where seal = 1 and pos = 1`)
	w.ok(err)
	if out, told := w.run("", 1, "audit", "verify", "real-00"); !strings.Contains(out, "bad seal    1") || !strings.Contains(told, "tampered") {
		t.Errorf("%s%s", out, told)
	}

	// A file needs no catalog.
	t.Setenv("FREEHOLD_CATALOG_URL", "")
	var offline tenantdb.AuditFileCheck
	w.into(&offline, "audit", "verify", "--file", file, "--public-key", keys)
	if !offline.OK || !offline.Trusted || offline.Head != report.Head {
		t.Errorf("%+v", offline)
	}
	if out, _ := w.run(export, 0, "audit", "verify", "--file", "-"); !strings.Contains(out, "the file's own") {
		t.Errorf("whose keys?\n%s", out)
	}
	w.run("", 0, "audit", "verify", "--file", file, "--public-key", key)
	w.run("", 1, "audit", "verify", "--file", file, "--public-key", strings.Repeat("00", 32))
	w.run("", 1, "audit", "verify", "--file", odd)
	w.run(operators, 0, "audit", "verify", "--file", "-")
	w.run(operators, 1, "audit", "verify", "--file", "-", "--public-key", key) // it has no signatures
	for _, args := range []string{
		"verify real-00 --operator", "verify --operator --payloads", "verify real-00 --public-key " + key,
		"verify --file " + file + " --public-key nope", "verify --file " + file + " --public-key " + file,
		"export real-00 --operator", "verify real-00 more",
	} {
		w.run("", 2, append([]string{"audit"}, strings.Fields(args)...)...)
	}
}
