package migrations_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"

	"freehold/migrations"
	"freehold/migrations/pgtest"
)

func TestApply(t *testing.T) {
	t.Parallel()
	for _, s := range []migrations.Set{migrations.Catalog(), migrations.Tenant()} {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			cfg := emptyDatabase(t)
			want := latest(t, s)
			first := apply(t, cfg, s)
			if first.From != 0 || first.To != want || int64(len(first.Applied)) != want || first.Took <= 0 {
				t.Errorf("first: %+v, want version %d", first, want)
			}
			again := apply(t, cfg, s)
			if again.From != want || again.To != want || len(again.Applied) != 0 {
				t.Errorf("again: %+v, want nothing done", again)
			}
			extended := s.With(files(map[string]string{"90001_more.sql": "create table more ();"}))
			more := apply(t, cfg, extended)
			if more.From != want || more.To != 90001 || !slices.Equal(more.Applied, []string{"90001_more.sql"}) {
				t.Errorf("with one more: %+v", more)
			}
		})
	}
}

func TestVersionReadsOnly(t *testing.T) {
	t.Parallel()
	cfg := emptyDatabase(t)
	cfg.RuntimeParams["default_transaction_read_only"] = "on"
	for _, s := range []migrations.Set{migrations.Catalog(), migrations.Tenant()} {
		if v, err := migrations.Version(t.Context(), connect(t, cfg), s); v != 0 || err != nil {
			t.Errorf("%s of an empty database = %d, %v", s.Name, v, err)
		}
	}
	cfg, err := pgx.ParseConfig(pgtest.Catalog(t))
	if err != nil {
		t.Fatal(err)
	}
	want := latest(t, migrations.Catalog())
	if v, err := migrations.Version(t.Context(), connect(t, cfg), migrations.Catalog()); v != want || err != nil {
		t.Errorf("catalog = %d, %v; want %d", v, err, want)
	}
}

