package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/fleet"
)

// driftProduct has one of each thing that a fingerprint tells of.
const driftProduct = `
create schema app;
grant usage on schema app to freehold_tenant;
create type app.mood as enum ('glad', 'sad');
create domain app.short as text check (length(value) < 10);
create sequence app.numbers increment 2;
create table app.notes (
    id    uuid primary key,
    body  varchar(40) not null default '',
    mood  app.mood,
    owner text collate "C",
    size  integer generated always as (length(body)) stored,
    n     bigint generated always as identity,
    check (body <> 'x'),
    unique (owner) deferrable
);
create index notes_body on app.notes (body) where mood is not null;
create table app.moods (name text);
create index moods_name on app.moods (name);
create table app.gone (id bigint primary key);
grant select, insert on app.notes to freehold_tenant;
grant update (body) on app.notes to freehold_tenant;
alter table app.notes enable row level security;
create policy own on app.notes to freehold_tenant using (owner = current_user) with check (true);
create table app.events (id bigint not null, at date not null) partition by range (at);
create table app.events_rest partition of app.events default;
create view app.glad as select id, body from app.notes where mood = 'glad';
-- +goose StatementBegin
create function app.touch() returns trigger language plpgsql as $$ begin new.body := trim(new.body); return new; end $$;
-- +goose StatementEnd
create trigger touch before insert on app.notes for each row execute function app.touch();
create rule calm as on delete to app.glad do instead nothing;
alter default privileges in schema app grant select on tables to freehold_tenant;`

// driftFiles are the product's migrations; a column is dropped again, which leaves its
// number behind.
var driftFiles = []string{
	"-- +goose Up\n" + driftProduct + "\n",
	"-- +goose Up\nalter table app.notes add column extra text, add column more text;\nalter table app.notes drop column extra;\n",
}

// driftSet is the set of these files.
func driftSet(bodies ...string) migrations.Set {
	var files []migrations.File
	for i, body := range bodies {
		files = append(files, migrations.File{Version: int64(i + 1), Name: fmt.Sprintf("%05d_app.sql", i+1), Body: body})
	}
	return migrations.Product(files)
}

// drift is a bench with a product, and two tenants: acme had its product by steps,
// fresh is a clone of a template.
type drift struct {
	*bench
	acme, fresh catalog.Tenant
	young       string // a scratch database that may be in use
	conns       map[catalog.TenantID]*pgx.Conn
}

func setupDrift(t *testing.T) *drift {
	t.Helper()
	d := &drift{bench: setup(t), conns: map[catalog.TenantID]*pgx.Conn{}}
	d.acme = d.create("acme")
	d.keep(2, driftFiles[0], driftFiles[1])
	cfg := must(d.cat.ServerAdmin(t.Context(), d.acme.Server, d.acme.Database)).Copy()
	cfg.RuntimeParams["role"] = migrations.RoleOwner
	for version := range driftFiles {
		_, err := migrations.Apply(t.Context(), cfg, driftSet(driftFiles[:version+1]...))
		d.ok(err)
	}
	d.ok(d.cat.SetVersions(t.Context(), d.acme.ID, catalog.Versions{Freehold: latest, Product: 2}, -1))
	d.fresh = d.create("fresh")
	if d.fresh.ProductVersion != 2 {
		t.Fatalf("the clone is at %+v", d.fresh)
	}
	return d
}

// change runs statements as nobody should.
func (d *drift) change(t catalog.Tenant, statements ...string) {
	d.Helper()
	conn := d.conns[t.ID]
	if conn == nil {
		conn = d.super(t.Database)
		d.conns[t.ID] = conn
	}
	for _, sql := range statements {
		if _, err := conn.Exec(d.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			d.Fatalf("%s: %v", sql, err)
		}
	}
}

