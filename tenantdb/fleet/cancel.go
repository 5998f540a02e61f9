package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"freehold/catalog"
)

// cancelWait is how long CancelOperation waits for a worker to stop after its step.
const cancelWait = 30 * time.Second

// CancelOperation ends an operation and takes back what it did: an onboarding's
// database, role, objects, keys and row go; a deletion that still waits leaves its
// tenant suspended; a move or restore leaves it served as it was. One that runs is stopped after its step. It returns the
// operation as it is then: what is left to take back is any worker's, as an
// operation of its own. catalog.ErrConflict when it has ended, or can't be taken
// back any more, catalog.ErrNotFound; *catalog.Busy when its worker didn't stop.
func (f *Fleet) CancelOperation(ctx context.Context, id, actor string) (catalog.Operation, error) {
	o, err := f.cat.Operation(ctx, id)
	if err != nil {
		return o, err
	}
	switch o.Kind {
	case catalog.KindDelete:
		if o.State != catalog.OperationWaiting {
			return o, fmt.Errorf("cancel operation: it is %s: %w", o.State, catalog.ErrConflict)
		}
		err = f.Undelete(ctx, o.TenantID)
	case catalog.KindOnboard:
		err = f.cancelOnboarding(ctx, o, actor)
	default:
		if _, has := undos()[o.Kind]; has {
			err = f.cancelWorked(ctx, o)
			break
		}
		_, err = f.cat.CancelOperation(ctx, id)
	}
	if err != nil {
		return o, err
	}
	return f.cat.Operation(ctx, id)
}

// undo cancels an onboarding that waits or failed, or that this process has, and
// destroys what it made. When that fails it waits for a worker.
func (f *Fleet) undo(ctx context.Context, o catalog.Operation, actor string) error {
	undo, err := f.cat.CancelOnboarding(ctx, o, actor, stepNames(deletion))
	if err != nil {
		return err
	}
	// A conflict: a worker was quicker.
	if err := f.Do(ctx, undo.ID); err != nil && !errors.Is(err, catalog.ErrConflict) {
		f.log.WarnContext(ctx, "cancelled onboarding not yet undone", "operation", undo.ID, "reason", reason(ctx, err))
	}
	return nil
}

// cancelOnboarding asks a worker that is at it to stop, and waits until it has, or
// until its lease is over and nobody is at it any more.
func (f *Fleet) cancelOnboarding(ctx context.Context, o catalog.Operation, actor string) error {
	wait, cancel := context.WithTimeout(ctx, cancelWait)
	defer cancel()
	for asked := false; ; {
		over := o.LeaseUntil != nil && time.Now().After(*o.LeaseUntil)
		ended, err := false, error(nil)
		switch {
		case o.State == catalog.OperationCancelled && asked:
			return nil
		case o.State == catalog.OperationWaiting, o.State == catalog.OperationFailed:
			err, ended = f.undo(ctx, o, actor), true
		case o.State == catalog.OperationRunning && over:
			err, ended = f.cancelLeft(ctx, o.ID, actor), true
		case o.State == catalog.OperationRunning && !asked:
			_, err = f.cat.RequestCancel(ctx, o.ID)
			asked = err == nil
		case o.State != catalog.OperationRunning:
			return fmt.Errorf("cancel operation: it is %s: %w", o.State, catalog.ErrConflict)
		}
		if err != nil && !errors.Is(err, catalog.ErrConflict) || err == nil && ended {
			return err
		}
		now, rerr := f.cat.Operation(ctx, o.ID)
		switch {
		case rerr != nil:
			return rerr
		case err != nil && now.State == o.State && now.Token == o.Token:
			return err // nobody was quicker: that is how it is
		case pause(wait, sessionPoll) != nil:
			return fmt.Errorf("cancel operation: its worker is still at it: %w", &catalog.Busy{Operation: now})
		}
		o = now
	}
}

// cancelLeft cancels an onboarding that a dead worker left. One that can't be any
// more is left to the next worker.
func (f *Fleet) cancelLeft(ctx context.Context, id, actor string) error {
	o, err := f.cat.TakeOperation(ctx, id, f.taker())
	if err != nil {
		return err
	}
	err = f.undo(ctx, o, actor)
	if err != nil {
		_ = f.cat.ReleaseOperation(ctx, o) // or its lease runs out
	}
	return err
}