func TestFailedMigration(t *testing.T) {
	t.Parallel()
	cfg := emptyDatabase(t)
	s := small(map[string]string{
		"00001_good.sql":  "create table good ();",
		"00002_bad.sql":   "create table half ();\nselect 1/0;",
		"00003_later.sql": "create table later ();",
	})
	result, err := migrations.Apply(t.Context(), cfg, s)
	var failed *migrations.Error
	if !errors.As(err, &failed) || failed.Version != 2 || failed.File != "00002_bad.sql" {
		t.Fatalf("error = %v", err)
	}
	var partial *goose.PartialError
	if !errors.As(err, &partial) {
		t.Error("goose's own error is lost")
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "22012" {
		t.Errorf("cause is lost: %v", err)
	}
	if result.From != 0 || result.To != 1 || !slices.Equal(result.Applied, []string{"00001_good.sql"}) {
		t.Errorf("result = %+v", result)
	}
	if query[bool](t, cfg, "select to_regclass('half') is not null or to_regclass('later') is not null") {
		t.Error("the failed migration left something")
	}
	// A healed one goes on where it stopped.
	healed := apply(t, cfg, s.With(files(map[string]string{"00002_bad.sql": "create table half ();"})))
	if healed.From != 1 || healed.To != 3 {
		t.Errorf("healed: %+v", healed)
	}
}

func TestAhead(t *testing.T) {
	t.Parallel()
	cfg := emptyDatabase(t)
	old := small(map[string]string{"00001_a.sql": "select 1;"})
	apply(t, cfg, old.With(files(map[string]string{"00002_b.sql": "select 2;"})))
	cfg.RuntimeParams["default_transaction_read_only"] = "on" // refused, and not by a failed write
	result, err := migrations.Apply(t.Context(), cfg, old)
	if !errors.Is(err, migrations.ErrAhead) || result.From != 2 {
		t.Errorf("apply of an older set: %+v, %v", result, err)
	}
}

func TestMissingNumberIsAnError(t *testing.T) {
	t.Parallel()
	cfg := emptyDatabase(t)
	apply(t, cfg, small(map[string]string{"00001_a.sql": "select 1;", "00003_c.sql": "select 3;"}))
	late := small(map[string]string{"00001_a.sql": "select 1;", "00002_b.sql": "select 2;", "00003_c.sql": "select 3;"})
	result, err := migrations.Apply(t.Context(), cfg, late)
	if !errors.Is(err, migrations.ErrMissing) || !strings.Contains(err.Error(), "00002_b.sql") || result.From != 3 {
		t.Errorf("a migration slipped in below the database's version: %+v, %v", result, err)
	}
}

func TestConcurrentApply(t *testing.T) {
	t.Parallel()
	cfg := emptyDatabase(t)
	s := small(map[string]string{"00001_a.sql": "create table a ();", "00002_b.sql": "create table b ();"})
	var wg sync.WaitGroup
	results := make([]migrations.Result, 4)
	errs := make([]error, len(results))
	for i := range results {
		wg.Go(func() { results[i], errs[i] = migrations.Apply(t.Context(), cfg, s) })
	}
	wg.Wait()
	applied := 0
	for i, result := range results {
		applied += len(result.Applied)
		if errs[i] != nil || result.To != 2 {
			t.Errorf("run %d: %+v, %v", i, result, errs[i])
		}
	}
	if applied != 2 {
		t.Errorf("applied %d migrations, want each of 2 once", applied)
	}
}

func TestSessionSettings(t *testing.T) {
	t.Parallel()
	cfg := emptyDatabase(t)
	settings := `create table settings as select current_setting('lock_timeout') as lock,
		current_setting('idle_in_transaction_session_timeout') as idle, current_setting('application_name') as name;`
	apply(t, cfg, small(map[string]string{"00001_settings.sql": settings}))
	if got := query[string](t, cfg, "select lock || ' ' || idle || ' ' || name from settings"); got != "5s 1min freehold-migrate" {
		t.Errorf("settings = %s", got)
	}
}

func TestLockTimeout(t *testing.T) {
	t.Parallel()
	cfg := emptyDatabase(t)
	exec(t, cfg, "create table busy ()")
	tx, err := connect(t, cfg).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), "lock table busy"); err != nil {
		t.Fatal(err)
	}
	quick := cfg.Copy()
	quick.RuntimeParams["lock_timeout"] = "50ms"
	began := time.Now()
	_, err = migrations.Apply(t.Context(), quick, small(map[string]string{"00001_a.sql": "alter table busy add a int;"}))
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "55P03" {
		t.Errorf("error = %v, want lock_not_available", err)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("waited %v", took)
	}
	if quick.RuntimeParams["application_name"] != "" {
		t.Error("Apply changed its caller's configuration")
	}
}

const selectAsleep = `
select exists (select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep')`

func TestCancelledApply(t *testing.T) {
	t.Parallel()
	cfg := emptyDatabase(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := migrations.Apply(ctx, cfg, small(map[string]string{"00001_slow.sql": "select pg_sleep(60);"}))
		done <- err
	}()
	watcher := connect(t, cfg)
	for asleep := false; !asleep; time.Sleep(5 * time.Millisecond) {
		if err := watcher.QueryRow(t.Context(), selectAsleep).Scan(&asleep); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	select {
	case err := <-done:
		var failed *migrations.Error
		if !errors.As(err, &failed) || !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Apply goes on")
	}
	// The lock went with the connection.
	apply(t, cfg, small(map[string]string{"00001_slow.sql": "select 1;"}))
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	cfg := emptyDatabase(t)
	cfg.Database = "nowhere"
	_, err := migrations.Apply(t.Context(), cfg, migrations.Catalog())
	if err == nil || strings.Contains(err.Error(), cfg.Password) {
		t.Errorf("error = %v", err)
	}
}

const selectForeign = `
select coalesce(string_agg(c.relname || ' of ' || pg_get_userbyid(c.relowner), ', '), '')
  from pg_class c
 where c.relnamespace = 'freehold'::regnamespace and pg_get_userbyid(c.relowner) <> 'freehold_owner'`

func TestTenantSchemaBelongsToOwner(t *testing.T) {
	t.Parallel()
	cfg, err := pgx.ParseConfig(pgtest.Tenant(t).OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	if got := query[string](t, cfg, selectForeign); got != "" {
		t.Errorf("not the owner's: %s", got)
	}
	if got := query[string](t, cfg, "select nspowner::regrole::text from pg_namespace where nspname = 'freehold'"); got != migrations.RoleOwner {
		t.Errorf("schema freehold belongs to %s", got)
	}
}
