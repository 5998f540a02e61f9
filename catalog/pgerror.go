package catalog

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATEs that a caller can do something about.
const (
	uniqueViolation     = "23505"
	foreignKeyViolation = "23503"
	checkViolation      = "23514"
	invalidParameter    = "22023" // at login: role= names a role that doesn't exist
	invalidCatalogName  = "3D000"
	queryCanceled       = "57014" // statement_timeout
	lockNotAvailable    = "55P03"
)

// wrap turns an error of pgx into one of this package, once, at the edge. Texts
// of Postgres quote values, and those of pgx name hosts and users, so neither is
// kept: the SQLSTATE and the constraint say what an operator needs.
func wrap(op string, err error) error {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case isOurs(err):
		return err
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%s: %w", op, ErrNotFound)
	case errors.As(err, &pg):
		return fmt.Errorf("%s: %w", op, fromServer(pg))
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w: %w", op, ErrUnavailable, context.Canceled)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w: %w", op, ErrUnavailable, context.DeadlineExceeded)
	}
	// Of a network's error only the errno is kept: "connection refused".
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return fmt.Errorf("%s: %w: %s", op, ErrUnavailable, errno.Error())
	}
	return fmt.Errorf("%s: %w", op, ErrUnavailable)
}

func isOurs(err error) bool {
	for _, ours := range []error{ErrNotFound, ErrExists, ErrConflict, ErrInvalid, ErrInvalidKey,
		ErrUnavailable, ErrWrongMasterKey, ErrNotMigrated, ErrLost, ErrCancelled, ErrMismatch, ErrSealBroken, errStatement} {
		if errors.Is(err, ours) {
			return true
		}
	}
	return false
}

// errStatement marks a refusal by Postgres that is a mistake of ours.
var errStatement = errors.New("postgres refused the statement")

func fromServer(pg *pgconn.PgError) error {
	switch pg.Code {
	case uniqueViolation:
		return fmt.Errorf("%w (%s)", ErrExists, pg.ConstraintName)
	case foreignKeyViolation:
		return fmt.Errorf("%w (%s)", ErrConflict, pg.ConstraintName)
	case checkViolation:
		return fmt.Errorf("%w (%s)", ErrInvalid, pg.ConstraintName)
	case queryCanceled, lockNotAvailable, invalidCatalogName:
		return fmt.Errorf("%w: SQLSTATE %s", ErrUnavailable, pg.Code)
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	// Connection, login, resources, operator intervention, system error.
	case "08", "28", "53", "57", "58":
		return fmt.Errorf("%w: SQLSTATE %s", ErrUnavailable, pg.Code)
	}
	return fmt.Errorf("%w: SQLSTATE %s", errStatement, pg.Code)
}
