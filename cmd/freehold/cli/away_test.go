package cli_test

import (
	"encoding/json"
	"strings"
	"testing"

	"freehold/migrations/pgtest"
)

// What is half done because a server is away is audited all the same, and told
// with the commands that lead on.
func TestServerAway(t *testing.T) { //nolint:paralleltest // the environment is the process's
	w := setupTown(t, 1, 1)
	w.store()
	w.exec(`update servers set port = 1 where name = 'main'`)
	_, said := w.run("", 1, "tenant", "create", "acme", "--server", "main")
	var op string
	w.ok(w.rows.QueryRow(t.Context(), `select id::text from operations where kind = 'onboard' and state = 'waiting'`).Scan(&op))
	for _, want := range []string{"tenant acme: ", "freehold operation show " + op + " --wait", "freehold key create acme --scope all"} {
		if !strings.Contains(said, want) {
			t.Errorf("create doesn't say %q: %s", want, said)
		}
	}
	w.run("", 0, "operation", "show", op)
	w.run("", 0, "key", "create", "acme", "--scope", "all")

	var made struct{ Key struct{ ID string } }
	out, _ := w.run("", 0, "key", "create", "real-00", "--expires-in", "30d", "-o", "json")
	w.ok(json.Unmarshal([]byte(out), &made))
	changes := map[string]string{"key.revoke": "key revoke real-00 " + made.Key.ID}
	if pgtest.Long() { // each waits for the tenant's database
		changes["config.set"], changes["tenant.suspend"] = "config set real-00 pii_mode=block", "tenant suspend real-00"
	}
	for action, args := range changes {
		if _, said := w.run("", 1, strings.Fields(args)...); !strings.Contains(said, "run this again") {
			t.Errorf("%s: %s", args, said)
		}
		if n := w.audited(action); n != 1 {
			t.Errorf("%s: %d rows of audit", action, n)
		}
	}
	if n := w.audited("tenant.create"); n != 1 {
		t.Errorf("tenant.create: %d rows of audit", n)
	}
	if _, said := w.run("hunter2", 1, "server", "add", "near", "--url", "postgres://admin@127.0.0.1:1/postgres"); !strings.HasPrefix(said, "freehold: server near: ") || strings.Contains(said, "hunter2") {
		t.Errorf("server add: %s", said)
	}
}

func (w *town) audited(action string) (n int) {
	w.t.Helper()
	w.ok(w.rows.QueryRow(w.t.Context(), `select count(*) from operator_audit where action = $1`, action).Scan(&n))
	return n
}

// A line for people never ends in blanks: at the terminal's edge they are lines of
// their own.
func TestNoBlanksAtTheEnd(t *testing.T) { //nolint:paralleltest // the environment is the process's
	b := setup(t)
	for _, args := range []string{"doctor", "server list", "server show main", "tenant list", "operation list", "token list", "version"} {
		out, _ := b.run("", 0, strings.Fields(args)...)
		for line := range strings.Lines(out) {
			if strings.TrimRight(line, " \n")+"\n" != line {
				t.Errorf("%s: %q", args, line)
			}
		}
	}
}
