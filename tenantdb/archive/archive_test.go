package archive_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"freehold/tenantdb/archive"
)

// product are tables of a product, with the types and values that are hard to carry.
const product = `
create schema shop;
create type shop.mood as enum ('glad', 'sad "so"');
create type shop.place as (street text, no integer, notes json);
create type shop.heat as (degrees numeric);
create function shop.told(h shop.heat) returns json language sql immutable as $$ select '"hot"'::json $$;
create cast (shop.heat as json) with function shop.told(shop.heat);
create domain shop.percent as numeric check (value between 0 and 100);
create function shop.twice(n integer) returns integer language sql immutable as 'select n * 2';
create table shop.customers (
    id      bigint generated always as identity primary key,
    name    text not null unique,
    mood    shop.mood,
    home    shop.place,
    tags    text[],
    grid    integer[],
    share   shop.percent,
    heat    shop.heat,
    heats   shop.heat[],
    born    date,
    added   timestamptz not null default now(),
    active  boolean
);
create table shop."Odd ""Table"", ä" (
    "select"  serial primary key,
    "a b"     numeric,
    f         double precision,
    f4        real,
    raw       bytea,
    doc       jsonb,
    said      json,
    docs      json[],
    span      tstzrange,
    wait      interval,
    at        time,
    u         uuid,
    addr      inet,
    bits      bit(5),
    fixed     char(6),
    double    integer generated always as (shop.twice(3)) stored,
    customer  bigint references shop.customers (id)
);
create table shop.events (at date not null, what text) partition by range (at);
create table shop.events_2025 partition of shop.events for values from ('2025-01-01') to ('2026-01-01');
create table shop.events_rest partition of shop.events default;
create unlogged table shop.cache (k text primary key, v text);
create table shop.nothing ();
insert into shop.nothing default values;
create index on shop.events (what);
create view shop.glad as select id from shop.customers where mood = 'glad';
create materialized view shop.count as select count(*) from shop.customers;
create sequence shop.numbers start 40;
select nextval('shop.numbers'), nextval('shop.numbers');
create table public.plain (n integer primary key, t text);
insert into public.plain select i, repeat('x', i) from generate_series(1, 300) i;

insert into shop.customers (name, mood, home, tags, grid, share, heat, heats, born, added, active) values
  ('Ann', 'glad', row('Main "St", \ 5', 5, '{"a":  1, "a": 2}'), '{}', '{{1,2},{3,null}}', 12.500, row(1.50), array[row(2.0)]::shop.heat[], '0044-03-15 BC', '2026-11-22 10:00:00.123456+02', true),
  (E'Bob\n''O"Brien\\ \t\r 🙂 \u2028', 'sad "so"', row(null, null, null), '{"a,b","c\"d",null,"NULL",""}', '[0:2]={7,8,9}', 0, row(null), null, 'infinity', '-infinity', null),
  ('', null, null, null, null, null, null, null, null, 'infinity', false);
insert into shop."Odd ""Table"", ä" ("a b", f, f4, raw, doc, said, docs, span, wait, at, u, addr, bits, fixed, customer) values
  ('NaN', 'NaN', 'Infinity', '\x00ff0a0d5c22', '{"b": [1.500, 1e400, null], "a": "\u0001"}', E'{ "z":1,\r\n\t"a" : [ 1.0 ] }', array['{"a": 1}', 'null', null]::json[],
   '[2026-01-01 00:00+00,)', '1 year -2 days 03:04:05.678', '23:59:59.999999', gen_random_uuid(), '10.0.0.0/8', B'10101', 'ab', 1),
  ('Infinity', '-Infinity', 1e-45, '', 'null', 'null', '{}', 'empty', '-1 mon', '00:00', null, '::1', null, '', 2),
  (123456789012345678901234567890.1234567890123456789000, 0.1, 3.4028235e38, null, '"null"', '  "s"  ', null, null, null, null, null, null, null, null, null),
  ('-Infinity', 5e-324, '-0', null, null, ' {"\u00e9" : "\u00e9\/", "n": 1.50e+2 }', null, null, '00:00:00.000001', null, null, null, null, 'äöüß', null);
insert into shop.events values ('2025-06-01', 'a'), ('2026-06-01', E'b\\c'), ('2025-01-01', null);
insert into shop.cache values ('k', repeat('long ', 200000));
`