// kept looks at what the catalog keeps of the tenants.
func (d *drift) kept(want string) {
	d.Helper()
	got := one[string](d.bench, d.catalogDB(), `
		select format('%s compared, %s drifted, %s with invalid indexes', count(*), count(*) filter (where drifted and differences <> '[]'),
		              count(*) filter (where invalid_indexes <> '{}')) from tenant_schemas`)
	if got != want {
		d.Errorf("the catalog has %s, want %s", got, want)
	}
}

// find compares one tenant and returns each difference in words.
func (d *drift) find(t catalog.Tenant, o fleet.DriftOptions) (fleet.DriftReport, []string) {
	d.Helper()
	o.Tenants = []string{t.Slug}
	r, err := d.fleet.Drift(d.Context(), o)
	if err != nil && !errors.Is(err, fleet.ErrPartial) {
		d.Fatal(err)
	}
	var said []string
	for _, g := range r.Groups {
		for _, each := range g.Differences {
			said = append(said, each.String())
		}
	}
	if (err == nil) != (len(r.Groups)+len(r.Invalid)+len(r.Unseen)+len(r.Edited) == 0) && len(r.Rebuilt) == 0 {
		d.Errorf("error %v of %+v", err, r)
	}
	return r, said
}

// A clone of a template, a database that was migrated step by step, and one that was
// migrated from zero are one and the same; what anybody changes there is told, and
// nothing else is.
func TestDrift(t *testing.T) {
	t.Parallel()
	d := setupDrift(t)
	r, err := d.fleet.Drift(t.Context(), fleet.DriftOptions{})
	if err != nil || r.Compared != 2 || r.Same != 2 {
		t.Fatalf("untouched: %+v %v", r, err)
	}
	d.ok(d.fleet.CheckTargets(t.Context(), []catalog.TenantID{d.acme.ID, d.fresh.ID, catalog.NewTenantID()}, 2))
	d.kept("2 compared, 0 drifted, 0 with invalid indexes")
	d.byObject()
	d.rebuilds()
	d.ofFleet()
	if left := one[int](d.bench, d.super("postgres"), `
		select count(*) from pg_database
		 where datname ~ '^freehold_scratch_' and datname <> $2 and shobj_description(oid, 'pg_database') = 'freehold ' || $1`,
		must(d.cat.CatalogID(t.Context())), d.young); left > 0 {
		t.Errorf("%d scratch databases are left", left)
	}
}

