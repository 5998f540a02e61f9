package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"freehold/catalog"
)

// undos take back what operations made that failed for good or were cancelled, by
// kind. Each can be done again, and is catalog.ErrConflict once there is no way back.
func undos() map[string]func(*Fleet, context.Context, catalog.Operation) error {
	return map[string]func(*Fleet, context.Context, catalog.Operation) error{
		catalog.KindMove:    (*Fleet).undoMove,
		catalog.KindBackup:  (*Fleet).undoBackup,
		catalog.KindRestore: (*Fleet).undoRestore,
		catalog.KindExport:  (*Fleet).undoExport,
	}
}

// endUndone ends an operation that failed for good, was cancelled, or has to begin
// anew after a while: what it made is taken back first. While that can't be, it is
// tried again.
func (f *Fleet) endUndone(ctx context.Context, o catalog.Operation, state, failure string, after time.Duration,
	undo func(*Fleet, context.Context, catalog.Operation) error,
) error {
	working, lost := context.WithCancelCause(ctx)
	beats := make(chan struct{})
	go func() {
		defer close(beats)
		f.keep(working, o, lost)
	}()
	err := undo(f, working, o)
	lost(nil)
	<-beats
	switch {
	case err == nil:
		return f.cat.EndOperation(ctx, o, state, failure, after)
	case errors.Is(err, catalog.ErrLost):
		return err
	case errors.Is(err, catalog.ErrConflict):
		// There is no way back: forward only.
		return f.cat.EndOperation(ctx, o, catalog.OperationWaiting, failure, backoff(o.Attempts))
	default:
		why := "not yet taken back: " + reason(ctx, err)
		if failure != "" {
			why = failure + "; " + why
		}
		f.log.WarnContext(ctx, "operation not yet taken back", "operation", o.ID, "kind", o.Kind, "tenant", o.TenantID.String(), "reason", reason(ctx, err))
		return f.cat.EndOperation(ctx, o, catalog.OperationWaiting, why, backoff(o.Attempts))
	}
}

// cancelWorked cancels an operation whose worker, or whoever takes it next, takes back
// what it did.
func (f *Fleet) cancelWorked(ctx context.Context, o catalog.Operation) error {
	wait, cancel := context.WithTimeout(ctx, cancelWait)
	defer cancel()
	for asked := false; ; {
		over := o.LeaseUntil != nil && time.Now().After(*o.LeaseUntil)
		var err error
		switch {
		case o.State == catalog.OperationCancelled && asked:
			return nil
		case o.State == catalog.OperationWaiting && o.Token == 0: // nobody has begun it
			if _, err = f.cat.CancelOperation(ctx, o.ID); err == nil {
				return nil
			}
		case o.State == catalog.OperationWaiting, o.State == catalog.OperationFailed, o.State == catalog.OperationRunning && over:
			if err = f.cancelTaken(ctx, o.ID); err == nil {
				asked = true
			}
		case o.State == catalog.OperationRunning && !asked:
			_, err = f.cat.RequestCancel(ctx, o.ID)
			asked = err == nil
		case o.State != catalog.OperationRunning:
			return fmt.Errorf("cancel operation: it is %s: %w", o.State, catalog.ErrConflict)
		}
		if err != nil && !errors.Is(err, catalog.ErrConflict) {
			return err
		}
		now, rerr := f.cat.Operation(ctx, o.ID)
		switch {
		case rerr != nil:
			return rerr
		case err != nil && now.State == o.State && now.Token == o.Token:
			return err
		case now.State == catalog.OperationWaiting && asked:
			return fmt.Errorf("cancel operation: it is being taken back: %s: %w", now.Error, &catalog.Busy{Operation: now})
		case pause(wait, sessionPoll) != nil:
			return fmt.Errorf("cancel operation: its worker is still at it: %w", &catalog.Busy{Operation: now})
		}
		o = now
	}
}

// cancelTaken takes an operation that nobody is at, and ends it as cancelled.
func (f *Fleet) cancelTaken(ctx context.Context, id string) error {
	o, err := f.cat.TakeOperation(ctx, id, f.taker())
	if err != nil {
		return err
	}
	if _, err := f.cat.RequestCancel(ctx, id); err != nil {
		return err
	}
	// What it returns is why the operation ended: that it was cancelled is no failure here.
	if err := f.ended(ctx, o, fmt.Errorf("operation %s: %w", id, catalog.ErrCancelled)); !errors.Is(err, catalog.ErrCancelled) {
		return err
	}
	return nil
}