// What a tenant has comes back as it was, to the last byte.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	from, to := open(t), open(t)
	from.fillOwn()
	from.exec(product)
	big := bytes.Repeat([]byte("0123456789abcdef"), 540_000) // more than the store takes in one part
	names := []string{"../../etc/passwd", "notes.txt", "notes.txt", "", ".hidden\x01 ", strings.Repeat("ä", 300)}
	keys := map[string]string{}
	for i, name := range names {
		body := big[:i*1000]
		if name == "" {
			body = big
		}
		key := "files/" + from.file(name, body).String()
		keys[key] = from.content(key)
	}
	packed, m := from.export()

	stored := map[string]string{}
	got, err := archive.Import(t.Context(), to.conn, bytes.NewReader(packed), to.objects.Put)
	to.ok(err)
	if len(got.Entries) != len(m.Entries) {
		t.Errorf("%d entries imported of %d", len(got.Entries), len(m.Entries))
	}
	want, have := from.sums(), to.sums()
	if !maps.Equal(want, have) {
		t.Errorf("exported %v\nimported %v", want, have)
	}
	if want[`shop.customers`][:1] != "3" || want["freehold.predictions"][:1] != "3" || want["freehold.audit_log"][:1] != "1" {
		t.Errorf("there was too little to compare: %v", want)
	}
	for key, sum := range keys {
		if stored[key] = to.content(key); stored[key] != sum {
			t.Errorf("%s changed on the way", key)
		}
	}
	// What comes next takes up where it was: keys, indexes, sequences.
	to.exec(`insert into shop.customers (name) values ('next')`)
	var id, number int64
	to.ok(to.conn.QueryRow(t.Context(), `select (select max(id) from shop.customers), nextval('shop.numbers')`).Scan(&id, &number))
	if id != 4 || number != 42 {
		t.Errorf("goes on with %d and %d", id, number)
	}
	if _, err := to.conn.Exec(t.Context(), `insert into shop.customers (name) values ('Ann')`); err == nil {
		t.Error("a key was not made again")
	}
	if _, err := archive.Import(t.Context(), to.conn, bytes.NewReader(packed), nil); !errors.Is(err, archive.ErrNotEmpty) {
		t.Errorf("imported twice: %v", err)
	}
	from.readable(packed, m)
}

// fillOwn has rows in Freehold's own tables.
func (h *home) fillOwn() {
	h.Helper()
	for _, text := range []string{`{"messages": [{"role":"user","content":"a\nb"}]}`, "{\n \"x\":  1}", ""} {
		var input any
		if text != "" {
			input = text
		}
		h.exec(`insert into freehold.predictions (id, request_id, api_key, kind, model, state, input, salt, created_at, erased_at)
values ($1, 'r', 'k', 'chat', 'm', 'succeeded', $2, '\x00ff', now(), case when $2::json is null then now() end)`, uuid.Must(uuid.NewV7()), input)
	}
	h.exec(`insert into freehold.audit_log (id, at, actor, action, detail) values (gen_random_uuid(), now(), 'operator:x', 'note', '{ "a" :1}')`)
	h.exec(`insert into freehold.idempotency_keys (api_key, key, request_hash, prediction, expires_at) values ('k', 'secret-key', '\x00', gen_random_uuid(), now())`)
}

