package fleet

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"freehold/migrations"
	"freehold/tenantdb"
)

// locked reports whether others held what was needed, so that a later try may do.
func locked(err error) bool {
	s := state(err)
	return s == stateLockTimeout || s == stateDeadlock
}

// jitter is between half and all of 200 ms, 400 ms, 800 ms, …
func jitter(try int) time.Duration {
	d := 100 * time.Millisecond << try
	return d/2 + rand.N(d/2) //nolint:gosec // not a secret
}

// reason says in a few words why a database could not be worked on.
func reason(ctx context.Context, err error) string {
	where := ""
	if m, ok := errors.AsType[*migrations.Error](err); ok {
		where = m.File + ": "
	}
	err = translate(ctx, err)
	switch {
	case errors.Is(err, context.Canceled):
		return where + "cancelled"
	case errors.Is(err, context.DeadlineExceeded):
		return where + "out of time"
	case errors.Is(err, migrations.ErrAhead):
		return migrations.ErrAhead.Error()
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return where + r.Error()
	}
	for _, plain := range []error{tenantdb.ErrUnavailable, ErrStore} {
		if errors.Is(err, plain) {
			return where + plain.Error()
		}
	}
	return where + err.Error()
}
