package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// ErrAhead says that a database is at a version which this binary doesn't
// have: a newer release has migrated it. Nothing was done to it.
var ErrAhead = errors.New("database is ahead of this binary")

// Error is a migration that failed. Those before it are applied; it is not,
// unless it runs without a transaction, when any part of it may be.
type Error struct {
	Version int64
	File    string
	Err     error
}

func (e *Error) Error() string { return fmt.Sprintf("migration %s: %v", e.File, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// Result is what Apply did; after an error, what it did until then.
type Result struct {
	From, To int64    // versions; 0 is an empty database
	Applied  []string // file names, in order
	Took     time.Duration
}

// lockTries is how often, a second apart, the lock of a database is asked for
// that another process is migrating.
const lockTries = 300

// Apply brings the database of cfg to the latest version of the set, on
// connections of its own. Only one Apply works on a database at a time: others
// wait, up to five minutes or until ctx ends, and then find nothing to do.
//
// A failed migration is an *Error. A database with a version above the set's
// is ErrAhead. Unless cfg says otherwise, a migration waits 5 s for a lock.
func Apply(ctx context.Context, cfg *pgx.ConnConfig, s Set) (Result, error) {
	began := time.Now()
	result, err := apply(ctx, session(cfg), s)
	result.Took = time.Since(began)
	if err != nil {
		return result, fmt.Errorf("apply %s migrations: %w", s.Name, err)
	}
	return result, nil
}

// session is cfg with what every migration's connection has.
func session(cfg *pgx.ConnConfig) *pgx.ConnConfig {
	cfg = cfg.Copy()
	if cfg.RuntimeParams == nil {
		cfg.RuntimeParams = map[string]string{}
	}
	// A migration that queues for a lock stops everybody behind it.
	for name, value := range map[string]string{
		"lock_timeout":                        "5s",
		"idle_in_transaction_session_timeout": "60s",
	} {
		if _, set := cfg.RuntimeParams[name]; !set {
			cfg.RuntimeParams[name] = value
		}
	}
	cfg.RuntimeParams["application_name"] = "freehold-migrate"
	return cfg
}

func apply(ctx context.Context, cfg *pgx.ConnConfig, s Set) (Result, error) {
	latest, err := s.Latest()
	if err != nil {
		return Result{}, err
	}
	from, err := prepare(ctx, cfg, s, latest)
	result := Result{From: from, To: from}
	if err != nil {
		return result, err
	}
	// A goose Provider whose first step failed stays broken, and a locker's
	// tries are for its whole life: both are made anew for each database.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, lockTries))
	if err != nil {
		return result, err
	}
	db := stdlib.OpenDB(*cfg)
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(2) // the lock's connection, and one beside it
	provider, err := goose.NewProvider(goose.DialectPostgres, db, s.FS,
		goose.WithTableName(s.Table),
		goose.WithSessionLocker(locker),
		goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return result, err
	}
	applied, err := provider.Up(ctx)
	err = failure(err, &applied)
	for _, step := range applied {
		result.To = step.Source.Version
		result.Applied = append(result.Applied, path.Base(step.Source.Path))
	}
	if err != nil {
		return result, err
	}
	if len(applied) > 0 {
		return result, nil
	}
	// Nothing to do can mean that somebody else did it while we waited, and
	// goose is silent about a database that is ahead.
	result.To, err = version(ctx, db, s)
	if err == nil && result.To > latest {
		err = ahead(result.To, latest)
	}
	return result, err
}

// failure turns goose's error into ours. What had been applied is then in the
// error alone. A cancelled run's error also holds that of the broken
// connection, so the partial one is looked for first.
func failure(err error, applied *[]*goose.MigrationResult) error {
	var partial *goose.PartialError
	if !errors.As(err, &partial) {
		return err
	}
	*applied = partial.Applied
	source := partial.Failed.Source
	return &Error{Version: source.Version, File: path.Base(source.Path), Err: partial}
}

func ahead(is, latest int64) error {
	return fmt.Errorf("%w: it has version %d, the latest here is %d", ErrAhead, is, latest)
}

// prepare refuses a database that is ahead before anything is written to it,
// makes the version table's schema, and returns the version found.
func prepare(ctx context.Context, cfg *pgx.ConnConfig, s Set, latest int64) (int64, error) {
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return 0, err
	}
	// ctx may have ended; pgx closes the socket within this time regardless.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	defer func() { _ = conn.Close(closing) }()
	from, err := Version(ctx, conn, s)
	if err != nil {
		return 0, err
	}
	if from > latest {
		return from, ahead(from, latest)
	}
	if from == 0 {
		return 0, ensureSchema(ctx, conn, s)
	}
	return from, nil
}

func ensureSchema(ctx context.Context, conn *pgx.Conn, s Set) error {
	schema, _, found := strings.Cut(s.Table, ".")
	if !found {
		return nil
	}
	// Asked first, because "if not exists" wants the right to create even when
	// there is nothing to do.
	var exists bool
	if err := conn.QueryRow(ctx, "select to_regnamespace($1) is not null", schema).Scan(&exists); err != nil || exists {
		return err
	}
	_, err := conn.Exec(ctx, "create schema if not exists "+pgx.Identifier{schema}.Sanitize())
	if is(err, uniqueViolation, duplicateSchema) { // another Apply was quicker
		return nil
	}
	return err
}

// Version is the database's version in the set, 0 when it has none. It reads
// only, and takes no lock that a migration would wait for.
func Version(ctx context.Context, conn *pgx.Conn, s Set) (int64, error) {
	var exists bool
	if err := conn.QueryRow(ctx, "select to_regclass($1) is not null", s.Table).Scan(&exists); err != nil || !exists {
		return 0, err
	}
	var v int64
	err := conn.QueryRow(ctx, selectVersion(s)).Scan(&v)
	return v, err
}

// version is Version on a database that has the table.
func version(ctx context.Context, db *sql.DB, s Set) (int64, error) {
	var v int64
	err := db.QueryRowContext(ctx, selectVersion(s)).Scan(&v)
	return v, err
}

func selectVersion(s Set) string {
	table := pgx.Identifier(strings.Split(s.Table, ".")).Sanitize()
	return "select coalesce(max(version_id), 0) from " + table + " where is_applied"
}

// SQLSTATEs.
const (
	uniqueViolation = "23505"
	duplicateSchema = "42P06"
	duplicateObject = "42710"
	internalError   = "XX000" // among others: tuple concurrently updated
	undefinedObject = "42704"

	insufficientPrivilege = "42501"
)

// is tells whether err is Postgres's, with one of the codes.
func is(err error, codes ...string) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	return slices.Contains(codes, pg.Code)
}
