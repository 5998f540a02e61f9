package migrations

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"
)

// Options are how migrations are run. The zero value does for most.
type Options struct {
	LockTimeout      time.Duration // a statement's, for a lock; 0: as cfg has it, else 5 s
	StatementTimeout time.Duration // 0: as cfg has it, else none
	LockWait         time.Duration // for others that migrate the database; 0: 5 min, below 0: none
	// At is called on the way, by tests that die there: "locked" before anything is
	// done; for each migration "ddl" after its statements, "row" after its version
	// was written, and "applied" after the commit of both.
	At func(point string)
}

// The points of Options.At.
const (
	pointLocked  = "locked"
	pointDDL     = "ddl"
	pointRow     = "row"
	pointApplied = "applied"
)

const (
	defaultLockTimeout = 5 * time.Second
	defaultLockWait    = 5 * time.Minute
)

// Result is what was done; after an error, what was done until then.
type Result struct {
	From, To int64    // versions; 0 is an empty database
	Applied  []string // file names, in order; of Down: those taken back
	Steps    []Step   // the same, with more
	Took     time.Duration
}

// Step is one migration that was run.
type Step struct {
	File string
	Took time.Duration
}

func (r *Result) add(m numbered, took time.Duration) {
	r.Applied = append(r.Applied, m.name)
	r.Steps = append(r.Steps, Step{File: m.name, Took: took})
}

// Apply is Options.Apply with nothing said.
func Apply(ctx context.Context, cfg *pgx.ConnConfig, s Set) (Result, error) {
	return Options{}.Apply(ctx, cfg, s)
}

// Apply brings the database of cfg to the latest version of the set, on one
// connection of its own, which it closes. Only one Apply or Down works on a
// database at a time, of whatever set: others wait, for LockWait or until ctx
// ends, and then find nothing to do.
//
// A failed migration is an *Error; ErrAhead, ErrMissing and ErrLocked are of the
// whole database. A set of no files does nothing, and doesn't connect.
func (o Options) Apply(ctx context.Context, cfg *pgx.ConnConfig, s Set) (Result, error) {
	began := time.Now()
	result, err := o.apply(ctx, cfg, s)
	result.Took = time.Since(began)
	if err != nil {
		return result, fmt.Errorf("apply %s migrations: %w", s.Name, err)
	}
	return result, nil
}

func (o Options) apply(ctx context.Context, cfg *pgx.ConnConfig, s Set) (result Result, err error) {
	all, err := s.list()
	if err != nil || len(all) == 0 {
		return result, err
	}
	r, err := o.open(ctx, cfg, s)
	if err != nil {
		return result, err
	}
	defer r.close()
	result.From, result.To = r.version(), r.version()
	if latest := all[len(all)-1].version; result.From > latest {
		return result, ahead(result.From, latest)
	}
	pending, err := r.pending(all)
	if err != nil || len(pending) == 0 {
		return result, err
	}
	provider, err := r.provider(ctx)
	if err != nil {
		return result, err
	}
	for i, m := range pending {
		if i > 0 {
			if err := r.reset(ctx); err != nil {
				return result, r.failure(m, err)
			}
		}
		took, err := r.up(ctx, provider, m)
		if err != nil {
			return result, r.failure(m, err)
		}
		result.To = m.version
		result.add(m, took)
		r.at(pointApplied)
	}
	return result, nil
}

// up applies one migration.
func (r *run) up(ctx context.Context, provider *goose.Provider, m numbered) (time.Duration, error) {
	began := time.Now()
	concurrent, err := r.concurrent(m)
	if err != nil {
		return 0, err
	}
	r.check = nil
	if concurrent != nil {
		known, err := r.sweep(ctx, concurrent)
		if err != nil {
			return 0, err
		}
		r.check = func(ctx context.Context) error { return r.allValid(ctx, concurrent, known) }
	}
	_, err = provider.ApplyVersion(ctx, m.version, true)
	return time.Since(began), err
}

// config is cfg with what a migration's connection has.
func (o Options) config(cfg *pgx.ConnConfig) *pgx.ConnConfig {
	cfg = cfg.Copy()
	if cfg.RuntimeParams == nil {
		cfg.RuntimeParams = map[string]string{}
	}
	// A migration that queues for a lock stops everybody behind it; one whose
	// process is gone should not go on for long.
	for name, value := range map[string]string{
		"lock_timeout":                        millis(defaultLockTimeout),
		"idle_in_transaction_session_timeout": "60s",
		"idle_session_timeout":                "60s", // the session holds the lock
		"client_connection_check_interval":    "10s",
	} {
		if _, set := cfg.RuntimeParams[name]; !set {
			cfg.RuntimeParams[name] = value
		}
	}
	if o.LockTimeout > 0 {
		cfg.RuntimeParams["lock_timeout"] = millis(o.LockTimeout)
	}
	if o.StatementTimeout > 0 {
		cfg.RuntimeParams["statement_timeout"] = millis(o.StatementTimeout)
	}
	cfg.RuntimeParams["application_name"] = "freehold-migrate"
	// Each statement is run once: to prepare it would cost a round trip more.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	cfg.StatementCacheCapacity, cfg.DescriptionCacheCapacity = 0, 0
	return cfg
}

// millis is d for Postgres, to whom 0 means for ever.
func millis(d time.Duration) string {
	return strconv.FormatInt(max(1, d.Milliseconds()), 10)
}

// Version is the database's version in the set, 0 when it has none. It reads
// only, and takes no lock that a migration would wait for.
func Version(ctx context.Context, conn *pgx.Conn, s Set) (int64, error) {
	var exists bool
	if err := conn.QueryRow(ctx, "select to_regclass($1) is not null", s.Table).Scan(&exists); err != nil || !exists {
		return 0, err
	}
	var v int64
	err := conn.QueryRow(ctx, "select coalesce(max(version_id), 0) from "+s.table()+" where is_applied").Scan(&v)
	return v, err
}

// table is the name of the version table, quoted.
func (s Set) table() string { return pgx.Identifier(strings.Split(s.Table, ".")).Sanitize() }
