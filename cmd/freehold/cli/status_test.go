package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/cmd/freehold/need"
	"freehold/migrations"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/fleet"
)

// town is a platform with many tenants, of which a few have databases.
type town struct {
	bench
	rows  *pgx.Conn // the catalog's
	fleet *fleet.Fleet
	real  []catalog.Tenant
}

// setupTown registers tenants, all but some of them on server far, which nobody can
// reach. Nothing is wrong with any.
func setupTown(t *testing.T, tenants, some int) *town {
	t.Helper()
	w := &town{bench: setup(t)}
	keys, err := catalog.ReadKeyset(os.Getenv("FREEHOLD_MASTER_KEY_FILE"))
	w.ok(err)
	cat, err := catalog.Open(t.Context(), catalog.Config{URL: os.Getenv("FREEHOLD_CATALOG_URL"), Keyset: keys})
	w.ok(err)
	t.Cleanup(cat.Close)
	w.fleet, err = fleet.New(fleet.Config{Catalog: cat})
	w.ok(err)
	w.rows, err = pgx.Connect(t.Context(), os.Getenv("FREEHOLD_CATALOG_URL"))
	w.ok(err)
	t.Cleanup(func() { _ = w.rows.Close(t.Context()) })
	for i := range some {
		made, _, err := w.fleet.Create(t.Context(), catalog.TenantSpec{Slug: fmt.Sprintf("real-%02d", i)})
		w.ok(err)
		w.real = append(w.real, made)
	}
	w.exec(`insert into servers (id, name, host, port, ssl_mode, admin_user, admin_secret, secret_key_id, version, max_connections, budget, reserve, sync_method)
		select gen_random_uuid(), 'far', '127.0.0.1', 1, ssl_mode, admin_user, admin_secret, secret_key_id, version, max_connections, budget, reserve, 'syncfs' from servers`)
	w.exec(`insert into tenants (id, slug, name, state, server_id, database, role, secret, secret_key_id, epoch, schema_version, named)
		select gen_random_uuid(), 'far-' || i, 'Far', 'active', s.id, 'far_' || i, 'far_' || i, '', 0, 0, $2, true
		  from generate_series(1, $1::integer) i, servers s where s.name = 'far'`, tenants-some, latest(t))
	// A node that never falls silent.
	w.exec(`insert into nodes (id, name, version, heartbeat_at) values (gen_random_uuid(), 'n-1', 'test', now() + interval '1 hour')`)
	return w
}

func latest(t *testing.T) int64 {
	t.Helper()
	v, err := migrations.Tenant().Latest()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (w *town) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *town) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.rows.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

var clock = regexp.MustCompile(`[0-9]+ (s|min|h)\b`)

// status runs the command both ways and wants its exit status; both say the same.
func (w *town) status(exit int) (text string, s need.Status) {
	w.t.Helper()
	text, errs := w.run("", exit, "status")
	raw, more := w.run("", exit, "status", "-o", "json")
	if errs+more != "" {
		w.t.Errorf("stderr: %q %q", errs, more)
	}
	w.ok(json.Unmarshal([]byte(raw), &s))
	for _, n := range s.Needs {
		// Seconds go by between the two.
		if !strings.Contains(clock.ReplaceAllString(text, "…"), clock.ReplaceAllString("! "+n.What+" → "+n.Command+"\n", "…")) {
			w.t.Errorf("the screen lacks %+v:\n%s", n, text)
		}
	}
	if got := strings.Count(text, "\n! "); got != len(s.Needs) {
		w.t.Errorf("%d lines for %d needs:\n%s", got, len(s.Needs), text)
	}
	return text, s
}

func kinds(s need.Status) string {
	var list []string
	for _, n := range s.Needs {
		list = append(list, n.Kind)
	}
	return strings.Join(list, " ")
}