// readable looks at an archive as whoever unpacks it does.
func (h *home) readable(packed []byte, m archive.Manifest) {
	h.Helper()
	texts := unpack(h, packed)
	if m.Entries[0].Path != "README.txt" || !strings.Contains(texts["README.txt"], "manifest.json") {
		h.Errorf("it begins with %s", m.Entries[0].Path)
	}
	for path, text := range texts {
		if strings.Contains(text, "secret-key") {
			h.Errorf("%s has what the platform keeps", path)
		}
		if strings.Contains(path, "..") || strings.ContainsAny(path, "\\\x01\n") || strings.HasPrefix(path, "/") || len(path) > 255 {
			h.Errorf("unsafe path %q", path)
		}
		if !strings.HasSuffix(path, ".jsonl") {
			continue
		}
		for line := range strings.Lines(text) {
			if !json.Valid([]byte(line)) {
				h.Errorf("%s: no JSON: %.100s", path, line)
			}
		}
	}
	if strings.Contains(texts["schema.sql"], `\restrict`) || !strings.Contains(texts["schema.sql"], "CREATE TABLE shop.customers") {
		h.Error("schema.sql isn't the product's")
	}
	if !strings.Contains(texts["tables/shop.customers/00001.jsonl"], `"added":"2026-11-22T08:00:00.123456+00:00"`) {
		h.Errorf("rows: %s", texts["tables/shop.customers/00001.jsonl"])
	}
	var out []string
	for _, l := range m.LeftOut {
		out = append(out, l.What)
	}
	for _, what := range []string{"shop.count", "freehold.tenant_identity", "freehold.idempotency_keys", "freehold.reservations", "freehold.tenant_counters"} {
		if !slices.Contains(out, what) {
			h.Errorf("left out are %q, without %s", out, what)
		}
	}
	for _, l := range m.LeftOut {
		if strings.HasPrefix(l.Why, "a table of the platform's") {
			h.Errorf("nobody has decided on %s", l.What)
		}
	}
}

// Whatever byte is another one, and wherever it ends: nothing is imported.
func TestDamage(t *testing.T) {
	t.Parallel()
	from, to := open(t), open(t)
	from.exec(`create schema shop; create table shop.things (n integer); insert into shop.things select generate_series(1, 500)`)
	from.file("a", []byte(strings.Repeat("abc", 1000)))
	packed, _ := from.export()
	step := max(1, len(packed)/500)
	for at := 0; at < len(packed); at += step {
		bad := slices.Clone(packed)
		bad[at] ^= 1 << (at % 8)
		if _, err := archive.Read(t.Context(), bytes.NewReader(bad), nil); !errors.Is(err, archive.ErrBroken) {
			t.Errorf("byte %d of %d flipped: %v", at, len(packed), err)
		}
		if _, err := archive.Read(t.Context(), bytes.NewReader(packed[:at]), nil); !errors.Is(err, archive.ErrBroken) {
			t.Errorf("cut at %d of %d: %v", at, len(packed), err)
		}
	}
	if _, err := archive.Read(t.Context(), bytes.NewReader(append(slices.Clone(packed), packed...)), nil); !errors.Is(err, archive.ErrBroken) {
		t.Errorf("twice one behind the other: %v", err)
	}
	for _, bad := range [][]byte{packed[:len(packed)-1], flipped(packed, len(packed)-5), flipped(packed, len(packed)/2)} {
		if _, err := archive.Import(t.Context(), to.conn, bytes.NewReader(bad), nil); !errors.Is(err, archive.ErrBroken) {
			t.Errorf("imported what is damaged: %v", err)
		}
	}
	var there bool
	to.ok(to.conn.QueryRow(t.Context(), `select to_regnamespace('shop') is not null or exists (select from freehold.files)`).Scan(&there))
	if there {
		t.Error("something was imported")
	}
}

func flipped(b []byte, at int) []byte {
	b = slices.Clone(b)
	b[at] ^= 1
	return b
}

// What was removed meanwhile is named, and nobody's else is lost for it.
func TestObjectsThatAreGone(t *testing.T) {
	t.Parallel()
	h := open(t)
	gone, there := h.file("gone", []byte("x")), h.file("there", []byte("right"))
	h.ok(h.objects.Delete(t.Context(), "files/"+gone.String()))
	h.ok(h.objects.Put(t.Context(), "files/"+there.String(), strings.NewReader("wrong")))
	packed, m := h.export()
	why := map[string]string{}
	for _, l := range m.LeftOut {
		why[l.What] = l.Why
	}
	if !strings.Contains(why["files/"+gone.String()], "removed") || !strings.Contains(why["files/"+there.String()], "not those") {
		t.Errorf("left out %v", why)
	}
	if text := unpack(t, packed)["files/"+there.String()+"-there"]; text != "wrong" {
		t.Errorf("its bytes are %q", text)
	}
}
