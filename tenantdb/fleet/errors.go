package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"freehold/tenantdb"
)

// Errors of this package. Compare with errors.Is.
var (
	// ErrInsecureServer is returned for a remote server without
	// sslmode=verify-full and without Insecure.
	ErrInsecureServer = errors.New("a remote server needs sslmode=verify-full (or --insecure)")
	// ErrServerOpen is returned when any role can connect to a database that
	// isn't its own; the text holds the statement that a superuser runs once.
	ErrServerOpen = errors.New("strangers can connect to databases of this server")
	// ErrServerUnfit is returned when version, rights, connections or logins of a
	// server don't do; the text says which.
	ErrServerUnfit = errors.New("server unfit")
	// ErrStore is returned when the object store can't be reached or refuses.
	ErrStore = errors.New("the object store can't be used")
	// ErrNotIsolated is returned when a new tenant's role could do what it must not;
	// the text says what.
	ErrNotIsolated = errors.New("the tenant is not isolated")
	// ErrPartial is returned when a part was done; the report says which.
	ErrPartial = errors.New("done in part")
	// ErrOtherBinary is returned for a rollout whose migrations aren't this binary's:
	// another release has to do it.
	ErrOtherBinary = errors.New("not this binary's migrations")
	// ErrUnfenced is returned when the catalog was changed and the tenant's
	// database could not be told: until it is, a node that is cut off from the
	// catalog may act on the old truth. The same call again tells it.
	ErrUnfenced = errors.New("changed, but the tenant's database could not be fenced")
	// ErrBackupBroken is returned for a backup that was restored on trial and isn't what
	// was backed up, or can't be read; the text says where.
	ErrBackupBroken = errors.New("the backup doesn't hold what was backed up")
	// ErrSessionsLeft is returned when the tenant's state was changed and sessions of
	// its role are left, or nobody could look. The same call again goes on.
	ErrSessionsLeft = errors.New("changed, but sessions of the tenant may be left")
)

// refusal is what a server answered, for operators: SQLSTATE and the message of
// those classes whose messages name objects and never quote rows.
type refusal struct{ state, message string }

func (r *refusal) Error() string { return r.message + " (SQLSTATE " + r.state + ")" }

// translate turns a driver's error into one that can be shown.
func translate(ctx context.Context, err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && len(pg.Code) == 5 {
		switch pg.Code[:2] {
		case "0A", "28", "2B", "2D", "25", "42", "54", "55":
			return &refusal{pg.Code, pg.Message}
		}
	}
	return tenantdb.Translate(ctx, err)
}

// unmigrated is a migration's error in words that can be shown, which decisions can
// still be made by.
type unmigrated struct {
	why    string
	causes []error
}

func (e *unmigrated) Error() string { return e.why }

func (e *unmigrated) Unwrap() []error { return e.causes }

// because is err as reason tells it.
func because(ctx context.Context, err error) error {
	return &unmigrated{reason(ctx, err), []error{translate(ctx, err), err}}
}

// storeError keeps of an object store's error that it is one, and the caller's own
// end: the rest names hosts, buckets and request ids.
func storeError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrStore, ctx.Err())
	}
	return ErrStore
}

// state returns the SQLSTATE inside err, or "".
func state(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.state
	}
	return ""
}

// SQLSTATEs that decisions rest on.
const (
	stateDenied       = "42501" // insufficient privilege
	stateNoPassword   = "28P01" // password refused
	stateLockTimeout  = "55P03" // lock not available
	stateDeadlock     = "40P01"
	stateDuplicateObj = "42710"
	stateInUse        = "55006" // a database that somebody is in
	stateNoDatabase   = "3D000" // also a template

	stateQueryCancelled = "57014"
)

// whyUnreachable says why no connection came about, for the operator who adds the
// server: the innermost cause, without user, host or database.
func whyUnreachable(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Message + " (SQLSTATE " + pg.Code + ")"
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.Err
	}
	for {
		switch e := err.(type) { //nolint:errorlint // this walks the chain itself
		case interface{ Unwrap() error }:
			inner := e.Unwrap()
			if inner == nil {
				return err.Error()
			}
			err = inner
		case interface{ Unwrap() []error }:
			// One for each address that was tried; the last is the one that the driver ended with.
			inner := e.Unwrap()
			if len(inner) == 0 {
				return err.Error()
			}
			err = inner[len(inner)-1]
		default:
			return err.Error()
		}
	}
}
