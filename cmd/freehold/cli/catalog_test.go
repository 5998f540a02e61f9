package cli_test

import (
	"strings"
	"testing"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/blob/blobtest"
	"freehold/tenantdb/fleet"
)

// withStore gives the commands an object store.
func (b bench) withStore() {
	b.t.Helper()
	cfg := blob.Config{Endpoint: blobtest.Shared(b.t), Bucket: "cli-catalog"}
	if _, err := blob.Open(b.t.Context(), cfg, true); err != nil {
		b.t.Fatal(err)
	}
	b.t.Setenv("FREEHOLD_S3_ENDPOINT", cfg.Endpoint)
	b.t.Setenv("FREEHOLD_S3_BUCKET", cfg.Bucket)
}

// An operator loses the catalog and gets it back, in the commands that the help names.
func TestCatalogRestore(t *testing.T) { //nolint:paralleltest // the environment is the process's
	b := setup(t)
	b.run("", 2, "catalog", "backup") // no object store is set
	b.withStore()
	if out, _ := b.run("", 0, "catalog", "restore", "--list"); strings.Contains(out, "platform/") {
		t.Errorf("listed before there is one: %s", out)
	}
	b.run("", 0, "tenant", "create", "acme")
	var backup catalog.Backup
	b.into(&backup, "catalog", "backup")
	if backup.Bytes == 0 || !strings.HasPrefix(backup.Key, "platform/catalog/") {
		t.Errorf("backed up %+v", backup)
	}
	b.run("", 1, "catalog", "restore") // over itself
	b.run("", 0, "tenant", "create", "young")

	t.Setenv("FREEHOLD_CATALOG_URL", pgtest.Catalog(t))
	b.run("", 0, "catalog", "migrate")
	if out, _ := b.run("", 0, "catalog", "restore", "--list"); !strings.Contains(out, backup.Key) {
		t.Errorf("the list lacks %s: %s", backup.Key, out)
	}
	b.run("", 2, "catalog", "restore", "--list", "--from", "x")
	if _, told := b.run("", 1, "catalog", "restore", "--from", "platform/catalog/20200101T000000Z-1.fhc"); !strings.Contains(told, "not found") {
		t.Errorf("no such backup: %s", told)
	}
	out, told := b.run("", 3, "catalog", "restore")
	if !strings.Contains(told, "look at what is listed") {
		t.Errorf("told %s", told)
	}
	command := ""
	for line := range strings.Lines(out) {
		if strings.Contains(line, "tenant young is younger") {
			_, command, _ = strings.Cut(line, "freehold ")
		}
	}
	if command == "" {
		t.Fatalf("young isn't found: %s", out)
	}
	var adopted struct {
		Tenant struct{ ID, Slug string }
		Key    string `json:"api_key"`
	}
	b.into(&adopted, strings.Fields(command)...)
	if adopted.Tenant.Slug != "young" || !strings.HasPrefix(adopted.Key, "fh_") {
		t.Errorf("adopted %+v", adopted)
	}
	for _, slug := range []string{"acme", "young"} {
		b.run("", 0, "tenant", "prove", slug)
	}
	b.run("", 2, "tenant", "adopt", "young", "--server", "main")
	b.run("", 2, "tenant", "adopt", adopted.Tenant.ID)
	b.run("", 1, "tenant", "adopt", adopted.Tenant.ID, "--server", "main")

	// With all in its place there is nothing for a person.
	b.run("", 0, "catalog", "backup")
	t.Setenv("FREEHOLD_CATALOG_URL", pgtest.Catalog(t))
	b.run("", 0, "catalog", "migrate")
	var r fleet.Restored
	b.into(&r, "catalog", "restore")
	if r.Tenants != 2 || r.Confirmed != 2 || len(r.Notes) != 0 {
		t.Errorf("restored %+v", r)
	}
}
