package fleet_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/tenantdb/fleet"
)

// product is a set of the product's, numbered from 1: each string a file, its Up and,
// behind "--down", its Down. What stands before the first statement is its head.
func product(b *bench, files ...string) *migrations.Set {
	b.Helper()
	var list []migrations.File
	for i, text := range files {
		head := ""
		for strings.HasPrefix(text, "-- ") {
			line, rest, _ := strings.Cut(text, "\n")
			head, text = head+line+"\n", rest
		}
		up, down, both := strings.Cut(text, "--down")
		body := head + "-- +goose Up\n" + up + "\n"
		if both {
			body += "-- +goose Down\n" + down + "\n"
		}
		list = append(list, migrations.File{Name: fmt.Sprintf("%05d_step.sql", i+1), Body: body})
	}
	set, err := migrations.Given(list)
	b.ok(err)
	return &set
}

const insertTenants = `
insert into tenants (id, slug, name, state, server_id, database, role, secret, secret_key_id, epoch, schema_version, product_version)
select x.id, s.name || '-' || x.i, 'T', 'active', s.id, 't_' || x.id, 't_' || x.id, '', 0, 0, 4, 0
  from servers s, (select i, gen_random_uuid() as id from generate_series(1, $2::bigint) i) x where s.name = $1`

// registered adds a server that isn't there, with tenants, whose databases aren't.
func (b *bench) registered(server string, n int) {
	b.Helper()
	_, err := b.cat.AddServer(b.Context(), catalog.ServerSpec{
		Name: server, Host: server + ".example", SSLMode: "disable", AdminUser: "admin", Password: "x",
		Version: 150000, MaxConnections: 100, Reserve: 10,
	})
	b.ok(err)
	_, err = b.catalogDB().Exec(b.Context(), insertTenants, server, n)
	b.ok(err)
}

func (b *bench) plan(f *fleet.Fleet, spec fleet.RolloutSpec) fleet.Plan {
	b.Helper()
	p, err := f.Plan(b.Context(), spec)
	b.ok(err)
	if len(p.Problems) > 0 != (p.Refusal() != nil) || p.Refusal() != nil && !errors.Is(p.Refusal(), catalog.ErrConflict) {
		b.Errorf("refusal %v, problems %q", p.Refusal(), p.Problems)
	}
	return p
}

// set moves a tenant's recorded versions, and its state.
func (b *bench) set(slug string, v catalog.Versions, state catalog.State) {
	b.Helper()
	_, err := b.catalogDB().Exec(b.Context(), `update tenants set schema_version = $2, product_version = $3, state = $4 where slug = $1`,
		slug, v.Freehold, v.Product, string(state))
	b.ok(err)
}