// Among 2,000 tenants, each of five planted faults is named, and nothing else.
func TestStatusNamesFiveFaults(t *testing.T) { //nolint:paralleltest // the environment is the process's
	some := 2
	if pgtest.Long() {
		some = 20
	}
	w := setupTown(t, 2000, some)
	text, s := w.status(0)
	if !strings.HasPrefix(text, "2000 tenants (2000 active), 2 servers, 1 live node\n") || !strings.HasSuffix(text, "nothing needs you\n") {
		t.Errorf("without faults:\n%s", text)
	}
	if s.Tenants["active"] != 2000 || len(s.Servers) != 2 || len(s.Nodes) != 1 || !s.Nodes[0].Live {
		t.Errorf("%+v", s)
	}

	// A database that somebody dropped by hand, found by the reconciler.
	super, err := pgx.Connect(t.Context(), pgtest.SuperURL(t))
	w.ok(err)
	t.Cleanup(func() { _ = super.Close(t.Context()) })
	_, err = super.Exec(t.Context(), "drop database "+w.real[0].Database+" with (force)")
	w.ok(err)
	_, err = w.fleet.Reconcile(t.Context())
	w.ok(err)
	// An onboarding that failed.
	op := uuid.NewString()
	w.exec(`insert into operations (id, kind, tenant, actor, state, error, ended_at)
		select $1, 'onboard', id, 'x', 'failed', E'the object store\nis away', now() from tenants where slug = 'far-7'`, op)
	w.exec(`insert into operation_steps (operation, n, name, state, error) values ($1, 1, 'register', 'done', ''), ($1, 2, 'prefix', 'failed', 'is away')`, op)
	w.exec(`update tenants set schema_version = 1 where slug = 'far-8'`)
	w.exec(`update servers set max_databases = 2000 where name = 'far'`)
	letter := uuid.NewString()
	w.exec(`insert into mail_outbox (id, tenant, kind, recipient, attempts, given_up_at, error)
		select $1, id, 'welcome', 'nobody@example.com', 5, now(), 'refused for good' from tenants where slug = 'far-9'`, letter)

	began := time.Now()
	text, s = w.status(1)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s although a server is away", took)
	}
	if got := kinds(s); got != "operation_failed finding server_near_limit tenant_below_target mail_stuck" {
		t.Fatalf("needs: %s\n%s", got, text)
	}
	for i, want := range []struct{ what, name, command string }{
		{"1 operation failed (onboard, at step prefix) for far-7: the object store is away", "far-7", "freehold operation retry " + op},
		{"database " + w.real[0].Database + " of tenant real-00 is not on server main", "real-00", "freehold tenant show real-00"},
		{"server far is near its limit: databases", "far", "freehold server show far"},
		{"1 tenant below schema", "far-8", "freehold migrate up"},
		{"1 mail not delivered (1 given up) to far-9: refused for good", "far-9", "freehold mail retry " + letter},
	} {
		n := s.Needs[i]
		if !strings.HasPrefix(n.What, want.what) || !slices.Equal(n.Names, []string{want.name}) || n.Command != want.command || n.Count != 1 {
			t.Errorf("need %+v, want %+v", n, want)
		}
	}
	// Each command can be pasted: it is known, and does something.
	for _, n := range s.Needs {
		if n.Kind == need.TenantBelowTarget {
			continue // its server is away
		}
		w.run("", 0, strings.Fields(n.Command)[1:]...)
	}
	out, _ := w.run("", 1, "doctor")
	for _, want := range []string{"of tenant real-00 is not on server main", "far could not be compared with the catalog"} {
		if !strings.Contains(out, want) {
			t.Errorf("doctor lacks %q:\n%s", want, out)
		}
	}
	if _, s = w.status(1); kinds(s) != "finding server_near_limit tenant_below_target" {
		t.Errorf("after two fixes: %s", kinds(s))
	}
}

// A trouble of many is one line.
func TestStatusGroups(t *testing.T) { //nolint:paralleltest // the environment is the process's
	w := setupTown(t, 1000, 0)
	w.exec(`insert into operations (id, kind, tenant, actor, state, error, created_at)
		select gen_random_uuid(), 'onboard', id, 'x', 'failed', 'no room', now() - random() * interval '1 hour' from tenants where slug <= 'far-3'`)
	w.exec(`update tenants set schema_version = 1 where slug like 'far-5%'`)
	w.exec(`insert into findings (kind, object, server, tenant, what, fix)
		select 'role_missing', 'far/' || slug, 'far', id, 'role of ' || slug || ' is missing', 'freehold tenant show ' || slug from tenants where slug like 'far-6%'`)
	text, s := w.status(1)
	if got := kinds(s); got != "operation_failed finding tenant_below_target" {
		t.Fatalf("needs: %s\n%s", got, text)
	}
	for i, want := range []struct {
		count   int
		command string
	}{{224, "freehold operation list --state failed --kind onboard"}, {111, "freehold doctor"}, {111, "freehold migrate up"}} {
		n := s.Needs[i]
		if n.Count != want.count || len(n.Names) != 3 || n.Command != want.command || !strings.Contains(n.What, " more") {
			t.Errorf("%+v, want %+v", n, want)
		}
	}
	out, _ := w.run("", 0, strings.Fields(s.Needs[0].Command)[1:]...)
	if n := strings.Count(out, "failed"); n != 100 {
		t.Errorf("%d lines in a list of 100", n)
	}
}

