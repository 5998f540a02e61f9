package migrations_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"freehold/migrations"
)

// both makes a file system of migrations, each with the SQL of its Up and its Down.
func both(scripts map[string][2]string) fs.FS {
	made := fstest.MapFS{}
	for name, s := range scripts {
		made[name] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + s[0] + "\n-- +goose Down\n" + s[1] + "\n")}
	}
	return made
}

func down(cfg *pgx.ConnConfig, s migrations.Set, to int64) (migrations.Result, error) {
	return migrations.Options{}.Down(context.Background(), cfg, s, to)
}

const selectTables = "select coalesce(string_agg(relname, ' ' order by relname), '') from pg_class where relnamespace = 'public'::regnamespace"

func TestDown(t *testing.T) {
	t.Parallel()
	cfg := emptyDatabase(t)
	s := small(nil).With(both(map[string][2]string{
		"00001_a.sql": {"create table a (v int);", "drop table a;"},
		"00003_b.sql": {"create table b ();", "set lock_timeout = '9s'; drop table b;"},
		"00004_i.sql": {noTx + "create index concurrently i on a (v);", "drop index concurrently i;"},
	}))
	apply(t, cfg, s)
	if same, err := down(cfg, s, 4); err != nil || same.To != 4 || same.Applied != nil {
		t.Errorf("to where it is: %+v, %v", same, err)
	}
	var points []string
	o := migrations.Options{At: func(point string) { points = append(points, point) }}
	two, err := o.Down(t.Context(), cfg, s, 2)
	if err != nil || two.From != 4 || two.To != 1 || !slices.Equal(two.Applied, []string{"00004_i.sql", "00003_b.sql"}) {
		t.Errorf("down to 2: %+v, %v", two, err)
	}
	if got := strings.Join(points, " "); got != "locked ddl row applied ddl row applied" {
		t.Errorf("points are %s", got)
	}
	if got := query[string](t, cfg, selectTables); got != "a" {
		t.Errorf("left: %s", got)
	}
	if up := apply(t, cfg, s); up.From != 1 || up.To != 4 {
		t.Errorf("up again: %+v", up)
	}
	if none, err := down(cfg, s, 0); err != nil || none.To != 0 || query[string](t, cfg, selectTables) != "" {
		t.Errorf("down to 0: %+v, %v", none, err)
	}
	if _, err := down(cfg, s, -1); err == nil {
		t.Error("down to -1")
	}
}

func TestDownRefused(t *testing.T) {
	t.Parallel()
	cfg := emptyDatabase(t)
	s := small(nil).With(both(map[string][2]string{
		"00001_a.sql": {"create table a ();", "-- nothing"},
		"00002_b.sql": {"create table b ();", ""},
		"00003_c.sql": {"create table c ();", "drop table c;"},
	}))
	apply(t, cfg, s)
	for to, names := range map[int64][]string{0: {"00001_a.sql", "00002_b.sql"}, 1: {"00002_b.sql"}} {
		result, err := down(cfg, s, to)
		if !errors.Is(err, migrations.ErrNoDown) || errors.Is(err, migrations.ErrAhead) || result.To != 3 {
			t.Errorf("to %d: %+v, %v", to, result, err)
		}
		for _, name := range names {
			if err != nil && !strings.Contains(err.Error(), name) {
				t.Errorf("to %d: %s is not named in %v", to, name, err)
			}
		}
	}
	older := s.UpTo(2)
	if _, err := down(cfg, older, 2); !errors.Is(err, migrations.ErrNoDown) || !errors.Is(err, migrations.ErrAhead) {
		t.Errorf("with an older set: %v", err)
	}
	if got := query[string](t, cfg, selectTables); got != "a b c" {
		t.Errorf("left: %s", got)
	}
}

func TestDownFails(t *testing.T) {
	t.Parallel()
	cfg := emptyDatabase(t)
	s := small(nil).With(both(map[string][2]string{
		"00001_a.sql": {"create table a ();", "drop table nowhere;"},
		"00002_b.sql": {"create table b ();", "drop table b;"},
	}))
	apply(t, cfg, s)
	result, err := down(cfg, s, 0)
	var failed *migrations.Error
	if !errors.As(err, &failed) || failed.Version != 1 || result.To != 1 || !slices.Equal(result.Applied, []string{"00002_b.sql"}) {
		t.Errorf("%+v, %v", result, err)
	}
	if v, err := migrations.Version(t.Context(), connect(t, cfg), s); v != 1 || err != nil {
		t.Errorf("version %d, %v", v, err)
	}
}

// Freehold's own migrations can all be taken back.
func TestOwnDown(t *testing.T) {
	t.Parallel()
	cfg := emptyDatabase(t)
	apply(t, cfg, migrations.Tenant())
	if result, err := down(cfg, migrations.Tenant(), 0); err != nil || result.To != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	if got := query[string](t, cfg, "select coalesce(string_agg(relname, ' '), '') from pg_class where relkind in ('r', 'p') and relnamespace = 'freehold'::regnamespace"); got != "schema_version" {
		t.Errorf("left: %s", got)
	}
	apply(t, cfg, migrations.Tenant())
}
