package cli_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
)

func TestOperationCommands(t *testing.T) { //nolint:paralleltest // the environment is the process's
	w := setupTown(t, 2, 0)
	id := uuid.NewString()
	w.exec(`insert into operations (id, kind, tenant, actor, state, error, attempts, ended_at)
		select $1, 'onboard', id, 'somebody', 'failed', 'the store is away', 3, now() from tenants where slug = 'far-1'`, id)
	w.exec(`insert into operation_steps (operation, n, name, state, started_at, ended_at, error) values
		($1, 1, 'register', 'done', now(), now() + interval '1500 milliseconds', ''),
		($1, 2, 'prefix', 'failed', now(), now() + interval '20 milliseconds', 'the store is away'), ($1, 3, 'key', 'waiting', null, null, '')`, id)
	for _, args := range []string{"", " --state failed", " --kind onboard", " --tenant far-1"} {
		if out, _ := w.run("", 0, strings.Fields("operation list"+args)...); !strings.Contains(out, id) || !strings.Contains(out, "1/3 prefix") {
			t.Errorf("list%s:\n%s", args, out)
		}
	}
	for _, args := range []string{"--state done", "--kind delete", "--tenant far-2"} {
		if out, _ := w.run("", 0, strings.Fields("operation list -o json "+args)...); out != "[]\n" {
			t.Errorf("list %s: %s", args, out)
		}
	}
	out, _ := w.run("", 0, "operation", "show", id)
	for _, want := range []string{"far-1", "failed", "somebody", "the store is away", "1.5s", "20ms", "register", "key"} {
		if !strings.Contains(out, want) {
			t.Errorf("show lacks %q:\n%s", want, out)
		}
	}
	w.run("", 1, "operation", "show", id, "--wait")

	w.run("", 0, "operation", "retry", id)
	var o struct {
		State string
		Steps []struct{ Name string }
	}
	out, _ = w.run("", 0, "operation", "show", id, "-o", "json")
	if err := json.Unmarshal([]byte(out), &o); err != nil || o.State != catalog.OperationWaiting || len(o.Steps) != 3 {
		t.Errorf("after retry: %v %s", err, out)
	}
	// Somebody does it, while it is followed.
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(400 * time.Millisecond)
		if _, err := w.rows.Exec(t.Context(), `update operations set state = 'done', ended_at = now() where id = $1`, id); err != nil {
			t.Error(err)
		}
	}()
	out, errs := w.run("", 0, "operation", "show", id, "--wait")
	<-done
	if !strings.Contains(out, "done") || errs != "" {
		t.Errorf("followed: %s %q", out, errs)
	}
	if _, errs := w.run("", 1, "operation", "retry", id); !strings.Contains(errs, "it is done") {
		t.Errorf("retry of a done one: %s", errs)
	}
	var rows int
	if err := w.rows.QueryRow(t.Context(), `select count(*) from operator_audit where action = 'operation.retry'`).Scan(&rows); err != nil || rows != 1 {
		t.Errorf("%d audit rows: %v", rows, err)
	}
}

func TestTenantListFilters(t *testing.T) { //nolint:paralleltest // the environment is the process's
	w := setupTown(t, 3, 0)
	w.exec(`update tenants set schema_version = 1, created_at = now() - interval '40 days' where slug = 'far-1'`)
	w.exec(`update tenants set plan = 'gold', labels = '{"tier": "1"}' where slug = 'far-2'`)
	for args, want := range map[string]string{
		"--schema <3": "far-1", "--older-than 30d": "far-1", "--newer-than 1h": "far-2 far-3", "--plan gold": "far-2",
		"--label tier": "far-2", "--server main": "", "--server far --limit 1": "far-1", "--schema >=1 --newer-than 1h --limit 1": "far-2",
	} {
		out, _ := w.run("", 0, append([]string{"tenant", "list", "-o", "json"}, strings.Fields(args)...)...)
		var list []struct{ Slug string }
		w.ok(json.Unmarshal([]byte(out), &list))
		var slugs []string
		for _, one := range list {
			slugs = append(slugs, one.Slug)
		}
		if got := strings.Join(slugs, " "); got != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
}