// What nodes say of themselves, and their silence, is seen without asking one.
func TestStatusSeesNodes(t *testing.T) { //nolint:paralleltest // the environment is the process's
	w := setupTown(t, 0, 0)
	w.exec(`insert into nodes (id, name, version, heartbeat_at, health) values
		(gen_random_uuid(), 'n-2', 'test', now() + interval '1 hour', '{"servers": [{"name": "far", "breaker": "open", "error": "timeout"}, {"name": "main", "wait_ms": 2500, "waiting": 7}]}'),
		(gen_random_uuid(), 'n-3', 'test', now() + interval '1 hour', '{"servers": [{"name": "far", "breaker": "open"}, {"name": "gone", "breaker": "open"}]}'),
		(gen_random_uuid(), 'n-4', 'test', now() + interval '1 hour', '["of another release"]'),
		(gen_random_uuid(), 'n-5', 'test', now() - interval '1 minute', '{"servers": [{"name": "main", "breaker": "open"}]}'),
		(gen_random_uuid(), 'n-6', 'test', now() - interval '11 minutes', '{}')`)
	text, s := w.status(1)
	for _, want := range []string{
		"! server far can't be reached by n-2, n-3: timeout → freehold doctor\n",
		"! server main is near its limit: connections: the oldest of 7 callers waits for 2500 ms → freehold server show main\n",
		"! node n-5 has been silent for 60 s: start it again there → freehold serve\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q:\n%s", want, text)
		}
	}
	if got := kinds(s); got != "breaker_open server_near_limit node_silent" || s.Live() != 4 {
		t.Errorf("%s, %d live", got, s.Live())
	}
	w.exec("update servers set state = 'down', max_databases = 1, files_a_database = 1 where name = 'far'") // and full, which is old
	if _, s = w.status(1); kinds(s) != "server_down server_near_limit node_silent" {
		t.Errorf("a server that is down: %s", kinds(s))
	}
	// A breaker that is half-open is one whose server nobody has tried again, or is
	// being tried.
	w.exec("update servers set state = 'active', max_databases = 0 where name = 'far'")
	w.exec(`update nodes set health = '{"servers": [{"name": "far", "breaker": "half-open"}]}' where name = 'n-2'`)
	w.exec(`update nodes set health = '{}' where name = 'n-3'`)
	if _, s = w.status(1); kinds(s) != "node_silent" {
		t.Errorf("half-open, and idle: %s", kinds(s))
	}
	w.exec(`update nodes set health = '{"servers": [{"name": "far", "breaker": "half-open", "waiting": 1}]}' where name = 'n-2'`)
	if _, s = w.status(1); kinds(s) != "breaker_open node_silent" {
		t.Errorf("half-open, and tried: %s", kinds(s))
	}
	// One that no node needs, and that the workers can't measure.
	w.exec(`update nodes set health = '{}' where name = 'n-2'`)
	w.exec(`update servers set measured_at = now() - case name when 'far' then interval '25 minutes' else interval '4 minutes' end`)
	if _, s = w.status(1); kinds(s) != "node_silent" { // nobody measures
		t.Errorf("not measured: %s", kinds(s))
	}
	w.exec(`insert into chores (name, done_at) values ('measure-servers', now() - interval '4 minutes')`)
	text, s = w.status(1)
	if kinds(s) != "server_silent node_silent" || !strings.Contains(text, "! server far has not answered the workers for 25 min → freehold doctor\n") {
		t.Errorf("silent:\n%s", text)
	}
}

