package cli_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freehold/tenantdb/archive"
)

func TestTenantExport(t *testing.T) { //nolint:paralleltest // the environment is the process's
	b := setup(t)
	b.store()
	b.run("", 0, "tenant", "create", "acme")
	file := filepath.Join(t.TempDir(), "acme.tar.zst")
	for _, wrong := range [][]string{{}, {"a", "b"}, {"acme", "--to", file, "--detach"}, {"acme", "--to", t.TempDir()}} {
		b.run("", 2, append([]string{"tenant", "export"}, wrong...)...)
	}
	b.run("", 1, "tenant", "export", "nobody")
	out, _ := b.run("", 0, "tenant", "export", "acme", "--to", file)
	packed, err := os.ReadFile(file)
	if err != nil || !strings.Contains(out, file) {
		t.Fatalf("said %q, %v", out, err)
	}
	m, err := archive.Read(t.Context(), bytes.NewReader(packed), nil)
	if err != nil || m.Slug != "acme" {
		t.Errorf("in it: %+v, %v", m.Meta, err)
	}
	if left, _ := filepath.Glob(file + ".*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	out, _ = b.run("", 0, "tenant", "export", "acme", "-o", "json")
	var got struct{ State, URL, SHA256, Tenant string }
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.State != "done" || !strings.HasPrefix(got.URL, "http") || len(got.SHA256) != 64 {
		t.Errorf("%v: %s", err, out)
	}
	b.run("", 0, "tenant", "export", "acme", "--detach")
	if _, said := b.run("", 1, "tenant", "export", "acme"); !strings.Contains(said, "export") {
		t.Errorf("while one is going on: %s", said)
	}
	out, _ = b.run("", 0, "audit", "export", "--operator")
	if n := strings.Count(out, `"export.create"`); n != 3 {
		t.Errorf("%d of 3 are in the audit", n)
	}
}
