package migrations

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// run is one database while it is migrated: the one connection, which holds the
// lock, and what was read when the lock was had.
type run struct {
	set  Set
	at   func(string)
	conn *pgx.Conn
	raw  driver.Conn // conn, for database/sql
	db   *sql.DB     // over raw; nil until goose needs it

	schema, table bool    // exist
	applied       []int64 // versions, the newest first

	check func(context.Context) error // after the statements of the migration at hand; nil: none
}

// open connects, takes the lock and reads the database's versions.
func (o Options) open(ctx context.Context, cfg *pgx.ConnConfig, s Set) (*run, error) {
	r := &run{set: s, at: o.At}
	if r.at == nil {
		r.at = func(string) {}
	}
	var err error
	r.raw, err = stdlib.GetConnector(*o.config(cfg),
		stdlib.OptionAfterConnect(func(_ context.Context, conn *pgx.Conn) error {
			r.conn = conn
			return nil
		}),
		stdlib.OptionShouldPing(func(context.Context, stdlib.ShouldPingParams) bool { return false }),
	).Connect(ctx)
	if err != nil {
		return nil, err
	}
	wait := o.LockWait
	if wait == 0 {
		wait = defaultLockWait
	}
	if err = r.lock(ctx, wait); err == nil {
		err = r.readVersions(ctx)
	}
	if err != nil {
		r.close()
		return nil, err
	}
	r.at(pointLocked)
	return r, nil
}

// close ends the connection, and the lock with it. It doesn't wait for the server.
func (r *run) close() {
	if r.db != nil {
		_ = r.db.Close()
	}
	_ = r.raw.Close() // a second time does no harm
}

// lockKey is that of goose's own session lock: releases that left the locking to
// goose and those since exclude each other.
const lockKey int64 = 4097083626

// Asked for again and again, not waited for: a session that waits in a statement
// has a snapshot, and whoever builds an index concurrently waits for those.
const tryLock = "select pg_try_advisory_lock($1)"

// A statement of its own, so that it sees what the one before in the lock did.
const selectExist = "select to_regnamespace(nullif($1, '')) is not null, to_regclass($2) is not null"

// Pauses between two tries. The first are short: a backend whose client has just
// closed lets go within milliseconds.
const (
	firstPoll = 20 * time.Millisecond
	lastPoll  = 500 * time.Millisecond
)

func (r *run) lock(ctx context.Context, wait time.Duration) error {
	schema, _, found := strings.Cut(r.set.Table, ".")
	if !found {
		schema = ""
	}
	deadline := time.Now().Add(wait)
	for pause := firstPoll; ; pause = min(2*pause, lastPoll) {
		var got bool
		var batch pgx.Batch
		batch.Queue(tryLock, lockKey).QueryRow(func(row pgx.Row) error { return row.Scan(&got) })
		batch.Queue(selectExist, schema, r.set.Table).QueryRow(func(row pgx.Row) error {
			return row.Scan(&r.schema, &r.table)
		})
		if err := r.conn.SendBatch(ctx, &batch).Close(); err != nil || got {
			return err
		}
		d := pause/2 + rand.N(pause/2) //nolint:gosec // not a secret
		if time.Until(deadline) < d {
			return ErrLocked
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
		}
	}
}

func (r *run) readVersions(ctx context.Context) error {
	if !r.table {
		return nil
	}
	// goose's row for version 0 says only that the table is there.
	rows, err := r.conn.Query(ctx, "select version_id from "+r.set.table()+
		" where is_applied and version_id > 0 order by version_id desc")
	if err != nil {
		return err
	}
	r.applied, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	return err
}

// version is the database's, 0 when it has none.
func (r *run) version() int64 {
	if len(r.applied) == 0 {
		return 0
	}
	return r.applied[0]
}

// pending are the migrations of all that the database lacks, in order.
func (r *run) pending(all []numbered) (pending []numbered, err error) {
	for _, m := range all {
		if slices.Contains(r.applied, m.version) {
			continue
		}
		if m.version < r.version() {
			return nil, fmt.Errorf("%w: %s, the database is at version %d", ErrMissing, m.name, r.version())
		}
		pending = append(pending, m)
	}
	return pending, nil
}

// provider is goose on the connection, with the version table made. It is made anew
// for each database and each attempt: one whose first step failed stays broken.
func (r *run) provider(ctx context.Context) (*goose.Provider, error) {
	r.db = sql.OpenDB(&single{conn: r.raw})
	r.db.SetMaxOpenConns(1)
	table, err := database.NewStore(database.DialectPostgres, r.set.table())
	if err != nil {
		return nil, err
	}
	if !r.table {
		if err := r.makeTable(ctx, table); err != nil {
			return nil, fmt.Errorf("make version table: %w", err)
		}
	}
	return goose.NewProvider(goose.DialectCustom, r.db, r.set.FS,
		goose.WithStore(&store{Store: table, run: r}),
		goose.WithDisableGlobalRegistry(true))
}

func (r *run) makeTable(ctx context.Context, table database.Store) error {
	if err := r.makeSchema(ctx); err != nil {
		return err
	}
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := table.CreateVersionTable(ctx, tx); err != nil {
		return err
	}
	if err := table.Insert(ctx, tx, database.InsertRequest{Version: 0}); err != nil {
		return err
	}
	return tx.Commit()
}

func (r *run) makeSchema(ctx context.Context) error {
	schema, _, found := strings.Cut(r.set.Table, ".")
	// "if not exists" wants the right to create even when there is nothing to do.
	if !found || r.schema {
		return nil
	}
	_, err := r.conn.Exec(ctx, "create schema if not exists "+pgx.Identifier{schema}.Sanitize())
	if is(err, uniqueViolation, duplicateSchema) { // an older release makes it outside the lock
		return nil
	}
	return err
}

// reset takes back what a migration set for its session: that is its own.
func (r *run) reset(ctx context.Context) error {
	_, err := r.conn.Exec(ctx, "reset role; reset all")
	return err
}

// failure is why m failed. What database/sql calls a bad connection is named as
// pgx does, so that callers need to know one name.
func (r *run) failure(m numbered, err error) error {
	if errors.Is(err, driver.ErrBadConn) {
		err = fmt.Errorf("%w: %w", pgconn.ErrConnClosed, err)
	}
	return &Error{Version: m.version, File: m.name, Err: err}
}

// single is the connector of a *sql.DB of one connection, which is never replaced:
// another one would not hold the lock.
type single struct {
	conn  driver.Conn
	taken bool // guarded by the *sql.DB, which has one connection at most
}

func (s *single) Connect(context.Context) (driver.Conn, error) {
	if s.taken {
		return nil, pgconn.ErrConnClosed
	}
	s.taken = true
	return s.conn, nil
}

func (s *single) Driver() driver.Driver { return stdlib.GetDefaultDriver() }
