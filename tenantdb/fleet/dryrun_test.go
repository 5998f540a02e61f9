package fleet_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/tenantdb/fleet"
)

const selectScratch = `
select count(*) from pg_database where datname like 'freehold\_scratch\_%' and shobj_description(oid, 'pg_database') = $1`

// scratch counts the databases that this catalog's dry runs have left.
func (b *bench) scratch() int64 {
	b.Helper()
	mark, err := b.cat.CatalogID(b.Context())
	b.ok(err)
	return one[int64](b, b.super("postgres"), selectScratch, "freehold "+mark)
}

// A dry run does all on a clone, sees what it does there, and leaves nothing.
func TestDryRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.create("acme")
	b.create("globex")
	set := product(b,
		"create schema app; create table app.notes (id bigint primary key, body varchar(40));\n"+
			"insert into app.notes select i, 'note ' || i from generate_series(1, 3000) i;\n"+
			"insert into app.notes select 0, tenant::text from freehold.tenant_identity;",
		"alter table app.notes alter body type integer using length(body);",
		"-- +goose NO TRANSACTION\ncreate index concurrently notes_body on app.notes (body);",
		"alter table app.notes add extra text; create table app.tags (id bigint); drop index app.notes_body;",
	)
	spec := fleet.RolloutSpec{Stream: catalog.StreamProduct, Set: set}
	r, err := b.fleet.DryRun(t.Context(), spec, fleet.DryRunOptions{Tenant: "acme"})
	b.ok(err)
	if r.From != 0 || r.To != 4 || len(r.Steps) != 4 || r.Failure != nil || r.Server != "pg-1" || r.Bytes == 0 || r.BytesAfter <= r.Bytes ||
		r.Fleet.Tenants != 2 || r.Fleet.Estimated <= 0 || r.Fleet.Soak != 30*time.Second {
		t.Fatalf("%+v", r)
	}
	made, rewritten, index, last := r.Steps[0], r.Steps[1], r.Steps[2], r.Steps[3]
	if strings.Join(made.Created, ", ") != "table app.notes" || len(made.Locks)+len(made.Rewrites)+len(made.Built) > 0 || made.WAL <= 0 {
		t.Errorf("made: %+v", made)
	}
	if len(rewritten.Rewrites) != 2 || rewritten.Rewrites[1].On != "app.notes" || rewritten.Rewrites[0].Relation != "app.notes" || rewritten.Rewrites[0].Bytes < 3000*20 ||
		blocked(rewritten, "app.notes") != "reads and writes" || rewritten.Took <= 0 {
		t.Errorf("rewritten: %+v", rewritten)
	}
	if !index.NoTx || len(index.Built) != 1 || index.Built[0].On != "app.notes" || index.Built[0].Invalid || blocked(index, "app.notes") != "" {
		t.Errorf("index: %+v", index)
	}
	if strings.Join(last.Created, ", ") != "table app.tags" || strings.Join(last.Dropped, ", ") != "index app.notes_body" || len(last.Rewrites) > 0 {
		t.Errorf("last: %+v", last)
	}
	for _, s := range r.Steps {
		for _, l := range s.Locks {
			if l.Held < 0 || l.Held > s.Took+time.Second || strings.HasPrefix(l.Relation, "product.schema_version") || l.Kind == "" {
				t.Errorf("%s: %+v", s.File, l)
			}
		}
	}
	if n := one[int64](b, b.super(acme.Database), "select count(*) from pg_namespace where nspname in ('app', 'product')"); n != 0 {
		t.Error("the tenant's own database was migrated")
	}

	// Without rows the versions are there all the same, and nothing else is.
	f := b.newFleet(fleet.Config{Tenant: with("create table freehold.notes as select 1 / (1 - count(*)) as n from freehold.tenant_identity;")})
	r, err = f.DryRun(t.Context(), fleet.RolloutSpec{Stream: catalog.StreamFreehold}, fleet.DryRunOptions{Tenant: "acme", SchemaOnly: true})
	if err != nil || r.From != latest || r.To != latest+1 || !r.SchemaOnly {
		t.Errorf("schema only: %+v %v", r, err)
	}
	if n := b.scratch(); n != 0 {
		t.Errorf("%d clones are left", n)
	}
}

// blocked is what the worst lock on a relation keeps from others.
func blocked(s fleet.DryRunStep, relation string) (worst string) {
	for _, l := range s.Locks {
		if l.Relation == relation && len(l.Blocks) > len(worst) {
			worst = l.Blocks
		}
	}
	return worst
}