func TestPlan(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.registered("east", 20)
	b.registered("west", 10)
	set := product(b, "create table app.a ();", "alter table app.a add b text;", "-- freehold:contracts 2\nalter table app.a drop b;")
	b.set("east-1", catalog.Versions{Freehold: 4, Product: 3}, catalog.Active)
	b.set("east-2", catalog.Versions{Freehold: 4, Product: 1}, catalog.Active)
	b.set("east-3", catalog.Versions{Freehold: 4, Product: 1}, catalog.Suspended)
	b.set("west-1", catalog.Versions{Freehold: 4, Product: 9}, catalog.Active)
	b.set("west-2", catalog.Versions{Freehold: 4}, catalog.Provisioning)
	b.set("west-3", catalog.Versions{Freehold: 4}, catalog.Deleting)
	_, err := b.catalogDB().Exec(t.Context(), `update servers set state = 'down' where name = 'west'`)
	b.ok(err)

	p := b.plan(b.fleet, fleet.RolloutSpec{Stream: catalog.StreamProduct, Set: set, Target: 2, Canary: []string{"east-2", "west-4"}})
	if p.Target != 2 || p.Latest != 3 || p.Tenants() != 25 || p.Current != 2 || p.Suspended != 1 || p.Nothing() ||
		strings.Join(p.Ahead, " ") != "west-1" || shape(p.Waves) != "canary:2 1%:1 10%:2 100%:20" || len(p.Problems) > 0 {
		t.Errorf("%+v", p)
	}
	if len(p.Pending) != 2 || p.Pending[0].Name != "00001_step.sql" || len(p.Files) != 2 {
		t.Errorf("pending: %+v", p.Pending)
	}
	if len(p.Servers) != 2 || p.Servers[0] != (fleet.PlanServer{Name: "east", State: "active", Tenants: 18, Parallel: 4, Reserve: 10}) ||
		p.Servers[1].Tenants != 7 || p.Servers[1].State != catalog.ServerDown {
		t.Errorf("servers: %+v", p.Servers)
	}
	if said := strings.Join(p.Warnings, "; "); !strings.Contains(said, "server west is down: its 7 tenants fail") || !strings.Contains(said, "beyond version 3") {
		t.Errorf("warnings: %s", said)
	}
	for _, w := range p.Waves[:1] {
		for _, tenant := range w.Tenants {
			if from := map[string]int64{"east-2": 1, "west-4": 0}; tenant.From != from[tenant.Slug] || tenant.ServerID == "" {
				t.Errorf("canary %+v", tenant)
			}
		}
	}

	// What takes away waits until all are where nobody uses it.
	p = b.plan(b.fleet, fleet.RolloutSpec{Stream: catalog.StreamProduct, Set: set})
	early, ok := errors.AsType[*fleet.TooEarly](p.Refusal())
	if !ok || early.Needs != 2 || early.First != 2 || len(early.Tenants) != 25 || len(early.Nodes) != 0 || !strings.Contains(early.Error(), "--to 2") {
		t.Errorf("%+v: %v", p.Problems, early)
	}

	// A server's reserve bounds what is done there at once.
	_, err = b.catalogDB().Exec(t.Context(), `update servers set reserve = 5 where name = 'east'`)
	b.ok(err)
	p = b.plan(b.fleet, fleet.RolloutSpec{Stream: catalog.StreamProduct, Set: set, Target: 2})
	if p.Options.Parallel != 2 || len(p.Problems) > 0 {
		t.Errorf("parallel by default: %d, %q", p.Options.Parallel, p.Problems)
	}
	p = b.plan(b.fleet, fleet.RolloutSpec{Stream: catalog.StreamProduct, Set: set, Target: 2, Options: catalog.RolloutOptions{Parallel: 7}})
	if room, ok := errors.AsType[*fleet.NoRoom](p.Refusal()); !ok || *room != (fleet.NoRoom{Server: "east", Parallel: 7, Reserve: 5}) || len(p.Problems) != 1 {
		t.Errorf("%+v", p.Problems)
	}
}

// A migration that was rolled out stays as it was, where it was.
func TestPlanFiles(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.registered("east", 2)
	const one, two = "create table app.a ();", "alter table app.a add b text;"
	spec := fleet.RolloutSpec{Stream: catalog.StreamProduct, Set: product(b, one, two)}
	if p := b.plan(b.fleet, spec); len(p.Problems) > 0 {
		t.Fatalf("%q", p.Problems)
	}
	if _, err := b.fleet.Plan(t.Context(), fleet.RolloutSpec{Stream: catalog.StreamProduct}); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("no migrations yet: %v", err)
	}
	r, err := b.fleet.StartRollout(t.Context(), spec)
	b.ok(err)
	p := b.plan(b.fleet, fleet.RolloutSpec{Stream: catalog.StreamProduct})
	if open, ok := errors.AsType[*catalog.OpenRollout](p.Refusal()); !ok || open.ID != r.ID || p.Target != 2 {
		t.Errorf("%+v", p.Problems)
	}
	if _, err := b.fleet.StartRollout(t.Context(), spec); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("a second one: %v", err)
	}
	if p := b.plan(b.fleet, fleet.RolloutSpec{Stream: catalog.StreamFreehold}); len(p.Problems) > 0 {
		t.Errorf("the other stream: %+v", p.Problems)
	}
	_, err = b.cat.AbortRollout(t.Context(), r.ID, "test", "enough")
	b.ok(err)

	spec.Set = product(b, one, two+" -- edited")
	if p := b.plan(b.fleet, spec); len(p.Problems) > 0 {
		t.Errorf("nobody has it yet: %q", p.Problems)
	}
	b.set("east-1", catalog.Versions{Freehold: 4, Product: 2}, catalog.Active)
	p = b.plan(b.fleet, spec)
	if edited, ok := errors.AsType[*catalog.EditedFile](p.Refusal()); !ok || edited.Version != 2 || len(p.Problems) != 1 {
		t.Errorf("edited: %q", p.Problems)
	}
	gone, err := migrations.Given([]migrations.File{
		{Name: "00002_step.sql", Body: "-- +goose Up\n" + two + "\n"}, {Name: "00003_step.sql", Body: "-- +goose Up\nselect 1;\n"},
	})
	b.ok(err)
	p = b.plan(b.fleet, fleet.RolloutSpec{Stream: catalog.StreamProduct, Set: &gone})
	if wrong, ok := errors.AsType[*fleet.Misnumbered](p.Refusal()); !ok || !wrong.Gone || wrong.Version != 1 {
		t.Errorf("gone: %q", p.Problems)
	}
}