// The rest of what can be wrong.
func TestStatusNamesTheRest(t *testing.T) { //nolint:paralleltest // the environment is the process's
	w := setupTown(t, 3, 0)
	w.exec(`insert into operations (id, kind, tenant, actor, run_at) select gen_random_uuid(), 'delete', id, 'x', now() - interval '3 minutes' from tenants where slug = 'far-1'`)
	w.exec(`insert into operations (id, kind, tenant, actor, state, run_at, lease_until) select gen_random_uuid(), 'onboard', id, 'x', 'running', now() - interval '3 minutes', now() - interval '2 minutes' from tenants where slug = 'far-2'`)
	w.exec(`insert into operations (id, kind, tenant, actor, run_at) select gen_random_uuid(), 'delete', id, 'x', now() + interval '7 days' from tenants where slug = 'far-3'`)
	w.exec(`update tenants set created_at = now() - interval '3 hours'`)
	w.exec(`insert into chores (name, done_at, error, error_at) values ('measure', now() - interval '1 hour', 'far is away', now()), ('catalog-backup', now() - interval '6 hours', '', null), ('mail', now(), '', null), ('ready-databases', now() - interval '1 minute', 'a blip', now())`)
	w.exec(`update servers set ready = 4`)
	w.exec(`insert into ready_databases (id, server_id, secret, secret_key_id, state, created_at) select gen_random_uuid(), id, '', 0, 'ready', now() - interval '1 hour' from servers, generate_series(1, case name when 'far' then 1 else 2 end)`)
	// Mended by the reconciler itself, unless that lasts; and a failure of the past.
	w.exec(`insert into findings (kind, object, what, since) values ('role_left', 'a', 'role a was left', now() - interval '2 hours'), ('prefix_left', 'b', 'prefix b was left', now())`)
	w.exec(`insert into operations (id, kind, tenant, actor, state, created_at) select gen_random_uuid(), 'onboard', id, 'x', 'failed', now() - interval '1 hour' from tenants where slug = 'far-2'`)
	text, s := w.status(1)
	if got := kinds(s); got != "operation_overdue operation_overdue finding catalog_backup_old chore_failed chore_failed ready_low" {
		t.Fatalf("%s\n%s", got, text)
	}
	for _, want := range []string{
		"! role a was left → freehold doctor\n",
		"! the catalog has no backup → freehold catalog backup\n",
		"! periodic work catalog-backup was last done 6 h ago: no worker does it → freehold worker\n",
		"! periodic work measure failed: far is away → freehold doctor\n",
		"! server far has 1 of 4 ready databases, and none is being made → freehold server show far\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q:\n%s", want, text)
		}
	}
	// What was done once, or by another release, is nobody's business; a restore that
	// stopped half way is, and so is what failed and isn't tried any more.
	w.exec(`delete from chores`)
	w.exec(`insert into chores (name, done_at, error, error_at) values
		('catalog-restore', now() - interval '30 days', '', null), ('renamed', now() - interval '30 days', '', null),
		('renamed-too', 'epoch', 'x', now() - interval '30 days'), ('reconcile', 'epoch', 'no catalog', now() - interval '2 hours')`)
	text, _ = w.status(1)
	if strings.Contains(text, "renamed") || strings.Contains(text, "catalog-restore") || strings.Contains(text, "freehold catalog restore") ||
		!strings.Contains(text, "! periodic work reconcile failed 2 h ago, and no worker does it since: no catalog → freehold worker\n") {
		t.Errorf("chores of the past:\n%s", text)
	}
	w.exec(`update chores set done_at = 'epoch', error = 'platform/catalog/k', error_at = now() where name = 'catalog-restore'`)
	if text, _ = w.status(1); !strings.Contains(text, "! the restore of the catalog from platform/catalog/k has not come to its end → freehold catalog restore\n") {
		t.Errorf("a restore that stopped:\n%s", text)
	}
	// All ready ones were claimed just now: the next round makes more.
	w.exec(`delete from ready_databases`)
	if _, s = w.status(1); !strings.Contains(kinds(s), "ready_low") {
		t.Errorf("none ready, and nobody at it: %s", kinds(s))
	}
	w.exec(`insert into chores (name) values ('ready-databases')`)
	if _, s = w.status(1); strings.Contains(kinds(s), "ready_low") {
		t.Errorf("none ready for a moment: %s", kinds(s))
	}
	w.exec(`insert into ready_databases (id, server_id, secret, secret_key_id, state, created_at) select gen_random_uuid(), id, '', 0, 'ready', now() - interval '1 hour' from servers, generate_series(1, case name when 'far' then 1 else 2 end)`)
	// A worker at work: what waits is in a queue. A backup of yesterday is too old.
	w.exec(`update operations set lease_until = now() + interval '1 minute' where state = 'running'`)
	w.exec(`insert into catalog_backups (key, bytes, seq, made_at) values ('k', 1, 1, now() - interval '25 hours')`)
	w.exec(`delete from chores`)
	text, s = w.status(1)
	if got := kinds(s); got != "finding catalog_backup_old ready_low" || !strings.Contains(text, "the newest backup of the catalog is 25 h old") {
		t.Errorf("%s\n%s", got, text)
	}
}

// Without a node there is one thing to do; a catalog that is away is an error.
func TestStatusWithoutNodes(t *testing.T) { //nolint:paralleltest // the environment is the process's
	b := setup(t)
	out, _ := b.run("", 1, "status")
	if !strings.Contains(out, "! no node serves → freehold serve\n") {
		t.Errorf("%s", out)
	}
	t.Setenv("FREEHOLD_CATALOG_URL", "postgres://nobody:hunter2@127.0.0.1:1/none")
	out, errs := b.run("", 1, "status")
	if out != "" || errs == "" || strings.Contains(errs, "hunter2") {
		t.Errorf("%q %q", out, errs)
	}
}
