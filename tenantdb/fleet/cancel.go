package fleet

import (
	"context"
	"fmt"
	"time"

	"freehold/catalog"
)

// cancelWait is how long CancelOperation waits for a worker to stop after its step.
const cancelWait = 30 * time.Second

// CancelOperation ends an operation and takes back what it did: an onboarding's
// database, role, objects, keys and row go; a deletion that still waits leaves its
// tenant suspended. One that runs is stopped after its step. It returns the
// operation as it is then. catalog.ErrConflict when it has ended, or can't be taken
// back any more, catalog.ErrNotFound.
func (f *Fleet) CancelOperation(ctx context.Context, id, actor string) (catalog.Operation, error) {
	o, err := f.cat.Operation(ctx, id)
	if err != nil {
		return o, err
	}
	switch {
	case o.Kind == catalog.KindDelete:
		if o.State != catalog.OperationWaiting {
			return o, fmt.Errorf("cancel operation: it is %s: %w", o.State, catalog.ErrConflict)
		}
		err = f.Undelete(ctx, o.TenantID)
	case o.Kind == catalog.KindOnboard && o.State != catalog.OperationRunning:
		err = f.undo(ctx, o, actor)
	case o.State == catalog.OperationRunning:
		err = f.stopRunning(ctx, o, actor)
	default:
		_, err = f.cat.CancelOperation(ctx, id)
	}
	if err != nil {
		return o, err
	}
	return f.cat.Operation(ctx, id)
}

// undo takes back what an onboarding made. When that fails it waits for a worker.
func (f *Fleet) undo(ctx context.Context, o catalog.Operation, actor string) error {
	undo, err := f.cat.CancelOnboarding(ctx, o, actor, stepNames(deletion))
	if err != nil {
		return err
	}
	return f.Do(ctx, undo.ID)
}

// stopRunning asks the operation's worker to stop, and waits until it has, or until
// its lease is over and nobody is at it any more.
func (f *Fleet) stopRunning(ctx context.Context, o catalog.Operation, actor string) error {
	o, err := f.cat.RequestCancel(ctx, o.ID)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cancelWait)
	defer cancel()
	for {
		if o, err = f.cat.Operation(ctx, o.ID); err != nil {
			return err
		}
		switch {
		case o.State == catalog.OperationCancelled:
			return nil
		case o.State != catalog.OperationRunning && o.Kind == catalog.KindOnboard:
			return f.undo(ctx, o, actor) // it waits for another try, or was done first: a conflict
		case o.State != catalog.OperationRunning:
			return fmt.Errorf("cancel operation: it is %s: %w", o.State, catalog.ErrConflict)
		case o.LeaseUntil != nil && time.Now().After(*o.LeaseUntil):
			if o, err = f.cat.TakeOperation(ctx, o.ID, f.taker()); err == nil && o.Kind == catalog.KindOnboard {
				return f.undo(ctx, o, actor)
			}
		}
		if err := pause(ctx, sessionPoll); err != nil {
			return fmt.Errorf("cancel operation: its worker is still at it: %w", &catalog.Busy{Operation: o})
		}
	}
}
