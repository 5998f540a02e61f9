package catalog_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations"
)

// A new table is put into one of the lists, behind those that it refers to.
func TestDump_knowsEveryTable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn := b.admin()
	list := func(sql string) []string {
		rows, _ := conn.Query(t.Context(), sql)
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		b.ok(err)
		return names
	}
	have := list(`select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')`)
	known := slices.Concat(catalog.Dumped(), catalog.Undumped())
	slices.Sort(have)
	slices.Sort(known)
	if !slices.Equal(have, known) {
		t.Errorf("the catalog has %q\nthe dump knows %q", have, known)
	}
	// Elsewhere there is River's own alone.
	if others := list(`
select distinct relnamespace::regnamespace::text from pg_class
 where relkind in ('r', 'p') and relnamespace::regnamespace::text not in ('public', 'pg_catalog', 'information_schema')`); !slices.Equal(others, []string{"river"}) {
		t.Errorf("tables in schemas %q", others)
	}
	order := catalog.Dumped()
	for _, pair := range list(`
select distinct conrelid::regclass || ' ' || confrelid::regclass from pg_constraint
 where contype = 'f' and connamespace = 'public'::regnamespace and conrelid <> confrelid`) {
		table, parent, _ := strings.Cut(pair, " ")
		if i := slices.Index(order, table); i >= 0 && slices.Index(order[:i], parent) < 0 {
			t.Errorf("%s refers to %s, which a dump doesn't have before it", table, parent)
		}
	}
}

// fill has a row in every table, as far as possible by the catalog's own calls, and
// odd texts in it.
func (b *bench) fill() catalog.Tenant {
	b.Helper()
	ctx := b.Context()
	b.server("pg-1")
	acme := b.tenant("acme")
	gone := b.tenant("gone")
	b.key(acme.ID, catalog.ScopeAll)
	prompt := "Zeilen\nund \"Anführung\" \\x00 \u2028 é\t🙂"
	_, _, err := b.cat.PatchConfig(ctx, acme.ID, catalog.ConfigPatch{SystemPromptOverride: &prompt})
	b.ok(err)
	_, err = b.cat.AddEngine(ctx, catalog.EngineSpec{Name: "gpt", Kind: "openai", BaseURL: "https://llm.invalid", Key: "engine-key"})
	b.ok(err)
	b.ok(b.cat.AppendAudit(ctx, "op@host", "tenant.create", acme.ID, map[string]any{"slug": "acme", "n": 1.50}))
	b.ok(b.cat.AppendAudit(ctx, "op@host", "server.add", catalog.TenantID{}, nil))
	b.ok(b.cat.AddBackup(ctx, catalog.Backup{Key: "catalog/old.fhc", Bytes: 9, Seq: 3, MadeAt: time.Now()}))
	conn := b.as(migrations.RoleCatalog)
	b.exec(conn, `insert into models (name, engine, upstream, kind, input_price, fallbacks) values ('m', 'gpt', 'm-1', 'chat', 0.123456, '[{"engine": "gpt", "upstream": "m-0"}]')`)
	_, err = b.cat.SetAlias(ctx, "gpt-4o-mini", "m")
	b.ok(err)
	b.exec(conn, `insert into work_queue (id, tenant, trainer, state, token, lease_until, error) values (gen_random_uuid(), $1, 'builtin', 'running', 7, now(), 'no "luck"')`, acme.ID)
	b.exec(conn, `insert into audit_heads (tenant, n, head, sealed_at) values ($1, 7, $2, now())`, acme.ID, make([]byte, 32))
	b.exec(conn, `insert into mail_outbox (id, tenant, kind, recipient, detail) values (gen_random_uuid(), $1, 'note', 'a@b.c', '{"a": [1, null, "x"]}')`, acme.ID)
	b.exec(conn, `insert into usage_daily (tenant, day, model, requests, prompt_tokens, completion_tokens) values ($1, '2026-11-22', 'm', 1, 9007199254740993, 3)`, acme.ID)
	b.exec(conn, `insert into receipts (tenant, document, signature, key_id) values ($1, $2, '\x00ff', 4294967295)`, gone.ID, "{ \"is\":\r\n  1.0 }")
	b.exec(conn, `insert into exports (id, tenant, actor, state, key, sha256, rows, error) values (gen_random_uuid(), $1, 'key:k', 'done', 'exports/x', $2, 9007199254740993, 'a "b"')`, acme.ID, make([]byte, 32))
	b.exec(conn, `insert into server_drains (id, server_id, actor, target, parallel, max_failures, error, token, lease_until)
		select gen_random_uuid(), id, 'op@host', 'pg-2', 4, 3, 'no "room"', 9, now() from servers`)
	b.exec(conn, `insert into kept_databases (id, tenant, server_id, database, why, operation, drop_at) select gen_random_uuid(), $1, id, 'freehold_kept_1', 'moved', gen_random_uuid(), now() from servers`, acme.ID)
	b.exec(conn, `update backup_plans set every = '6 hours', keep = '90 days 01:02:03.5' where plan = ''`)
	b.exec(conn, `insert into tenant_backups (id, tenant, key, made_at, bytes, schema_version, server_version, proof_error) values (gen_random_uuid(), $1, 'tenants/x', now(), 9007199254740993, 4, 150000, 'no "luck"')`, acme.ID)
	b.exec(conn, `insert into operators (name, role, id, hash) values ('ops', 'owner', 'opsid', $1)`, make([]byte, 32))
	r := b.begin(catalog.RolloutSpec{
		Stream: catalog.StreamProduct, Target: 1, Actor: "op@host", Options: catalog.RolloutOptions{Parallel: 1, Budget: "1%"},
		Files: []catalog.MigrationFile{file(1, "00001_notes.sql", "create table app.notes ();\n-- \"é\"")},
		Waves: []catalog.WaveSpec{{Name: "all", Targets: []catalog.TargetSpec{{Tenant: acme.ID, Server: serverID(b, "pg-1")}}}},
	})
	_, err = b.cat.AbortRollout(ctx, r.ID, "op@host", "no")
	b.ok(err)
	b.exec(conn, `insert into nodes (id, name, version) values (gen_random_uuid(), 'n', 'v')`)
	return acme
}

