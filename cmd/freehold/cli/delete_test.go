package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freehold/catalog"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/blob/blobtest"
)

// store has the commands use an object store of the test's own.
func (b bench) store() {
	b.t.Helper()
	const bucket = "cli-delete"
	endpoint := blobtest.Shared(b.t)
	if _, err := blob.Open(b.t.Context(), blob.Config{Endpoint: endpoint, Bucket: bucket}, true); err != nil {
		b.t.Fatal(err)
	}
	b.t.Setenv("FREEHOLD_S3_ENDPOINT", endpoint)
	b.t.Setenv("FREEHOLD_S3_BUCKET", bucket)
}

func TestDelete(t *testing.T) { //nolint:paralleltest // the environment is the process's
	b := setup(t)
	b.store()
	b.run("", 0, "tenant", "create", "acme", "--email", "pat@acme.example")
	state := func(want string) {
		t.Helper()
		out, _ := b.run("", 0, "tenant", "show", "acme", "-o", "json")
		var got struct{ Slug, State string }
		if err := json.Unmarshal([]byte(out), &got); err != nil || got.State != want {
			t.Fatalf("%s is %s, want %s, %v", got.Slug, got.State, want, err)
		}
	}
	for _, wrong := range [][]string{{}, {"a", "b"}, {"acme", "--grace", "soon"}, {"acme", "--grace", "0"}, {"acme", "--grace", "-1h"}, {"acme", "--grace", "9000h"}, {"acme", "--now", "--grace", "1h"}} {
		b.run("", 2, append([]string{"tenant", "delete"}, wrong...)...)
	}
	b.run("", 1, "tenant", "delete", "nobody")
	b.run("", 1, "tenant", "undelete", "acme")
	state("active")

	out, _ := b.run("", 0, "tenant", "delete", "acme", "--grace", "24h")
	if !strings.Contains(out, "freehold tenant undelete acme") || !strings.Contains(out, "operation show") {
		t.Errorf("said %q", out)
	}
	state("deleting")
	out, _ = b.run("", 0, "tenant", "undelete", "acme")
	if out != "acme is suspended: freehold tenant resume acme\n" {
		t.Errorf("said %q", out)
	}
	b.run("", 1, "tenant", "receipt", "acme")
	// Whoever doesn't type the slug has destroyed nothing.
	for _, typed := range []string{"", "\n", "yes\n", "acm\n"} {
		if _, said := b.run(typed, 1, "tenant", "delete", "acme", "--now"); !strings.Contains(said, "nothing was done") {
			t.Errorf("typed %q: %s", typed, said)
		}
	}
	state("suspended")
	out, _ = b.run("acme\n", 0, "tenant", "delete", "acme", "--now")
	if !strings.Contains(out, "acme is deleted: freehold tenant receipt ") {
		t.Errorf("said %q", out)
	}
	b.run("", 1, "tenant", "show", "acme")
	b.receipts()

	// Its slug is free, and a script says --yes.
	b.run("", 0, "tenant", "create", "acme")
	out, _ = b.run("", 0, "tenant", "delete", "acme", "--now", "--yes", "-o", "json")
	var op struct{ Kind, State string }
	if err := json.Unmarshal([]byte(out), &op); err != nil || op.Kind != "delete" || op.State != "done" {
		t.Errorf("%s: %v", out, err)
	}
}

// receipts shows acme's receipt, and verifies it and changed ones.
func (b bench) receipts() {
	t := b.t
	t.Helper()
	out, _ := b.run("", 0, "tenant", "receipt", "acme")
	for _, want := range []string{"DESTROYED", "database", "BEYOND REACH", "WAL archives", "MONTH"} {
		if !strings.Contains(out, want) {
			t.Errorf("the receipt lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "pat@acme.example") {
		t.Error("the receipt names somebody")
	}
	signed, _ := b.run("", 0, "tenant", "receipt", "acme", "-o", "json")
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	genuine := file("genuine", signed)
	if out, _ := b.run("", 0, "tenant", "receipt", "--verify", genuine); !strings.Contains(out, "by this platform") {
		t.Errorf("said %q", out)
	}
	b.run(signed, 0, "tenant", "receipt", "--verify", "-")
	changed := strings.Replace(signed, `\"slug\":\"acme\"`, `\"slug\":\"acne\"`, 1)
	if changed == signed {
		t.Fatal("nothing was changed")
	}
	b.run("", 1, "tenant", "receipt", "--verify", file("changed", changed))
	b.run("", 1, "tenant", "receipt", "--verify", file("rubbish", "{}"))
	b.run("", 1, "tenant", "receipt", "--verify", filepath.Join(dir, "nothing"))
	b.run("", 2, "tenant", "receipt")
	b.run("", 2, "tenant", "receipt", "acme", "--verify", genuine)

	// Without the master key it holds all the same; with another one it is somebody
	// else's.
	own := os.Getenv("FREEHOLD_MASTER_KEY_FILE")
	t.Setenv("FREEHOLD_MASTER_KEY_FILE", filepath.Join(dir, "none"))
	if out, _ := b.run("", 0, "tenant", "receipt", "--verify", genuine); !strings.Contains(out, "compare") {
		t.Errorf("said %q", out)
	}
	keys, err := catalog.NewKeyset()
	if err == nil {
		err = keys.Write(filepath.Join(dir, "other"))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("FREEHOLD_MASTER_KEY_FILE", filepath.Join(dir, "other"))
	b.run("", 1, "tenant", "receipt", "--verify", genuine)
	t.Setenv("FREEHOLD_MASTER_KEY_FILE", own)
}
