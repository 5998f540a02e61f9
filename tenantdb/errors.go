package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Errors of this package. Compare with errors.Is.
var (
	// ErrFenced is returned when the tenant's truth has moved past what this node
	// decided on; nothing was done. Read the catalog again, decide again.
	ErrFenced = errors.New("fenced: decided on an old truth")
	// ErrNotFound is returned when the row doesn't exist.
	ErrNotFound = errors.New("not found")
	// ErrInvalid is returned when a value can't be stored: text with a NUL in it,
	// a state that doesn't exist, an id that isn't a uuid v7.
	ErrInvalid = errors.New("invalid value")
	// ErrInProgress is returned when the request is still at work.
	ErrInProgress = errors.New("still in progress")
	// ErrUnavailable is returned when the database can't be reached, refuses
	// connections or went away. Whether a statement in flight was done is unknown.
	ErrUnavailable = errors.New("tenant database unavailable")
	// ErrForeign is returned by Prove when the database is another tenant's.
	ErrForeign = errors.New("the database belongs to another tenant")
	// ErrStorageFull is returned when a file is larger than what is left of the
	// tenant's storage.
	ErrStorageFull = errors.New("storage full")
	// ErrInUse is returned when an unfinished job needs the file.
	ErrInUse = errors.New("in use by a fine-tuning job")
	// ErrMismatch is returned when an Idempotency-Key came with another request.
	ErrMismatch = errors.New("the Idempotency-Key is another request's")
	// ErrLostJob is returned to a worker whose job another one has taken over;
	// nothing was recorded.
	ErrLostJob = errors.New("the job is another worker's")
	// ErrEndedJob is returned when the job had ended before; nothing was recorded.
	// It is inside each *JobEnded.
	ErrEndedJob = errors.New("the job has ended")
)

// MissingFile is returned when a job names a file that isn't there to be used: it
// doesn't exist, is on its way, has expired, is being deleted or is for something
// else.
type MissingFile struct {
	Param string // training_file or validation_file
}

func (e *MissingFile) Error() string { return e.Param + ": no such file" }

// JobEnded is ErrEndedJob with the job as it ended.
type JobEnded struct{ Job Job }

func (e *JobEnded) Error() string { return ErrEndedJob.Error() + ": " + e.Job.State }

// Unwrap makes it ErrEndedJob.
func (e *JobEnded) Unwrap() error { return ErrEndedJob }

const (
	// stateCheck and constraintFence are what the fence check raises.
	stateCheck      = "23514"
	constraintFence = "fence"
	// stateCancelled is how a statement ends that the caller's context, a timeout
	// of the session's or an administrator has cancelled.
	stateCancelled = "57014"
)

// isStalePlan reports whether a prepared statement's plan was made before the
// tables changed. Other uses of the SQLSTATE come from other routines.
func isStalePlan(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "0A000" && pg.Routine == "RevalidateCachedQuery"
}

// state returns the SQLSTATE of the server's report, or "".
func state(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// Translate turns an error of the driver into one of this package: the only place
// where that is done. The caller's own cancelled or expired ctx stays what it is.
// The result never holds the driver's text, which names hosts, roles and values.
func Translate(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ours(err):
		return err
	case ctx.Err() != nil && (errors.Is(err, ctx.Err()) || pgconn.Timeout(err) || state(err) == stateCancelled):
		return ctx.Err()
	case errors.Is(err, pgx.ErrNoRows):
		return ErrNotFound
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return translateState(pg)
	}
	if lost(err) {
		return fmt.Errorf("%w: connection", ErrUnavailable)
	}
	return err
}

// translateState keeps of the server's report the class and the constraint's
// name: message and detail can quote what the tenant wrote.
func translateState(pg *pgconn.PgError) error {
	class := pg.Code
	if len(class) > 2 {
		class = class[:2]
	}
	switch {
	case pg.Code == stateCheck && pg.ConstraintName == constraintFence && pg.SchemaName == "freehold":
		return ErrFenced
	case class == "08", // connection exception
		class == "28",      // login refused
		class == "53",      // no slots, memory or disk
		class == "58",      // the server's own system failed
		pg.Code == "3D000", // no such database
		pg.Code == "55000", // the database accepts no connections
		pg.Code == stateCancelled,
		pg.Code == "57P01", // shut down by an administrator
		pg.Code == "57P02", // crash elsewhere
		pg.Code == "57P03", // starting up or shutting down
		pg.Code == "57P04", // database dropped
		pg.Code == "57P05": // idle session ended
		return fmt.Errorf("%w: SQLSTATE %s", ErrUnavailable, pg.Code)
	case class == "22", class == "23":
		return fmt.Errorf("%w: SQLSTATE %s %s", ErrInvalid, pg.Code, pg.ConstraintName)
	}
	return &StateError{State: pg.Code}
}

// StateError is what the server refused for a reason that has no name here.
type StateError struct {
	// State is the SQLSTATE, five characters.
	State string
}

func (e *StateError) Error() string { return "database refused: SQLSTATE " + e.State }

func ours(err error) bool {
	for _, known := range []error{
		ErrFenced, ErrNotFound, ErrInvalid, ErrInProgress, ErrUnavailable, ErrForeign,
		ErrStorageFull, ErrInUse, ErrMismatch, ErrLostJob, ErrEndedJob,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	if _, ok := errors.AsType[*MissingFile](err); ok {
		return true
	}
	_, ok := errors.AsType[*StateError](err)
	return ok
}

// lost reports whether err is about the connection, not about what was sent on it.
func lost(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		pgconn.Timeout(err) || pgconn.SafeToRetry(err)
}
