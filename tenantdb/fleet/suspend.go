package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb"
)

// Suspend stops serving an active tenant: catalog state, fence, sessions. What
// nodes do they do by themselves: one that hears of the new epoch refuses the
// tenant's requests and closes its connections, borrowed ones too once settles have
// had their second; one that doesn't hear is refused by the fence in its next
// statement. After that second the tenant's role can't log in any more and what is
// left of its sessions is ended: when this returns nil there was none. For a tenant
// that is suspended already all but the state is done again.
// catalog.ErrConflict in any other state; with ErrUnfenced and ErrSessionsLeft the
// state stands, and the same call goes on.
func (f *Fleet) Suspend(ctx context.Context, id catalog.TenantID) error {
	if err := f.transition(ctx, "suspend tenant", id, catalog.Suspended, catalog.Active); err != nil {
		return err
	}
	t, err := f.cat.Tenant(ctx, id)
	if err != nil {
		return fmt.Errorf("suspend tenant: %w: %w", ErrSessionsLeft, err)
	}
	err = f.endSessions(ctx, t, func(ctx context.Context) error {
		// Who resumed it meanwhile has the last word.
		now, err := f.cat.Tenant(ctx, id)
		if err == nil && now.State != catalog.Suspended {
			err = fmt.Errorf("it is %s by now: %w", now.State, catalog.ErrConflict)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("suspend tenant: %w", err)
	}
	return nil
}

// Resume serves a suspended tenant again: its database is brought to the fleet's
// schema, what its nodes could not settle is settled, its role may log in, then state
// and fence. Twice is once. catalog.ErrConflict in any other state; with *NotUpgraded,
// tenantdb.ErrUnavailable and ErrStore it is still suspended, with ErrUnfenced it is not.
func (f *Fleet) Resume(ctx context.Context, id catalog.TenantID) error {
	t, err := f.cat.Tenant(ctx, id)
	if err != nil {
		return fmt.Errorf("resume tenant: %w", err)
	}
	if t.State != catalog.Suspended && t.State != catalog.Active {
		return fmt.Errorf("resume tenant: it is %s: %w", t.State, catalog.ErrConflict)
	}
	if t.State == catalog.Suspended {
		// Not under the lock of logins: it takes as long as it takes.
		if err := f.patiently(ctx, func() error { return f.bringUp(ctx, t) }); err != nil {
			return fmt.Errorf("resume tenant: %w", err)
		}
	}
	f.dieAt("resume/up")
	err = f.upToDate(ctx, t, func() error { return f.resume(ctx, t) })
	if err != nil && !errors.Is(err, catalog.ErrConflict) && !errors.Is(err, ErrUnfenced) {
		return fmt.Errorf("resume tenant: %w", err)
	}
	return err
}

func (f *Fleet) resume(ctx context.Context, t catalog.Tenant) error {
	return f.withLogin(ctx, t, f.patience, func(ctx context.Context, conn *pgx.Conn) error {
		if t.State == catalog.Suspended { // one that is active has its visits
			if err := f.catchUp(ctx, t); err != nil {
				return err
			}
		}
		if err := allowLogin(ctx, conn, t.Role, true); err != nil {
			return err
		}
		err := f.transition(ctx, "resume tenant", t.ID, catalog.Active, catalog.Suspended)
		if errors.Is(err, catalog.ErrConflict) || errors.Is(err, catalog.ErrNotFound) {
			// Deleted meanwhile, or behind the fleet again: as it was.
			err = errors.Join(err, allowLogin(ctx, conn, t.Role, false))
		}
		return err
	})
}

// patiently tries fn again for the fleet's patience while the server is away.
func (f *Fleet) patiently(ctx context.Context, fn func() error) error {
	deadline := time.Now().Add(f.patience)
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := fn()
		if !errors.Is(err, tenantdb.ErrUnavailable) || time.Now().Add(wait).After(deadline) || pause(ctx, wait) != nil {
			return err
		}
	}
}

// withLogin runs fn under the lock of whoever changes whether the tenant's role may
// log in, on a connection of the admin's to database postgres. When the server is
// away it tries again for patience, so fn can be done twice. What was begun is
// ended also for a caller who has gone.
func (f *Fleet) withLogin(ctx context.Context, t catalog.Tenant, patience time.Duration, fn func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience+loginTimeout)
	defer cancel()
	deadline := time.Now().Add(patience)
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := f.tryLogin(ctx, t, fn)
		away := errors.Is(err, tenantdb.ErrUnavailable) && !errors.Is(err, ErrUnfenced)
		if !away || time.Now().Add(wait).After(deadline) || pause(ctx, wait) != nil {
			return bounded(ctx, err)
		}
	}
}

// bounded says of what a bound of our own cut off that something was away: it is no
// deadline of the caller's.
func bounded(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && !errors.Is(err, tenantdb.ErrUnavailable) {
		return fmt.Errorf("%w: out of time", tenantdb.ErrUnavailable)
	}
	return err
}

func (f *Fleet) tryLogin(ctx context.Context, t catalog.Tenant, fn func(context.Context, *pgx.Conn) error) error {
	conn, err := f.admin(ctx, t.Server, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	// Not the tenant's lock: who has that may be at work for hours.
	if _, err := conn.Exec(ctx, lockName, "freehold login "+t.ID.String()); err != nil {
		return fmt.Errorf("lock: %w", translate(ctx, err))
	}
	return fn(ctx, conn)
}
