package migrations_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"freehold/migrations"
)

const noTx = "-- +goose NO TRANSACTION\n"

// twice has two rows of one value, on which a unique index can't be built.
func twice(t *testing.T) *pgx.ConnConfig {
	t.Helper()
	cfg := emptyDatabase(t)
	exec(t, cfg, "create schema shop; create table shop.twice (v int, w int); insert into shop.twice values (1, 1), (1, 2)")
	return cfg
}

const selectValid = "select coalesce(string_agg(indexrelid::regclass || ' ' || indisvalid, ', ' order by 1), '') from pg_index where indrelid = 'shop.twice'::regclass"

func TestBrokenIndexIsBuiltAgain(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"plain":         "create unique index concurrently one on shop.twice (v);",
		"if not exists": `CREATE /* a */ UNIQUE INDEX CONCURRENTLY IF NOT EXISTS one ON ONLY "shop".twice (v);`,
		"search_path":   "create unique index concurrently if not exists one on twice (v);",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := twice(t)
			cfg.RuntimeParams["search_path"] = "shop"
			s := small(map[string]string{"00001_i.sql": noTx + "alter table shop.twice add x int;\n" + statement})
			_, err := migrations.Apply(t.Context(), cfg, s)
			var pg *pgconn.PgError
			if !errors.As(err, &pg) || pg.Code != "23505" {
				t.Fatalf("on equal rows: %v", err)
			}
			if got := query[string](t, cfg, selectValid); got != "one false" {
				t.Fatalf("what is left: %s", got) // else this test shows nothing
			}
			// What was done before it stands, without a transaction; and isn't recorded.
			exec(t, cfg, "delete from shop.twice where w = 2; alter table shop.twice drop x")
			result := apply(t, cfg, s)
			if got := query[string](t, cfg, selectValid); got != "one true" || result.From != 0 || result.To != 1 {
				t.Errorf("healed: %s, %+v", got, result)
			}
		})
	}
}

func TestInvalidIndexIsNotRecorded(t *testing.T) {
	t.Parallel()
	cfg := twice(t)
	conn := connect(t, cfg)
	if _, err := conn.Exec(t.Context(), "create unique index concurrently one on shop.twice (v)"); err == nil {
		t.Fatal("built on equal rows")
	}
	// It can't be known beforehand which table is meant, and the statement is content.
	hidden := small(map[string]string{"00001_i.sql": noTx + "set search_path = shop;\ncreate unique index concurrently if not exists one on twice (v);"})
	result, err := migrations.Apply(t.Context(), cfg, hidden)
	var failed *migrations.Error
	if !errors.Is(err, migrations.ErrInvalidIndex) || !errors.As(err, &failed) || failed.File != "00001_i.sql" ||
		!strings.Contains(err.Error(), `"shop"."one"`) || result.To != 0 {
		t.Errorf("%+v, %v", result, err)
	}
	if v, err := migrations.Version(t.Context(), conn, hidden); v != 0 || err != nil {
		t.Errorf("recorded as %d, %v", v, err)
	}
	// One that was there before, of another name, is nobody's fault.
	other := small(map[string]string{"00001_w.sql": noTx + "create index concurrently w on shop.twice (w);"})
	if result := apply(t, cfg, other); result.To != 1 {
		t.Errorf("beside another's: %+v", result)
	}
	if got := query[string](t, cfg, selectValid); got != "shop.one false, shop.w true" {
		t.Errorf("indexes: %s", got)
	}
}

func TestConcurrentBuild(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 40)
	for statement, want := range map[string][]string{
		"create index concurrently i on t (a)":                                   {"", "t", "i"},
		"CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS I ON ONLY S.T USING gin": {"s", "t", "i"},
		`create index concurrently "a ""B" on "S" . "on"(a)`:                     {"S", "on", `a "B`},
		"-- x\ncreate/* a /* b */ */index\n--y\nconcurrently i on--z\nt(a)":      {"", "t", "i"},
		"create index concurrently " + long + " on t (a)":                        {"", "t", strings.Repeat("ä", 31)},
		`create index concurrently "on" on t (a)`:                                {"", "t", "on"},
		"create index concurrently on t (a)":                                     nil, // Postgres names it
		"create index i on t (a)":                                                nil,
		"create index concurrently if exists i on t (a)":                         nil,
		"create index concurrently i on ":                                        nil,
		"create index concurrently i on (a)":                                     nil,
		"create index concurrently i on s.":                                      nil,
		"create index concurrently i to t":                                       nil,
		"create table t ()":                                                      nil,
		`"create" index concurrently i on t (a)`:                                 nil,
		"/* create index concurrently i on t":                                    nil,
		"":                                                                       nil,
	} {
		schema, table, name, ok := migrations.ConcurrentBuild(statement)
		if got := []string{schema, table, name}; ok != (want != nil) || ok && !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", statement, got, ok)
		}
	}
}

func FuzzConcurrentBuild(f *testing.F) {
	f.Add("create index concurrently i on t (a)")
	f.Add(`create unique index concurrently if not exists "a" on only s./* b */t (a)`)
	f.Fuzz(func(t *testing.T, statement string) {
		schema, table, name, ok := migrations.ConcurrentBuild(statement)
		if !ok && schema+table+name != "" {
			t.Errorf("no, and %q, %q, %q", schema, table, name)
		}
		if len(schema) > 63 || len(table) > 63 || len(name) > 63 {
			t.Error("a name is longer than Postgres has it")
		}
	})
}
