package migrations_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"freehold/migrations"
)

var two = map[string]string{"00001_a.sql": "create table a ();", "00002_b.sql": "create table b ();"}

func TestLock(t *testing.T) {
	t.Parallel()
	cfg := emptyDatabase(t)
	holder := connect(t, cfg)
	if _, err := holder.Exec(t.Context(), "select pg_advisory_lock($1)", migrations.LockKey); err != nil {
		t.Fatal(err)
	}
	for _, wait := range []time.Duration{-1, 150 * time.Millisecond} {
		result, err := migrations.Options{LockWait: wait}.Apply(t.Context(), cfg, small(two))
		if !errors.Is(err, migrations.ErrLocked) || result.Took < wait/2 || result.Took > wait+4*time.Second {
			t.Errorf("wait %v: %+v, %v", wait, result, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := migrations.Apply(ctx, cfg, small(two)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without time: %v", err)
	}
	// Another set of the same database has to wait as well.
	other := migrations.Product([]migrations.File{{Name: "00001_a.sql", Body: "-- +goose Up\nselect 1;"}})
	if _, err := (migrations.Options{LockWait: -1}).Apply(t.Context(), cfg, other); !errors.Is(err, migrations.ErrLocked) {
		t.Errorf("another set: %v", err)
	}
	if _, err := (migrations.Options{LockWait: -1}).Down(t.Context(), cfg, small(two), 0); !errors.Is(err, migrations.ErrLocked) {
		t.Errorf("down: %v", err)
	}
	if query[bool](t, cfg, "select to_regnamespace('small') is not null or to_regnamespace('product') is not null") {
		t.Error("something was written without the lock")
	}
	done := make(chan error, 1)
	go func() {
		_, err := migrations.Apply(t.Context(), cfg, small(two))
		done <- err
	}()
	time.Sleep(30 * time.Millisecond)
	if err := holder.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("when it was let go: %v", err)
	}
}

// Releases that left lock and table to goose still run beside this one.
func TestGooseAgrees(t *testing.T) {
	t.Parallel()
	if migrations.LockKey != lock.DefaultLockID {
		t.Errorf("our lock is %d, goose's %d", migrations.LockKey, lock.DefaultLockID)
	}
	cfg := emptyDatabase(t)
	three := small(two).With(files(map[string]string{"00003_c.sql": "create table c ();"}))
	apply(t, cfg, small(two))
	db := stdlib.OpenDB(*cfg)
	defer func() { _ = db.Close() }()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, three.FS, goose.WithTableName(three.Table))
	if err != nil {
		t.Fatal(err)
	}
	results, err := provider.Up(t.Context())
	if err != nil || len(results) != 1 || results[0].Source.Version != 3 {
		t.Errorf("goose after us: %v, %v", results, err)
	}
	if again := apply(t, cfg, three); again.From != 3 || len(again.Applied) != 0 {
		t.Errorf("we after goose: %+v", again)
	}
}

func TestPoints(t *testing.T) {
	t.Parallel()
	cfg := emptyDatabase(t)
	var points []string
	o := migrations.Options{At: func(point string) { points = append(points, point) }}
	result, err := o.Apply(t.Context(), cfg, small(two))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"locked", "ddl", "row", "applied", "ddl", "row", "applied"}
	if !slices.Equal(points, want) {
		t.Errorf("points are %v", points)
	}
	if len(result.Steps) != 2 || result.Steps[1].File != "00002_b.sql" || result.Steps[1].Took <= 0 {
		t.Errorf("steps are %+v", result.Steps)
	}
	points = nil
	if _, err := o.Apply(t.Context(), cfg, small(two)); err != nil || !slices.Equal(points, want[:1]) {
		t.Errorf("again: %v, %v", points, err)
	}
}

// Whichever step the connection is lost at, the next run goes on and each migration
// is there once.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	const end = `select pg_terminate_backend(pid) from pg_stat_activity
		where datname = current_database() and application_name = 'freehold-migrate'`
	const notes = "-- +goose NO TRANSACTION\ncreate table if not exists notes (v int);\ncreate index concurrently if not exists i on notes (v);"
	for _, point := range []string{"locked", "ddl", "row", "applied"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			cfg := emptyDatabase(t)
			killer := connect(t, cfg)
			s := small(map[string]string{"00001_a.sql": "create table a ();", "00002_n.sql": notes, "00003_b.sql": "create table b ();"})
			for deaths := 0; ; deaths++ {
				if deaths > 4 {
					t.Fatal("it gets nowhere")
				}
				seen := 0
				o := migrations.Options{At: func(at string) {
					if at != point {
						return
					}
					if seen++; seen != deaths+1 {
						return
					}
					if _, err := killer.Exec(t.Context(), end); err != nil {
						t.Error(err)
					}
				}}
				result, err := o.Apply(t.Context(), cfg, s)
				if err == nil && (deaths > 0 || point == "applied") {
					break
				}
				var failed *migrations.Error
				if err == nil || point != "locked" && !errors.As(err, &failed) {
					t.Fatalf("with the connection lost: %+v, %v", result, err)
				}
				var pg *pgconn.PgError
				if !errors.Is(err, pgconn.ErrConnClosed) && !errors.As(err, &pg) && !strings.Contains(err.Error(), "EOF") {
					t.Errorf("cause is %v", err)
				}
			}
			if got := query[string](t, cfg, "select string_agg(version_id::text, ' ' order by id) from small.version"); got != "0 1 2 3" {
				t.Errorf("versions are %s", got)
			}
		})
	}
}

func TestSettingsEndWithTheirFile(t *testing.T) {
	t.Parallel()
	cfg := emptyDatabase(t)
	const note = "insert into seen select current_setting('lock_timeout') || ' ' || current_setting('statement_timeout') || ' ' || current_setting('search_path');"
	const set = "set lock_timeout = '77s'; set statement_timeout = 0; set search_path = pg_temp;"
	o := migrations.Options{LockTimeout: 300 * time.Millisecond, StatementTimeout: 9 * time.Second}
	cfg.RuntimeParams["search_path"] = "public"
	cfg.RuntimeParams["lock_timeout"] = "1h"
	s := small(map[string]string{
		"00001_table.sql": "create table seen (settings text);",
		"00002_set.sql":   note + "\n" + set,
		"00003_see.sql":   "-- +goose NO TRANSACTION\n" + note + "\n" + set,
		"00004_see.sql":   note,
	})
	if _, err := o.Apply(t.Context(), cfg, s); err != nil {
		t.Fatal(err)
	}
	if got := query[string](t, cfg, "select string_agg(settings, ', ') from seen"); got != strings.Repeat("300ms 9s public, ", 2)+"300ms 9s public" {
		t.Errorf("settings were %s", got)
	}
	var pg *pgconn.PgError
	o = migrations.Options{StatementTimeout: time.Microsecond} // rounded up: 0 would be for ever
	if _, err := o.Apply(t.Context(), cfg, s.With(files(map[string]string{"00005_slow.sql": "select pg_sleep(9);"}))); !errors.As(err, &pg) || pg.Code != "57014" {
		t.Errorf("statement_timeout: %v", err)
	}
	if cfg.RuntimeParams["lock_timeout"] != "1h" || cfg.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
		t.Error("the caller's configuration was changed")
	}
}

func TestNothingToApply(t *testing.T) {
	t.Parallel()
	cfg := emptyDatabase(t)
	cfg.Database = "nowhere" // no connection is made
	if result := apply(t, cfg, migrations.Product(nil)); result.To != 0 || result.Applied != nil {
		t.Errorf("result = %+v", result)
	}
}
