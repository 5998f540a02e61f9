package catalog_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"freehold/catalog"
	"freehold/migrations"
)

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
		"deleting": "failed true false", "delete-waits": "waiting false true", "doubtful": "failed true false",
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
	other := setupWith(t, newKeyset(t))
	_, err := other.cat.Load(t.Context(), bytes.NewReader(text), "d")
	b.is(err, catalog.ErrWrongMasterKey)
	for _, left := range []*bench{to, other} {
		conn := left.as(migrations.RoleCatalog)
		for _, table := range append(catalog.Dumped()[3:], "chores") {
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
			skip = slices.ContainsFunc([]string{"operators", "usage_daily", "model_aliases", "tenant_due", "audit_heads"}, func(table string) bool {
				return strings.HasPrefix(line, `["table","`+table+`"`)
			})
			line = strings.NewReplacer(`,"ready"`, "", `,"fallbacks"`, "", `,"max_output_tokens"`, "", `,"pii_deny"`, "", `"slug"`, `"slug","was_here"`).Replace(line)
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
	if n := to.number(conn, `select count(*) from models where fallbacks = '[]' and max_output_tokens = 4096`); n != 1 {
		t.Errorf("%d models have the defaults", n)
	}
}
