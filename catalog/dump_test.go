package catalog_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/klauspost/compress/zstd"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/migrations/pgtest"
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
	b.exec(conn, `insert into models (name, engine, upstream, kind, input_price) values ('m', 'gpt', 'm-1', 'chat', 0.123456)`)
	b.exec(conn, `insert into mail_outbox (id, tenant, kind, recipient, detail) values (gen_random_uuid(), $1, 'note', 'a@b.c', '{"a": [1, null, "x"]}')`, acme.ID)
	b.exec(conn, `insert into usage_daily (tenant, day, model, requests, prompt_tokens, completion_tokens) values ($1, '2026-11-22', 'm', 1, 9007199254740993, 3)`, acme.ID)
	b.exec(conn, `insert into receipts (tenant, document, signature, key_id) values ($1, $2, '\x00ff', 4294967295)`, gone.ID, "{ \"is\":\r\n  1.0 }")
	b.exec(conn, `insert into operators (name, role, id, hash) values ('ops', 'owner', 'opsid', $1)`, make([]byte, 32))
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
	other := &bench{TB: b.TB, keys: b.keys, cfg: catalog.Config{URL: pgtest.Catalog(b.TB), Keyset: b.keys}}
	_, _, err := catalog.Migrate(b.Context(), other.cfg)
	b.ok(err)
	other.cat = other.open()
	return other
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
       a.tenant, a.detail)::text, 'UTF8'))`); n != 2 {
		t.Errorf("%d of 2 rows are bound to the row before them", n)
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

// Whatever was under way comes back as failed; a deletion that waits goes on
// waiting, but for a tenant of whom it isn't known whether it is to be deleted.
func TestLoad_operations(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.server("pg-1")
	ids := map[string]catalog.TenantID{}
	for slug, o := range map[string]struct{ kind, state string }{
		"onboarding": {"onboard", "running"}, "waits": {"onboard", "waiting"}, "done": {"onboard", "done"},
		"deleting": {"delete", "running"}, "delete-waits": {"delete", "waiting"}, "doubtful": {"delete", "waiting"},
	} {
		ids[slug] = b.tenant(slug).ID
		b.exec(b.as(migrations.RoleCatalog), `insert into operations (id, kind, tenant, actor, state, worker, token, lease_until, run_at)
values (gen_random_uuid(), $1, $2, 'op', $3, 'w', 7, now(), now() - interval '1 day')`, o.kind, ids[slug], o.state)
	}
	text, _ := b.dump()
	to := b.empty()
	_, err := to.cat.Load(t.Context(), bytes.NewReader(text), "d")
	b.ok(err)
	_, err = to.cat.EndRestore(t.Context(), "op", 0, []catalog.TenantID{ids["doubtful"]}, nil)
	b.ok(err)
	conn := to.as(migrations.RoleCatalog)
	for slug, want := range map[string]string{
		"onboarding": "failed true false", "waits": "failed true false", "done": "done false false",
		"deleting": "failed true false", "delete-waits": "waiting false true", "doubtful": "failed true true",
	} {
		var got string
		b.ok(conn.QueryRow(t.Context(), `
