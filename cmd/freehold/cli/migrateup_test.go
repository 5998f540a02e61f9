package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/cmd/freehold/cli"
	"freehold/migrations/pgtest"
)

const notes = `-- +goose Up
create schema app;
create table app.notes (id bigint primary key);
-- +goose Down
drop schema app cascade;
`

const titles = `-- +goose Up
alter table app.notes add column title text;
-- +goose Down
alter table app.notes drop column title;
`

// product is a folder with migrations of a product.
func product(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, body := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// inside runs a statement in a tenant's database, as its owner.
func (w *town) inside(tenant catalog.Tenant, sql string) {
	w.t.Helper()
	u, err := url.Parse(pgtest.SuperURL(w.t))
	w.ok(err)
	u.Path = "/" + tenant.Database
	conn, err := pgx.Connect(w.t.Context(), u.String())
	w.ok(err)
	defer conn.Close(w.t.Context())
	for _, s := range []string{"set role freehold_owner", sql} {
		_, err := conn.Exec(w.t.Context(), s)
		w.ok(err)
	}
}

// contain wants all of these texts in what was said.
func contain(t *testing.T, said string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(said, text) {
			t.Errorf("lacks %q:\n%s", text, said)
		}
	}
}

var shortID = regexp.MustCompile(`rollout ([0-9a-f]{8})\b`)

