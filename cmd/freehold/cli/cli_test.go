package cli_test

import (
	"bytes"
	"encoding/json"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"freehold/catalog/catalogtest"
	"freehold/cmd/freehold/cli"
	"freehold/migrations/pgtest"
)

// bench is a catalog with a server, as the environment of the commands has it.
type bench struct{ t *testing.T }

func setup(t *testing.T) bench {
	t.Helper()
	cfg := catalogtest.Config(t)
	file := filepath.Join(t.TempDir(), "master.key")
	if err := cfg.Keyset.Write(file); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FREEHOLD_CATALOG_URL", cfg.URL)
	t.Setenv("FREEHOLD_MASTER_KEY_FILE", file)
	t.Setenv("FREEHOLD_S3_BUCKET", "")
	b := bench{t}
	u, err := url.Parse(pgtest.AdminURL(t))
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	b.run(password, 0, "server", "add", "main", "--url", "postgres://"+u.User.Username()+"@"+u.Host+"/postgres?sslmode=disable")
	return b
}

// run runs a command and wants its exit status.
func (b bench) run(stdin string, status int, args ...string) (stdout, stderr string) {
	b.t.Helper()
	var out, err bytes.Buffer
	if got := cli.Run(b.t.Context(), "test", args, strings.NewReader(stdin), &out, &err); got != status {
		b.t.Errorf("%v: status %d, want %d\n%s", args, got, status, err.String())
	}
	return out.String(), err.String()
}

// Whatever is said wrongly is told in a person's words, with its status.
func TestMistakes(t *testing.T) { //nolint:paralleltest // the environment is the process's
	b := setup(t)
	b.run("", 0, "engine", "add", "up", "--url", "http://127.0.0.1:9/v1")
	b.run("", 0, "model", "add", "chat-1", "--engine", "up")
	for _, c := range []struct {
		args   string
		status int
		want   string // all of stderr, behind the program's name; a prefix when it ends in …
	}{
		{"bogus", 2, "usage: unknown command…"},
		{"tenant bogus", 2, "usage: freehold tenant has no command \"bogus\""},
		{"tenant show", 2, "usage: accepts 1 arg(s), received 0…"},
		{"tenant show nope", 1, "tenant nope: not found"},
		{"tenant list -o xml", 2, "usage: --output is table or json, not \"xml\""},
		{"tenant list --state bogus", 2, "usage: --state is one of provisioning, active…"},
		{"tenant list --limit -1", 2, "usage: --limit is not negative"},
		{"tenant list --schema x", 2, "invalid: schema: want a version such as 3, or <3, <=3, >3, >=3"},
		{"tenant list --older-than 3", 2, "usage: --older-than wants an age such as 90m, 12h or 30d, not \"3\""},
		{"tenant list --newer-than -1h", 2, "usage: --newer-than wants an age…"},
		{"operation list --state bogus", 2, "usage: --state is one of waiting, running…"},
		{"operation list --limit -1", 2, "usage: --limit is not negative"},
		{"operation list --after x", 2, "invalid: after: not the id of an operation"},
		{"operation show nope", 1, "operation nope: not found"},
		{"operation retry", 2, "usage: requires at least 1 arg(s), only received 0…"},
		{"operation retry nope", 1, "operation nope: not found"},
		{"operation cancel nope", 2, "bad configuration:\nFREEHOLD_S3_BUCKET is not set…"},
		{"tenant create acme", 2, "bad configuration:\nFREEHOLD_S3_BUCKET is not set…"},
		{"tenant psql nope", 1, "tenant nope: not found"},
		{"tenant delete nope --grace 7x", 2, "usage: invalid argument \"7x\" for \"--grace\" flag: want a time such as 90m, 12h or 30d"},
		{"tenant delete nope --grace 7d", 1, "tenant nope: not found"},
		{"tenant receipt nope --verify file", 2, "usage: give --verify FILE…"},
		{"key revoke nope k", 1, "tenant nope: not found"},
		{"config set nope pii_mode", 2, "usage: \"pii_mode\" is not NAME=VALUE…"},
		{"config set nope concurrent_request_limit=x", 2, "usage: concurrent_request_limit: want a whole number"},
		{"config set nope audit_log_enabled=perhaps", 2, "usage: audit_log_enabled: want true or false"},
		{"engine add up --url http://h/v1", 1, "engine up: already exists"},
		{"engine add x --url http://h/v1?a=b", 2, "invalid: base_url: want neither query nor fragment"},
		{"engine add X --kind y", 2, "invalid: name: want 1 to 63 of a-z, 0-9, dots, dashes, underscores; kind: want builtin, openai"},
		{"engine remove up", 1, "engine up: state forbids it: models are served by it"},
		{"engine remove nope", 1, "engine nope: not found"},
		{"model add m --engine nope", 2, "invalid: engine: there is none of that name"},
		{"server remove nope", 1, "server nope: not found"},
		{"server add x --url postgres://u:hunter2@h/postgres", 2, "usage: the URL holds a password…"},
		{"migrate up --parallel 0", 2, "usage: --parallel is at least 1"},
		{"migrate up --waves 10,1", 2, "invalid: waves: want rising per cents…"},
		{"migrate up --canary nope", 2, "invalid: canary…"},
		{"migrate up --stream product", 2, "invalid: dir: there are no migrations of the product yet…"},
		{"migrate status nope", 2, "invalid: rollout: want its id…"},
		{"migrate status abcd", 1, "rollout abcd: not found"},
		{"migrate status --state failed", 2, "usage: --state and --tenant narrow --targets"},
		{"migrate status --targets --state bogus", 2, "usage: --state is one of waiting, running…"},
		{"migrate status --targets --watch", 2, "usage: --watch or --targets, not both"},
		{"migrate list --stream bogus", 2, "usage: --stream is freehold or product"},
		{"migrate resume", 1, "no rollout is open: freehold migrate list"},
		{"migrate abort abcd", 1, "rollout abcd: not found"},
		{"dev --tenants 1", 2, "usage: --tenants is at least 2"},
		{"dev --listen x --admin-listen y", 2, "bad configuration:\nFREEHOLD_LISTEN: \"x\" is not host:port\nFREEHOLD_ADMIN_LISTEN: \"y\" is not host:port"},
		{"completion bogus", 2, "usage: unknown command…"},
		{"completion bash x", 2, "usage: unknown command…"},
	} {
		out, err := b.run("", c.status, strings.Fields(c.args)...)
		got := strings.TrimSuffix(strings.TrimPrefix(err, "freehold: "), "\n")
		prefix, part := strings.CutSuffix(c.want, "…")
		if out != "" || got != c.want && (!part || !strings.HasPrefix(got, prefix)) {
			t.Errorf("%s: got %q, want %q", c.args, got, c.want)
		}
		if strings.Contains(err, "hunter2") {
			t.Errorf("%s: the password is told", c.args)
		}
	}
}