// byObject changes one of each thing.
func (d *drift) byObject() {
	for _, harmless := range []string{
		"insert into app.events values (1, '2026-02-02')", "analyze app.events", "comment on table app.notes is 'x'",
		"create table app.events_2025 partition of app.events for values from ('2025-01-01') to ('2026-01-01')",
		"alter table app.events_2025 owner to freehold_owner",
		"set role freehold_owner; select freehold.make_prediction_weeks(now(), 9); reset role",
		"grant delete on app.notes to freehold_tenant; revoke delete on app.notes from freehold_tenant",
		"alter table app.notes drop column more; alter table app.notes add column more text",
		"alter database " + d.acme.Database + " set search_path = app, freehold",
		"alter database " + d.acme.Database + " set timezone = 'Asia/Tokyo'",
	} {
		d.change(d.acme, harmless)
	}
	if _, said := d.find(d.acme, fleet.DriftOptions{}); len(said) > 0 {
		d.Errorf("differences that are none: %q", said)
	}
	var missed []string
	changes := []struct{ do, want string }{
		{"alter table app.notes add column x int", "column app.notes.x should not be there: integer"},
		{"alter table app.notes drop column more", "column app.notes.more is missing: text"},
		{"alter table app.moods alter name type varchar(7)", "column app.moods.name: is character varying(7), should be text"},
		{"alter table app.notes alter body drop not null, alter body set default 'y'; revoke update (body) on app.notes from freehold_tenant",
			"column app.notes.body: is default 'y'::character varying, should be not null, default ''::character varying, grants freehold_tenant=w/freehold_owner"},
		{"alter table app.notes drop constraint notes_body_check",
			"constraint app.notes.notes_body_check is missing: CHECK (((body)::text <> 'x'::text))"},
		{"alter table app.notes add constraint late check (n > 0) not valid",
			"constraint app.notes.late should not be there: CHECK ((n > 0)) NOT VALID"},
		{"alter table app.notes drop constraint notes_owner_key", "constraint app.notes.notes_owner_key is missing: unique, deferrable"},
		{"", "index app.notes_owner_key is missing: CREATE UNIQUE INDEX …"}, // goes with it
		{"drop index app.notes_body; create index notes_body on app.notes (body)",
			"index app.notes_body: is CREATE INDEX notes_body ON app.notes USING btree (body), should be CREATE INDEX notes_body ON app.notes USING btree (body) WHERE (mood IS NOT NULL)"},
		{"create or replace function app.touch() returns trigger language plpgsql as $$ begin return new; end $$",
			"function app.touch(): is body …, should be body …"},
		{"alter table app.notes disable trigger touch", "trigger app.notes.touch: has disabled"},
		{"alter policy own on app.notes using (true)",
			"policy app.notes.own: is using (true), should be using ((owner = CURRENT_USER))"},
		{"alter table app.notes disable row level security; grant delete on app.notes to freehold_tenant",
			"table app.notes: is grants freehold_owner=… freehold_tenant=ard/freehold_owner, should be row level security, grants freehold_owner=… freehold_tenant=ar/freehold_owner"},
		{"grant update on freehold.usage_ledger to " + d.acme.Database,
			"table freehold.usage_ledger: is grants freehold_owner=… freehold_tenant=ar/freehold_owner <its own role>=w/freehold_owner, should be grants freehold_owner=… freehold_tenant=ar/freehold_owner"},
		{"create table public.x (id int primary key, y text)", "table public.x should not be there: owner postgres, grants …"},
		{"drop table app.gone", "table app.gone is missing: owner freehold_owner, grants …"},
		{"create or replace view app.glad as select id, body from app.notes where mood = 'sad'; alter view app.glad owner to postgres",
			"view app.glad: is as SELECT …, owner postgres, grants … should be as SELECT …, owner freehold_owner, grants …"},
		{"alter rule calm on app.glad rename to wild", "rule app.glad.calm is missing: CREATE RULE calm …"},
		{"", "rule app.glad.wild should not be there: CREATE RULE wild …"},
		{"alter type app.mood rename value 'sad' to 'low'", "type app.mood: is enum 'glad', 'low', should be enum 'glad', 'sad'"},
		{"alter domain app.short set not null", "type app.short: has not null"},
		{"alter sequence app.numbers cycle", "sequence app.numbers: is bigint start 1 increment 2 … cycle, should be bigint start 1 increment 2 …"},
		{"create schema z", "schema z should not be there: owner postgres, grants …"},
		{"alter default privileges for role freehold_owner in schema app revoke select on tables from freehold_tenant",
			"default grants of freehold_owner in app on tables is missing: freehold_tenant=r/freehold_owner"},
		{"create table app.events_2026 partition of app.events for values from ('2026-06-01') to ('2027-01-01'); alter table app.events_2026 owner to freehold_owner; grant select on app.events_2026 to public",
			"partition app.events_2026 should not be there: owner freehold_owner, grants …"},
	}
	for _, c := range changes {
		d.change(d.acme, c.do)
	}
	_, said := d.find(d.acme, fleet.DriftOptions{})
	for _, c := range changes {
		if i := slices.IndexFunc(said, func(got string) bool { return like(got, c.want) }); i >= 0 {
			said = slices.Delete(said, i, i+1)
		} else {
			missed = append(missed, c.want)
		}
	}
	if len(said)+len(missed) > 0 {
		d.Errorf("not told:\n%s\ntold beyond that:\n%s", strings.Join(missed, "\n"), strings.Join(said, "\n"))
	}
}