// A tenant is sabotaged: the rollout ends in part, everything names that tenant, the
// reason and the file, and what is said to be run next leads to the end.
func TestMigrateUp(t *testing.T) { //nolint:paralleltest // the environment is the process's
	w := setupTown(t, 4, 4)
	bad := w.real[3]
	w.inside(bad, "create schema app")
	dir := product(t, map[string]string{"00001_notes.sql": notes})
	up := []string{"migrate", "up", "--dir", dir, "--canary", "real-00", "--waves", "100", "--soak", "0", "--budget", "1"}

	out, errs := w.run("", 3, up...)
	contain(t, out, "3 of 4 tenants at version 1\n", "done in part: 1 of 4 failed, 3 done\n", "! 1 tenant failed (sql)", "00001_notes.sql",
		`schema "app" already exists`, "\n  real-03\n", "→ freehold tenant psql --write real-03\n", "→ freehold migrate resume ")
	contain(t, errs, "wave 1 of 2 (canary): 1 of 1 done\n", "wave 2 of 2 (100%): 2 of 3 done, 1 failed\n", "done in part")

	out, _ = w.run("", 0, "migrate", "status")
	contain(t, out, "done in part: 1 of 4 failed, 3 done\n[", "  real-03\n", "→ freehold tenant psql --write real-03\n")
	id := shortID.FindStringSubmatch(out)
	if !strings.HasPrefix(out, "done in part: ") || id == nil {
		t.Fatalf("status:\n%s", out)
	}
	for _, args := range []string{"migrate status --watch", "migrate status " + id[1]} {
		again, _ := w.run("", 0, strings.Fields(args)...)
		contain(t, again, out)
	}
	var v struct {
		ID, Verdict, State  string
		Total, Done, Failed int
		Failures            []struct {
			Kind, File string
			Commands   []string
		}
	}
	out, errs = w.run("", 0, "migrate", "status", "-o", "json")
	w.ok(json.Unmarshal([]byte(out), &v))
	if v.State != "partial" || v.Total != 4 || v.Done != 3 || v.Failed != 1 || len(v.Failures) != 1 || v.Failures[0].Kind != "sql" ||
		v.Failures[0].File != "00001_notes.sql" || !slices.Contains(v.Failures[0].Commands, "freehold migrate resume "+id[1]) || errs != "" {
		t.Errorf("%s %s", out, errs)
	}
	out, _ = w.run("", 0, "migrate", "status", "--targets", "--state", "failed")
	if strings.Count(out, "\n") != 2 || !strings.Contains(out, "real-03") {
		t.Errorf("targets:\n%s", out)
	}
	out, _ = w.run("", 1, "status")
	contain(t, out, "! rollout "+id[1]+" (product, to version 1) ended in part: 1 of 4 tenants failed: real-03 → freehold migrate status "+id[1]+"\n")

	// One at a time, and never an edited file.
	_, errs = w.run("", 1, up...)
	contain(t, errs, "is partial", "freehold migrate resume "+id[1], "freehold migrate abort "+id[1])

	w.inside(bad, "drop schema app")
	out, errs = w.run("", 0, "migrate", "resume")
	contain(t, out, "4 of 4 tenants at version 1\n")
	if strings.Contains(out+errs, "failed") {
		t.Errorf("resumed:\n%s%s", out, errs)
	}
	out, _ = w.run("", 0, "migrate", "status", "-o", "json")
	contain(t, out, `"state": "done"`, `"verdict": "done: 4 tenants at version 1, in `)
	out, _ = w.run("", 0, up...)
	contain(t, out, "nothing to do: 4 tenants at version 1\n")
	out, _ = w.run("", 0, append(up, "-o", "json")...)
	contain(t, out, `"state": "current"`)
	for _, verb := range []string{"resume", "abort"} {
		_, errs = w.run("", 1, "migrate", verb)
		contain(t, errs, "no rollout is open")
		_, errs = w.run("", 1, "migrate", verb, id[1])
		contain(t, errs, "is done already")
	}

	// Begun for workers, of which there are none, and given up.
	w.ok(os.WriteFile(filepath.Join(dir, "00002_titles.sql"), []byte(titles), 0o600))
	out, _ = w.run("", 0, "migrate", "up", "--dir", dir, "--detach")
	contain(t, out, "(product to version 2) is begun; workers do it: freehold migrate status ")
	out, _ = w.run("", 0, "migrate", "abort", "--reason", "not today")
	contain(t, out, "is aborted: 0 of 4 tenants at version 2 stay so\n")
	out, _ = w.run("", 0, "migrate", "status")
	if !strings.HasPrefix(out, "aborted: not today; 0 of 4 done\n") {
		t.Errorf("aborted:\n%s", out)
	}
	out, _ = w.run("", 0, "migrate", "up", "--stream", "product", "--waves", "100", "-o", "json")
	contain(t, out, `"state": "done"`, `"done": 4`)
	out, _ = w.run("", 0, "migrate", "list")
	if strings.Count(out, "\n") != 4 || !strings.Contains(out, "not today") {
		t.Errorf("listed:\n%s", out)
	}
	out, _ = w.run("", 0, "migrate", "list", "--state", "aborted", "-o", "json")
	if strings.Count(out, `"id"`) != 1 || !json.Valid([]byte(out)) {
		t.Errorf("listed:\n%s", out)
	}
	out, _ = w.run("", 0, "audit", "export", "--operator")
	contain(t, out, "rollout.begin", "rollout.resume", "rollout.abort", "not today")
}

// Whoever is stopped is told what becomes of the rollout.
func TestMigrateUpStopped(t *testing.T) { //nolint:paralleltest // the environment is the process's
	w := setupTown(t, 1, 1)
	dir := product(t, map[string]string{"00001_notes.sql": notes, "00002_wait.sql": "-- +goose Up\nselect pg_sleep(60);\n"})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var out, errs bytes.Buffer
	status := make(chan int, 1)
	go func() {
		status <- cli.Run(ctx, "test", []string{"migrate", "up", "--dir", dir, "--no-lint"}, strings.NewReader(""), &out, &errs)
	}()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var running int
		w.ok(w.rows.QueryRow(t.Context(), "select count(*) from rollout_targets where state = 'running'").Scan(&running))
		if running == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it never began: %s", errs.String())
		}
	}
	stop()
	select {
	case got := <-status:
		if got != 1 {
			t.Errorf("status %d", got)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it doesn't end")
	}
	contain(t, errs.String(), "stopped here; no worker has taken rollout ", "freehold migrate resume ", "freehold migrate abort ")
	w.run("", 0, "migrate", "abort")
}
