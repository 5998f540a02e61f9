package migrations

import (
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// ErrAhead says that a database is at a version which this binary doesn't
	// have: a newer release has migrated it. Nothing was done to it.
	ErrAhead = errors.New("database is ahead of this binary")

	// ErrMissing says that a migration below the database's version was never
	// applied to it: somebody gave a new one an old number. Nothing was done.
	ErrMissing = errors.New("migration was passed over")

	// ErrLocked says that another process migrated the database for as long as
	// one was willing to wait. Nothing was done.
	ErrLocked = errors.New("another process is migrating the database")

	// ErrInvalidIndex says that a migration without a transaction left an index
	// that isn't valid: nothing uses it, and a unique one is no promise. The
	// migration isn't recorded as applied.
	ErrInvalidIndex = errors.New("index is not valid")

	// ErrNoDown says that a migration can't be taken back: it isn't in the set,
	// or says nothing about how. Nothing was done.
	ErrNoDown = errors.New("migration has no way back")
)

// Error is a migration that failed. Those before it are applied; it is not,
// unless it runs without a transaction, when any part of it may be.
type Error struct {
	Version int64
	File    string
	Err     error
}

func (e *Error) Error() string { return fmt.Sprintf("migration %s: %v", e.File, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

func ahead(is, latest int64) error {
	return fmt.Errorf("%w: it has version %d, the latest here is %d", ErrAhead, is, latest)
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
