package replica

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Errors of this package. Compare with errors.Is.
var (
	// ErrUnfit is returned when a server or a table can't be an end of a replication;
	// the text says what is missing.
	ErrUnfit = errors.New("not fit for logical replication")
	// ErrUnreachable is returned when the target can't log in to the source; the text
	// has the target's own reason.
	ErrUnreachable = errors.New("the target can't reach the source")
	// ErrSlotLost is returned when the source doesn't keep any more what the target has
	// yet to get: the replication has to begin anew.
	ErrSlotLost = errors.New("the source's replication slot is gone or has lost its place")
	// ErrBusy is returned when a worker or a session didn't end in time. Try again.
	ErrBusy = errors.New("still in use")
)

// Differs is two databases that don't hold the same.
type Differs struct {
	Tables []string // quoted, with their schemas, in order
}

func (d *Differs) Error() string {
	return "source and target differ in " + strings.Join(d.Tables, ", ")
}

// SQLSTATEs that decisions rest on.
const (
	stateDenied     = "42501" // insufficient privilege
	stateSyntax     = "42601" // also a connection string that doesn't parse
	stateNoObject   = "42704"
	stateDuplicate  = "42710"
	stateInUse      = "55006"
	classConnection = "08"
)

func state(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}