// like compares a sentence with one that leaves out what stands for an ….
func like(got, want string) bool {
	for i, part := range strings.Split(want, "…") {
		at := strings.Index(got, part)
		if at < 0 || i == 0 && at > 0 {
			return false
		}
		got = got[at+len(part):]
	}
	return got == "" || strings.HasSuffix(want, "…")
}

// rebuilds has indexes that aren't valid: they are told as such, and rebuilt on request;
// what earlier rebuilds left goes, and what can't be rebuilt is told with the reason.
func (d *drift) rebuilds() {
	find := func(rebuild bool) (fleet.DriftReport, []string) {
		d.Helper()
		return d.find(d.fresh, fleet.DriftOptions{Rebuild: rebuild})
	}
	// A duplicate breaks a unique index that is built concurrently.
	d.change(d.fresh, "insert into app.moods values ('a'), ('a')", "drop index app.moods_name")
	if _, err := d.super(d.fresh.Database).Exec(d.Context(), "create unique index concurrently moods_name on app.moods (name)"); err == nil {
		d.Fatal("the index was built")
	}
	r, said := find(false)
	if len(said) != 1 || len(r.Invalid) != 1 || !slices.Equal(r.Invalid[0].Indexes, []string{"app.moods_name"}) {
		d.Errorf("%+v %q", r, said)
	}
	d.kept("2 compared, 2 drifted, 1 with invalid indexes")
	r, _ = find(true)
	if len(r.Rebuilt) != 1 || r.Rebuilt[0].Done != "" || !strings.Contains(r.Rebuilt[0].Reason, "23505") ||
		len(r.Invalid) != 1 || len(r.Invalid[0].Indexes) != 1 {
		d.Errorf("of a unique index over duplicates: %+v", r)
	}
	// What a rebuild leaves that was killed, and the index itself, without its cause.
	d.change(d.fresh, "delete from app.moods", "create index moods_name_ccnew on app.moods (name)",
		"update pg_index set indisvalid = false where indexrelid = 'app.moods_name_ccnew'::regclass")
	locker := d.super(d.fresh.Database)
	_, err := locker.Exec(d.Context(), "select pg_advisory_lock(4097083626)")
	d.ok(err)
	if r, _ = find(true); len(r.Unseen) != 1 || !strings.Contains(r.Unseen[0].Reason, "migrating") {
		d.Errorf("while somebody migrates it: %+v", r)
	}
	_, err = locker.Exec(d.Context(), "select pg_advisory_unlock_all()")
	d.ok(err)
	r, said = find(true)
	if len(r.Rebuilt) != 2 || r.Rebuilt[0].Done != "rebuilt" || r.Rebuilt[1].Done != "dropped" || len(r.Invalid) > 0 {
		d.Errorf("%+v %q", r, said)
	}
	d.change(d.fresh, "drop index app.moods_name", "create index moods_name on app.moods (name)")
	if r, said = find(false); r.Same != 1 {
		d.Errorf("%+v %q", r, said)
	}
	d.kept("2 compared, 1 drifted, 0 with invalid indexes")
}