// What fails on the clone is told by file and reason; nobody is left anything of it.
func TestDryRunFails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create("acme")
	with := func(sql ...string) fleet.RolloutSpec {
		return fleet.RolloutSpec{Stream: catalog.StreamProduct, Set: product(b, sql...)}
	}
	o := fleet.DryRunOptions{Tenant: "acme", SchemaOnly: true}
	r, err := b.fleet.DryRun(t.Context(), with("create schema app;", "create table freehold.predictions ();"), o)
	if err == nil || r.Failure == nil || r.Failure.File != "00002_step.sql" || r.Failure.Kind != catalog.FailSQL || r.To != 1 || len(r.Steps) != 1 ||
		!strings.Contains(err.Error(), `relation "predictions" already exists`) {
		t.Errorf("%+v %v", r, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Second, cancel)
	began := time.Now()
	if _, err := b.fleet.DryRun(ctx, with("select pg_sleep(60);"), o); err == nil || time.Since(began) > 20*time.Second {
		t.Errorf("cancelled after %v: %v", time.Since(began), err)
	}
	if n := b.scratch(); n != 0 {
		t.Errorf("%d clones are left", n)
	}
	if _, err := b.fleet.DryRun(t.Context(), with("select 1;"), fleet.DryRunOptions{Tenant: "nobody"}); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("of nobody: %v", err)
	}
}

// apply brings a tenant's database to a set, and keeps the set as rolled out.
func (b *bench) apply(t catalog.Tenant, set migrations.Set) {
	b.Helper()
	cfg, err := b.cat.ServerAdmin(b.Context(), t.Server, t.Database)
	b.ok(err)
	cfg = cfg.Copy() // it is shared
	cfg.RuntimeParams["role"] = migrations.RoleOwner
	done, err := migrations.Apply(b.Context(), cfg, set)
	b.ok(err)
	r, err := b.fleet.StartRollout(b.Context(), fleet.RolloutSpec{Stream: catalog.StreamProduct, Set: &set})
	b.ok(err)
	b.ok(b.cat.SetVersions(b.Context(), t.ID, catalog.Versions{Freehold: t.SchemaVersion, Product: done.To}, -1))
	_, err = b.cat.AbortRollout(b.Context(), r.ID, "test", "done")
	b.ok(err)
}

func TestDown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.create("acme")
	b.apply(acme, *product(b,
		"create schema app;",
		"create table app.a ();--downdrop table app.a;",
		"create table app.b ();--downdrop table app.b;"))
	down := func(stream catalog.Stream, to int64) (fleet.Downgrade, error) {
		return b.fleet.Down(t.Context(), stream, "acme", to, "pat")
	}
	planned, err := b.fleet.PlanDown(t.Context(), catalog.StreamProduct, "acme", 1)
	b.ok(err)
	want := []string{"00003_step.sql", "00002_step.sql"}
	if planned.From != 3 || planned.To != 1 || !slices.Equal(planned.Files, want) {
		t.Errorf("planned: %+v", planned)
	}
	if _, err := down(catalog.StreamProduct, 0); !errors.Is(err, migrations.ErrNoDown) || !strings.Contains(err.Error(), "00001_step.sql") {
		t.Errorf("the first has no way back: %v", err)
	}
	for _, to := range []int64{4, -1} {
		if _, err := down(catalog.StreamProduct, to); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("to %d: %v", to, err)
		}
	}

	d, err := down(catalog.StreamProduct, 1)
	b.ok(err)
	now, err := b.cat.Tenant(t.Context(), acme.ID)
	b.ok(err)
	db := b.super(acme.Database)
	if !slices.Equal(d.Files, want) || d.To != 1 || now.ProductVersion != 1 || now.SchemaVersion != acme.SchemaVersion ||
		one[int64](b, db, "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'app'") != 0 {
		t.Errorf("%+v; the catalog says %d", d, now.ProductVersion)
	}
	const audited = `select count(*) from operator_audit where action = 'migrate.down' and actor = 'pat' and detail ->> 'to' = '1'`
	if n := one[int64](b, b.catalogDB(), audited); n != 1 {
		t.Errorf("%d rows of audit", n)
	}
	if d, err = down(catalog.StreamProduct, 1); err != nil || len(d.Files) != 0 {
		t.Errorf("again: %+v %v", d, err)
	}

	// Nodes keep what they serve, and rollouts what they bring up.
	_, err = b.catalogDB().Exec(t.Context(),
		`insert into nodes (id, name, version, seen, schema_min, schema_max) values (gen_random_uuid(), 'n-1', 'v', 0, $1, $1)`, latest)
	b.ok(err)
	if _, err := down(catalog.StreamFreehold, latest-1); !errors.Is(err, catalog.ErrConflict) || !strings.Contains(err.Error(), "n-1") {
		t.Errorf("below what a node serves: %v", err)
	}
	_, err = b.fleet.StartRollout(t.Context(), fleet.RolloutSpec{Stream: catalog.StreamProduct})
	b.ok(err)
	if _, err := down(catalog.StreamProduct, 1); err == nil || !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("while a rollout is open: %v", err)
	}
}