// A node of an older release, or one that doesn't say, keeps what it uses.
func TestPlanContractionNodes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.registered("east", 2)
	f := b.newFleet(fleet.Config{Tenant: migrations.Tenant().With(fstest.MapFS{
		extra: {Data: fmt.Appendf(nil, "-- freehold:contracts %d\n-- +goose Up\ndrop table freehold.files;\n", latest)},
	})})
	b.set("east-1", catalog.Versions{Freehold: latest}, catalog.Active)
	b.set("east-2", catalog.Versions{Freehold: latest}, catalog.Active)
	spec := fleet.RolloutSpec{Stream: catalog.StreamFreehold}
	if p := b.plan(f, spec); len(p.Problems) > 0 || p.Target != latest+1 || p.Tenants() != 2 {
		t.Fatalf("%+v", p)
	}
	const addNode = `insert into nodes (id, name, version, seen, schema_min, schema_max) values (gen_random_uuid(), $1, 'v', 0, $2, $3)`
	db := b.catalogDB()
	for name, most := range map[string]int64{"current": latest, "older": latest - 1, "silent": 0} {
		_, err := db.Exec(t.Context(), addNode, name, min(most, 1), most)
		b.ok(err)
	}
	p := b.plan(f, spec)
	early, ok := errors.AsType[*fleet.TooEarly](p.Refusal())
	if !ok || strings.Join(early.Nodes, " ") != "older silent" || len(early.Tenants) > 0 || early.First != 0 {
		t.Errorf("%q", p.Problems)
	}
}

// Whatever is wrong with a spec is said at once.
func TestPlanMistakes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.fleet.Plan(t.Context(), fleet.RolloutSpec{
		Stream: "bogus", Target: -1, Waves: []float64{10, 1}, Deadline: -1,
		Options: catalog.RolloutOptions{
			Parallel: -1, Budget: "101%", LockTimeout: time.Hour, StatementTimeout: time.Microsecond, Retries: 1000,
			Soak: 1000 * time.Hour, GateFailures: 0.5, GateLatency: 1e9,
		},
	})
	invalid, ok := errors.AsType[*catalog.Invalid](err)
	if !ok || invalid.Field != "stream" {
		t.Fatalf("%v", err)
	}
	for _, field := range []string{
		"stream", "to", "waves", "deadline", "parallel", "budget", "lock_timeout", "statement_timeout", "retries", "soak", "gate_failures", "gate_latency",
	} {
		if !strings.Contains("; "+invalid.Text, "; "+field+": ") {
			t.Errorf("nothing about %s in: %s", field, invalid.Text)
		}
	}
	if _, err := b.fleet.Plan(t.Context(), fleet.RolloutSpec{Stream: catalog.StreamFreehold, Target: latest + 7}); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("a target that isn't there: %v", err)
	}
	p := b.plan(b.fleet, fleet.RolloutSpec{Stream: catalog.StreamFreehold, Options: catalog.RolloutOptions{Soak: -1, GateFailures: -1, Budget: "3"}})
	if o := p.Options; o.Soak != 0 || o.GateFailures != 0 || o.GateLatency != 2 || o.Budget != "3" || o.LockTimeout != 3*time.Second || o.Retries != 5 {
		t.Errorf("options: %+v", o)
	}
	if shape(p.Waves) != "100%:0" || p.Nothing() {
		t.Errorf("of nobody: %+v", p)
	}
}