// Every listing is one JSON value on stdout, and nothing else.
func TestJSON(t *testing.T) { //nolint:paralleltest // the environment is the process's
	b := setup(t)
	for _, args := range []string{
		"engine add up --url http://127.0.0.1:9/v1 --key-file -", "engine list", "model add chat-1 --engine up", "model list",
		"tenant list", "server list", "server show main", "migrate status", "migrate up", "migrate list", "doctor", "operation list", "version", "catalog migrate",
	} {
		out, err := b.run("sk-hunter2", 0, append(strings.Fields(args), "-o", "json")...)
		if !json.Valid([]byte(out)) || err != "" {
			t.Errorf("%s: got %q and %q", args, out, err)
		}
		if strings.Contains(out, "null") {
			t.Errorf("%s: a list is null: %s", args, out)
		}
		if strings.Contains(out, "hunter2") {
			t.Errorf("%s: the key is told", args)
		}
	}
}

// Without an environment, all that is missing is told at once.
func TestNothingConfigured(t *testing.T) { //nolint:paralleltest // the environment is the process's
	names := []string{"FREEHOLD_CATALOG_URL", "FREEHOLD_MASTER_KEY_FILE", "FREEHOLD_S3_BUCKET", "FREEHOLD_ADMIN_TOKEN_FILE"}
	for _, name := range names {
		t.Setenv(name, "")
	}
	t.Setenv("FREEHOLD_DATA_DIR", t.TempDir())
	_, err := bench{t}.run("", 2, "serve", "--listen", "nonsense")
	for _, want := range append(names, `FREEHOLD_LISTEN: "nonsense"`) {
		if !strings.Contains(err, want) {
			t.Errorf("%s isn't named: %s", want, err)
		}
	}
}