select concat_ws(' ', state, error <> '', run_at > now() + interval '59 minutes') from operations
 where tenant = $1 and worker in ('', 'w') and actor = 'op'`, ids[slug]).Scan(&got))
		got = strings.NewReplacer(" t", " true", " f", " false").Replace(got)
		if got != want {
			t.Errorf("%s: %s, want %s", slug, got, want)
		}
	}
	if n := to.number(conn, `select count(*) from operations where actor = 'op' and state <> 'done' and token <> 1007`); n != 0 {
		t.Errorf("%d operations could still be changed by their old worker", n)
	}
}

// unpacked is a dump's lines; packed is the reverse.
func unpacked(t testing.TB, dump []byte) []string {
	t.Helper()
	r, err := zstd.NewReader(bytes.NewReader(dump))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
}

func packed(t testing.TB, lines []string) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll([]byte(strings.Join(lines, "")), nil)
}

func TestLoad_refuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill()
	text, header := b.dump()
	lines := unpacked(t, text)
	to := b.empty()
	away := errors.New("away")
	with := func(i int, line string) []byte {
		changed := slices.Clone(lines)
		changed[i] = line
		return packed(t, changed)
	}
	for _, c := range []struct {
		what string
		r    io.Reader
		want error
	}{
		{"nothing", strings.NewReader(""), catalog.ErrInvalid},
		{"no dump", strings.NewReader("select 1"), catalog.ErrInvalid},
		{"cut short", bytes.NewReader(text[:len(text)-5]), catalog.ErrInvalid},
		{"half", bytes.NewReader(text[:len(text)/2]), catalog.ErrInvalid},
		{"the last line is missing", bytes.NewReader(packed(t, lines[:len(lines)-1])), catalog.ErrInvalid},
		{"a row is missing", bytes.NewReader(packed(t, slices.Delete(slices.Clone(lines), 2, 3))), catalog.ErrInvalid},
		{"text behind the end", bytes.NewReader(packed(t, append(slices.Clone(lines), "\n[]"))), catalog.ErrInvalid},
		{"another format", bytes.NewReader(with(0, `{"freehold_catalog":2,"schema":1}`)), catalog.ErrInvalid},
		{"a row without a table", bytes.NewReader(with(1, lines[2])), catalog.ErrInvalid},
		{"an unknown table", bytes.NewReader(with(1, `["table","secrets",["one"]]`)), catalog.ErrInvalid},
		{"a table that is left out", bytes.NewReader(with(1, `["table","nodes",["id"]]`)), catalog.ErrInvalid},
		{"a newer schema", bytes.NewReader(with(0, strings.Replace(lines[0], fmt.Sprintf(`"schema":%d`, header.Schema),
			fmt.Sprintf(`"schema":%d`, header.Schema+1), 1))), catalog.ErrConflict},
		{"a source that fails", io.MultiReader(bytes.NewReader(text[:len(text)/2]), iotest.ErrReader(away)), away},
	} {
		if _, err := to.cat.Load(t.Context(), c.r, "d"); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
	// Another master key's.
	other := setup(t)
	_, err := other.cat.Load(t.Context(), bytes.NewReader(text), "d")
	b.is(err, catalog.ErrWrongMasterKey)
	for _, left := range []*bench{to, other} {
		conn := left.as(migrations.RoleCatalog)
		for _, table := range append(catalog.Dumped()[2:], "chores") {
			if rows := left.rows(conn, table); len(rows) > 0 {
				t.Errorf("%s is left with %q", table, rows)
			}
		}
		if n := left.number(conn, "select seq from catalog_clock"); n != 0 {
			t.Errorf("the clock is at %d", n)
		}
	}
	_, err = to.cat.AddServer(t.Context(), catalog.ServerSpec{Name: "own", Host: "h", AdminUser: "a", Password: "p", Version: 150000, MaxConnections: 10})
	b.ok(err)
	_, err = to.cat.Load(t.Context(), bytes.NewReader(text), "d")
	b.is(err, catalog.ErrConflict)
}

// A dump of the schema before this one lacks tables and columns: they get their
// defaults. A column that this schema has no more is passed over.
func TestLoad_olderSchema(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill()
	text, header := b.dump()
	var older []string
	rows := 0
	skip := false
	for i, line := range unpacked(t, text) {
		switch {
		case i == 0:
			line = strings.Replace(line, fmt.Sprintf(`"schema":%d`, header.Schema), `"schema":2`, 1)
		case strings.HasPrefix(line, `["end"`):
			line = fmt.Sprintf(`["end",%d]`, rows)
		case strings.HasPrefix(line, "["):
			skip = strings.Contains(line, `"operators"`) || strings.Contains(line, `"usage_daily"`)
			line = strings.NewReplacer(`,"ready"`, "", `"slug"`, `"slug","was_here"`).Replace(line)
		}
		if skip {
			continue
		}
		if line[0] == '{' && i > 0 {
			rows++
		}
		older = append(older, line)
	}
	to := b.empty()
	_, err := to.cat.Load(t.Context(), bytes.NewReader(packed(t, older)), "d")
	b.ok(err)
	conn := to.as(migrations.RoleCatalog)
	if n := to.number(conn, `select count(*) from tenants`); n != 2 {
		t.Errorf("%d tenants", n)
	}
	if n := to.number(conn, `select ready from servers`); n != 0 {
		t.Errorf("a new column has %d", n)
	}
}

// Memory doesn't grow with the catalog. It isn't parallel: it measures the process.
func TestDump_memory(t *testing.T) { //nolint:paralleltest // see above
	tenants := 5_000
	if pgtest.Long() {
		tenants = 100_000
	}
	b := setup(t)
	server := b.server("pg-1")
	conn := b.as(migrations.RoleCatalog)
	b.exec(conn, `
insert into tenants (id, slug, name, state, server_id, database, role, secret, secret_key_id, epoch, labels)
select gen_random_uuid(), 'many-' || n, 'Tenant number ' || n, 'active', $1, 'd' || n, 'd' || n, $2, 1, n, '{"tier": "gold"}'
  from generate_series(1, $3::int) n`, server.ID, make([]byte, 72), tenants)
	b.exec(conn, `insert into tenant_config (tenant) select id from tenants`)
	m := &meter{}
	m.start()
	s, err := b.cat.Snapshot(t.Context())
	b.ok(err)
	defer s.Close(t.Context())
	var out bytes.Buffer
	b.ok(s.Dump(t.Context(), io.MultiWriter(&out, m)))
	to := b.empty()
	_, err = to.cat.Load(t.Context(), io.TeeReader(&out, m), "d")
	b.ok(err)
	if n := to.number(to.as(migrations.RoleCatalog), `select count(*) from tenants`); n != int64(tenants) {
		t.Errorf("%d of %d tenants", n, tenants)
	}
	// The encoder's and the decoder's windows are 8 MB each; the dump itself lies in out.
	if grown := m.grown(); grown > 64<<20 {
		t.Errorf("%d MB for %d tenants", grown>>20, tenants)
	}
}

// meter looks at the heap at each piece that passes.
type meter struct{ before, most uint64 }

func (m *meter) start() {
	runtime.GC()
	m.before = heap()
}

func (m *meter) Write(p []byte) (int, error) {
	m.most = max(m.most, heap())
	return len(p), nil
}

func (m *meter) grown() int64 { return int64(m.most) - int64(m.before) }

func heap() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