// ofFleet has a tenant that isn't where the catalog thinks, one whose database isn't
// there, and two with the same differences, which are told once; a migration was
// edited, and scratch databases were left.
func (d *drift) ofFleet() {
	lost, gone, twin := d.create("lost"), d.create("gone"), d.create("twin")
	for _, one := range []catalog.Tenant{d.fresh, twin} {
		d.change(one, "alter table app.notes add column hidden text", "grant update on app.notes to "+one.Database)
	}
	d.change(lost, "delete from product.schema_version where version_id = 2", "alter table app.notes drop column more, add column less int")
	admin := d.super("postgres")
	mark := one[string](d.bench, admin, "select shobj_description(oid, 'pg_database') from pg_database where datname = $1", gone.Database)
	old := d.leaveScratch(mark, time.Now().Add(-2*time.Hour))
	d.young = d.leaveScratch(mark, time.Now())
	_, err := admin.Exec(d.Context(), "drop database "+gone.Database+" with (force)")
	d.ok(err)

	set := driftSet(driftFiles[0] + "-- edited\n")
	var done, total int
	r, err := d.fleet.Drift(d.Context(), fleet.DriftOptions{Set: &set, Parallel: 2, Progress: func(n, of int) { done, total = n, of }})
	if !errors.Is(err, fleet.ErrPartial) || done != 5 || total != 5 || r.Compared != 4 || r.Same != 0 {
		d.Errorf("%v, progress %d of %d, %d compared", err, done, total, r.Compared)
	}
	if len(r.Groups) != 3 || !slices.Equal(r.Groups[0].Tenants, []string{"fresh", "twin"}) || len(r.Groups[0].Differences) != 2 {
		d.Fatalf("groups %+v", r.Groups)
	}
	var said []string
	for _, each := range r.Groups[2].Differences {
		said = append(said, each.String())
	}
	if want := []string{
		"version of stream product: is 1, should be 2, as the catalog has it", "column app.notes.less should not be there: integer",
	}; !slices.Equal(r.Groups[2].Tenants, []string{"lost"}) || !slices.Equal(said, want) {
		d.Errorf("of the one that is behind: %q", said)
	}
	if len(r.Unseen) != 1 || r.Unseen[0] != (fleet.DriftUnseen{Tenant: "gone", Reason: "there is no such database"}) {
		d.Errorf("unseen %+v", r.Unseen)
	}
	if len(r.Edited) != 1 || r.Edited[0].Version != 1 || r.Edited[0].Stream != catalog.StreamProduct {
		d.Errorf("edited %+v", r.Edited)
	}
	for name, want := range map[string]bool{old: false, d.young: true} {
		if there := one[bool](d.bench, admin, "select exists (select from pg_database where datname = $1)", name); there != want {
			d.Errorf("%s: there %t", name, there)
		}
	}
	if _, err := d.fleet.Drift(d.Context(), fleet.DriftOptions{Tenants: []string{"nope"}}); !errors.Is(err, catalog.ErrNotFound) {
		d.Errorf("of a tenant that isn't there: %v", err)
	}
}

// leaveScratch makes a database as a process leaves it that was killed.
func (d *drift) leaveScratch(mark string, made time.Time) string {
	d.Helper()
	name := fmt.Sprintf("freehold_scratch_%08x%s", made.Unix(), strings.ReplaceAll(catalog.NewTenantID().String(), "-", "")[16:])
	run := func(ctx context.Context, statements ...string) {
		conn, err := pgx.Connect(ctx, pgtest.SuperURL(d))
		d.ok(err)
		for _, sql := range statements {
			_, err := conn.Exec(ctx, sql)
			d.ok(err)
		}
		d.ok(conn.Close(ctx))
	}
	run(d.Context(), "create database "+name+" owner freehold_owner allow_connections false",
		"revoke all on database "+name+" from public", "comment on database "+name+" is '"+mark+"'")
	d.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		run(ctx, "drop database if exists "+name)
	})
	return name
}

// BenchmarkFingerprint is a tenant's fingerprint, with its connection; BenchmarkConnect
// is what of that isn't the fingerprint.
func BenchmarkFingerprint(m *testing.B) {
	benchmarkConnected(m, func(b *bench, conn *pgx.Conn) {
		_, _, err := fleet.Fingerprint(m.Context(), conn)
		b.ok(err)
	})
}

func BenchmarkConnect(m *testing.B) { benchmarkConnected(m, func(*bench, *pgx.Conn) {}) }

func benchmarkConnected(m *testing.B, fn func(*bench, *pgx.Conn)) {
	b := setup(m)
	acme := b.create("acme")
	cfg := must(b.cat.ServerAdmin(m.Context(), acme.Server, acme.Database)).Copy()
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	for m.Loop() {
		conn := must(pgx.ConnectConfig(m.Context(), cfg))
		fn(b, conn)
		b.ok(conn.Close(m.Context()))
	}
}