// dump is the catalog as text of a dump, packed.
func (b *bench) dump() ([]byte, catalog.DumpHeader) {
	b.Helper()
	s, err := b.cat.Snapshot(b.Context())
	b.ok(err)
	defer s.Close(b.Context())
	var out bytes.Buffer
	b.ok(s.Dump(b.Context(), &out))
	return out.Bytes(), s.DumpHeader
}

// empty is another catalog, sealed with the same keyset.
func (b *bench) empty() *bench {
	b.Helper()
	return setup(b.TB) // all have one
}

// rows is all that a table holds, as text.
func (b *bench) rows(conn *pgx.Conn, table string) []string {
	b.Helper()
	rows, _ := conn.Query(b.Context(), "select t::text from "+table+" t order by 1")
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	b.ok(err)
	return list
}

func TestDump_roundTrip(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.fill()
	_, token := b.key(acme.ID, catalog.ScopeRead)
	text, header := b.dump()
	if header.Tenants != 2 || header.Servers != 1 || header.Seq == 0 || header.Schema == 0 {
		t.Errorf("header %+v", header)
	}
	want := map[string][]string{}
	from := b.as(migrations.RoleCatalog)
	for _, table := range catalog.Dumped() {
		want[table] = b.rows(from, table)
	}

	to := b.empty()
	got, err := to.cat.Load(t.Context(), iotest.OneByteReader(bytes.NewReader(text)), "the-dump")
	b.ok(err)
	if got != header {
		t.Errorf("loaded %+v, dumped %+v", got, header)
	}
	into := to.as(migrations.RoleCatalog)
	for _, table := range catalog.Dumped() {
		if have := to.rows(into, table); len(have) == 0 || !slices.Equal(want[table], have) {
			t.Errorf("%s:\nwas    %q\nloaded %q", table, want[table], have)
		}
	}
	for _, table := range catalog.Undumped() {
		if table != "freehold_version" && table != "chores" && len(to.rows(into, table)) > 0 {
			t.Errorf("%s was loaded", table)
		}
	}
	id, err := to.cat.CatalogID(t.Context())
	if err != nil || id != header.Catalog {
		t.Errorf("catalog %s, want %s: %v", id, header.Catalog, err)
	}
	cache := to.cache(to.cat, catalog.CacheConfig{})
	if who, err := cache.Authenticate(t.Context(), token); err != nil || who.Tenant != acme.ID {
		t.Errorf("an old key: %+v, %v", who, err)
	}
	if _, err := to.cat.Route(t.Context(), acme.ID); err != nil {
		t.Errorf("route: %v", err)
	}
	// The chain of what operators did goes on.
	b.ok(to.cat.AppendAudit(t.Context(), "op@host", "later", catalog.TenantID{}, nil))
	if n := to.number(into, `
select count(*) from operator_audit a join operator_audit p on p.seq = a.seq - 1 and p.hash = a.prev
 where a.hash = sha256(a.prev || convert_to(jsonb_build_array(a.seq, extract(epoch from a.at)::text, a.actor, a.action,
       a.tenant, a.detail)::text, 'UTF8'))`); n != 4 {
		t.Errorf("%d of 4 rows are bound to the row before them", n)
	}

	// Not ended yet, it is told; and an ended one isn't ended twice.
	if from, err := to.cat.Restoring(t.Context()); err != nil || from != "the-dump" {
		t.Errorf("restoring %q, %v", from, err)
	}
	seq, err := to.cat.EndRestore(t.Context(), "op@host", header.Seq+1000, nil, map[string]any{"from": "the-dump"})
	if err != nil || seq <= header.Seq+1000 {
		t.Errorf("ended at %d: %v", seq, err)
	}
	if n := to.number(into, `select count(*) from tenants where epoch <> $1`, seq); n != 0 {
		t.Errorf("%d tenants have an older epoch", n)
	}
	_, err = to.cat.Restoring(t.Context())
	b.is(err, catalog.ErrNotFound)
	_, err = to.cat.EndRestore(t.Context(), "op@host", 0, nil, nil)
	b.is(err, catalog.ErrConflict)
	_, err = to.cat.Load(t.Context(), bytes.NewReader(text), "again")
	b.is(err, catalog.ErrConflict)
}
