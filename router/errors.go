package router

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"freehold/tenantdb"
)

// Errors of Borrow. Compare with errors.Is.
var (
	// ErrUnknown is returned for a tenant that the catalog doesn't know, or that
	// is being made or deleted.
	ErrUnknown = errors.New("unknown tenant")
	// ErrSuspended is returned while the tenant is suspended.
	ErrSuspended = errors.New("tenant suspended")
	// ErrMoving is returned while the tenant moves to another server.
	ErrMoving = errors.New("tenant is moving")
	// ErrUpgrading is returned while the tenant's schema is outside of what this
	// binary serves.
	ErrUpgrading = errors.New("tenant's schema is outside of what this binary serves")
	// ErrBusy is returned when the tenant's connections, or the server's, are all
	// taken for longer than the caller can wait. It comes as a *Busy.
	ErrBusy = errors.New("no connection free")
	// ErrClosed is returned once Close was called.
	ErrClosed = errors.New("router closed")
)

// Busy is an ErrBusy that says when to come back.
type Busy struct {
	// RetryAfter is when a connection is to be expected.
	RetryAfter time.Duration
	// Reason is for people.
	Reason string
}

func (b *Busy) Error() string { return "borrow connection: " + ErrBusy.Error() + ": " + b.Reason }

func (b *Busy) Unwrap() error { return ErrBusy }

// busy refuses a borrower, and writes down why. It holds mu.
func (r *Router) busy(p *pool, expected time.Duration, reason string) error {
	whose := "the tenant's connections are all in use"
	if len(p.tickets) < r.limit(p) {
		whose = "the server's connections are all in use"
	}
	p.rec.decided("refused: " + whose + ", " + reason)
	return &Busy{RetryAfter: max(expected, time.Second), Reason: whose + ", " + reason}
}

// errGone says that a pool went out of use between pin and lease: look again.
var errGone = errors.New("pool gone")

// SQLSTATEs that decide something here.
const (
	invalidPassword       = "28P01"
	invalidAuthorization  = "28000"
	unknownDatabase       = "3D000"
	insufficientPrivilege = "42501"
	tooManyConnections    = "53300"
	notAccepting          = "55000"
	readOnlyTransaction   = "25006"
	adminShutdown         = "57P01"
	crashShutdown         = "57P02"
	cannotConnectNow      = "57P03"
	connectionException   = "08" // a class
)

// connectError names why no connection could be made. The driver's text stays
// behind: it names hosts and roles, and nobody decides by it.
func connectError(err error) error {
	switch {
	case errors.Is(err, tenantdb.ErrForeign):
		return fmt.Errorf("open connection: %w", tenantdb.ErrForeign)
	case sqlState(err) == tooManyConnections:
		return &Busy{RetryAfter: time.Second, Reason: "the server is full"}
	case errors.Is(err, ErrClosed):
		return ErrClosed
	case errors.Is(err, errBroken):
		return err
	default:
		return fmt.Errorf("open connection: %w: %s", tenantdb.ErrUnavailable, reason(err))
	}
}

// routeIsDoubtful reports whether err is what a route looks like that is no
// longer true: a rotated password, a database that has gone elsewhere.
func routeIsDoubtful(err error) bool {
	switch sqlState(err) {
	case invalidPassword, invalidAuthorization, unknownDatabase, insufficientPrivilege:
		return true
	}
	return errors.Is(err, tenantdb.ErrForeign)
}

func sqlState(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}

func reason(err error) string {
	if code := sqlState(err); code != "" {
		return "SQLSTATE " + code
	}
	if pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded) {
		return "timeout"
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return "connection lost"
}

// waitError is what a caller is told whose context ended while it waited: what
// it waited for when its time was up, and nothing else when it went away itself.
func waitError(ctx context.Context, waitedFor error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("borrow connection: %w: %w", waitedFor, ctx.Err())
	}
	return fmt.Errorf("borrow connection: %w", ctx.Err())
}
