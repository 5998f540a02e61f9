package cli_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/fleet"
)

func TestServerDrain(t *testing.T) { //nolint:paralleltest // the environment is the process's
	w := setupTown(t, 2, 2)
	w.store()
	w.exec(`delete from servers where name = 'far'`)
	w.exec(`delete from nodes`) // it would never let go of a tenant
	u, err := url.Parse(pgtest.SecondSuperURL(t))
	w.ok(err)
	password, _ := u.User.Password()
	_, errs := w.run(password, 0, "server", "add", "next", "--url", "postgres://"+u.User.Username()+"@"+u.Host+"/postgres?sslmode=disable")
	if errs != "" {
		t.Errorf("a superuser lacks something: %s", errs)
	}
	out, _ := w.run("", 0, "server", "show", "main", "--check")
	for _, want := range []string{"by copy from: next (the admin of server main may not make subscriptions)", "moves from here will copy under pause", "logical"} {
		if !strings.Contains(out, want) {
			t.Errorf("show lacks %q:\n%s", want, out)
		}
	}
	var shown struct {
		Name  string
		Links []catalog.ServerLink
	}
	out, _ = w.run("", 0, "server", "show", "main", "-o", "json")
	if err := json.Unmarshal([]byte(out), &shown); err != nil || shown.Name != "main" || len(shown.Links) != 2 {
		t.Errorf("%v %s", err, out)
	}

	out, _ = w.run("", 0, "server", "drain", "main", "--dry-run")
	for _, want := range []string{"real-00", "real-01", "next", "copy", "2 moves", "looks for a place when its turn comes"} {
		if !strings.Contains(out, want) {
			t.Errorf("the plan lacks %q:\n%s", want, out)
		}
	}
	var plan fleet.DrainPlan
	out, _ = w.run("", 0, "server", "drain", "main", "--dry-run", "-o", "json")
	if err := json.Unmarshal([]byte(out), &plan); err != nil || len(plan.Moves) != 2 || plan.Bytes == 0 {
		t.Errorf("%v %s", err, out)
	}
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"main --dry-run --cancel", 2, "usage: --dry-run or --cancel, not both"},
		{"main -y --by cart", 2, "invalid: way: want auto, replication, copy"},
		{"main -y --parallel 0", 2, "invalid: parallel: want 1 to 64"},
		{"main -y --to main", 2, "invalid: to: it is the server itself"},
		{"main -y --to nope", 1, "server nope: not found"},
		{"nope -y", 1, "server nope: not found"},
		{"main --cancel", 1, "server main: cancel drain: no drain of it is open: state forbids it"},
	} {
		if _, errs := w.run("", c.status, append([]string{"server", "drain"}, strings.Fields(c.args)...)...); errs != "freehold: "+c.want+"\n" {
			t.Errorf("%s: got %q, want %q", c.args, errs, c.want)
		}
	}
	if _, errs := w.run("other\n", 1, "server", "drain", "main"); !strings.Contains(errs, "2 tenants leave main") || !strings.Contains(errs, "nothing was done") {
		t.Errorf("asked: %s", errs)
	}

	// Nobody has room: it is halted, and says who and what next.
	w.run("", 0, "server", "set", "next", "--state", "draining")
	out, errs = w.run("main\n", 3, "server", "drain", "main", "--max-failures", "1", "--by", "copy")
	for _, want := range []string{"the drain of main is halted: 0 tenants moved, 2 left", "! real-00: ", "next: draining", "go on:      freehold server drain main"} {
		if !strings.Contains(out, want) {
			t.Errorf("halted, it doesn't say %q:\n%s", want, out)
		}
	}
	if !strings.Contains(errs, "2 moves failed, 1 are borne") {
		t.Errorf("halted: %s", errs)
	}
	w.run("", 0, "server", "set", "next", "--state", "active")
	w.run("", 0, "server", "drain", "main", "--detach")
	var d catalog.DrainStatus
	out, _ = w.run("", 0, "server", "drain", "main", "-o", "json") // as it was told at first
	if err := json.Unmarshal([]byte(out), &d); err != nil || d.State != catalog.DrainDone || d.Moved != 2 || d.Way != "copy" || d.MaxFailures != 1 || d.Kept != 2 {
		t.Errorf("%v %s", err, out)
	}
	if _, errs := w.run("", 1, "server", "remove", "main"); !strings.Contains(errs, "keeps databases that tenants have left (2)") {
		t.Errorf("removed: %s", errs)
	}
	out, _ = w.run("", 0, "server", "drain", "main", "-y") // again, there is nothing to do
	if !strings.Contains(out, "main is drained: 0 tenants moved") || !strings.Contains(out, "2 kept databases are dropped by ") {
		t.Errorf("again: %s", out)
	}
	w.run("", 0, "server", "drain", "main", "--detach", "-y")
	out, _ = w.run("", 0, "server", "drain", "main", "--cancel")
	if !strings.Contains(out, "main takes tenants again; 0 tenants moved stay where they went") {
		t.Errorf("cancelled: %s", out)
	}
}
