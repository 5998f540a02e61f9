package fleet

import (
	"context"
	"fmt"
	"time"

	"freehold/catalog"
)

const (
	// DefaultGrace is how long a deletion can be taken back.
	DefaultGrace = 7 * 24 * time.Hour
	// MaxGrace is the longest that it can wait.
	MaxGrace = 366 * 24 * time.Hour
)

// DeleteOptions say when a deletion begins, and who asked for it.
type DeleteOptions struct {
	Grace time.Duration // default DefaultGrace
	Now   bool          // without grace
	Actor string
}

// Delete stops serving a tenant at once, as Suspend does, and has a worker destroy
// all of it when its grace is over; until then Undelete takes it back. One that is
// still being made, because its onboarding failed or was cancelled, goes at once.
// Again, with a shorter grace, it brings that moment forward, and has a deletion
// that failed or was cancelled go on. catalog.ErrConflict while it moves, as a
// *catalog.Busy while it is busy with another operation; with ErrUnfenced and
// ErrSessionsLeft the operation stands, and the same call goes on.
func (f *Fleet) Delete(ctx context.Context, id catalog.TenantID, o DeleteOptions) (catalog.Operation, error) {
	grace := o.Grace
	switch {
	case o.Now:
		grace = 0
	case grace == 0:
		grace = DefaultGrace
	}
	if grace < 0 || grace > MaxGrace {
		return catalog.Operation{}, &catalog.Invalid{Field: "grace", Text: fmt.Sprintf("grace: want 0 to %s", MaxGrace)}
	}
	op, _, err := f.cat.BeginDeletion(ctx, id, grace, o.Actor, stepNames(deletion))
	if err != nil {
		return op, fmt.Errorf("delete tenant: %w", err)
	}
	f.log.InfoContext(ctx, "tenant is to be deleted", "tenant", id.String(), "operation", op.ID, "run_at", op.RunAt)
	if op.Token > 0 { // begun: its steps see to that
		return op, nil
	}
	if err := f.stop(ctx, id, op.ID); err != nil {
		return op, fmt.Errorf("delete tenant: %w", err)
	}
	return op, nil
}

// stop binds the deletion: fence, and no session left (G5).
func (f *Fleet) stop(ctx context.Context, id catalog.TenantID, operation string) error {
	// The catalog is changed already: it must not stay half done for a caller who left.
	ctx = context.WithoutCancel(ctx)
	t, err := f.cat.Tenant(ctx, id)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnfenced, err)
	}
	d, err := f.cat.Deletion(ctx, operation)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnfenced, err)
	}
	if !d.Half { // which has served nobody, and may have no database
		if err := f.fenceOrGone(ctx, t); err != nil {
			return err
		}
	}
	return f.endSessions(ctx, t, func(ctx context.Context) error {
		now, err := f.cat.Tenant(ctx, id)
		if err == nil && now.State != catalog.Deleting && now.State != catalog.Deleted {
			err = fmt.Errorf("it is %s by now: %w", now.State, catalog.ErrConflict)
		}
		return err
	})
}

// fenceOrGone is fence for a tenant whose database somebody may have dropped.
func (f *Fleet) fenceOrGone(ctx context.Context, t catalog.Tenant) error {
	lctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := f.admin(lctx, t.Server, maintenance)
	if err == nil {
		defer closeConn(ctx, conn)
		there, err := exists(lctx, conn, databaseExists, t.ID)
		if err == nil && !there {
			return nil
		}
	}
	// Also when nobody could look: it tries for longer, and says what it met.
	return f.fence(ctx, t.ID)
}

// Undelete takes a deletion back while it waits: the tenant is suspended then.
// catalog.ErrConflict for one that isn't being deleted, once the deletion has
// begun, and for one that was never whole.
func (f *Fleet) Undelete(ctx context.Context, id catalog.TenantID) error {
	if _, err := f.cat.Undelete(ctx, id); err != nil {
		return err
	}
	f.log.InfoContext(ctx, "tenant changed state", "tenant", id.String(), "state", string(catalog.Suspended))
	// Its fence is that of the deletion, which whoever knows the older truth is
	// below: a suspended tenant is refused all the same.
	return nil
}
