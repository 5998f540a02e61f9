package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Deletion is what a deletion knows from its beginning on, as its operation's
// arguments have it.
type Deletion struct {
	// Half says that the tenant was still being made: it has served nobody.
	Half  bool                       `json:"half"`
	Notes map[string]json.RawMessage `json:"notes,omitempty"` // of its steps, see NoteOperation
}

const (
	lastDeletion = `
 where o.tenant = $1 and o.kind = 'delete' order by o.id desc limit 1`

	setDue = `
update operations set run_at = now() + $2::interval where id = $1`
	bringForward = `
update operations set run_at = least(run_at, now() + $2::interval) where id = $1 and state = 'waiting'`
)

// BeginDeletion has a tenant deleted after a grace period: its state and the
// operation, which waits for that moment, in one transaction. One that is still
// being made is deleted at once. For a tenant that is being deleted already, it
// brings the moment forward when grace is shorter, and has a deletion that failed
// or was cancelled go on. ErrConflict while the tenant moves, *Busy while it is
// busy with another operation.
func (c *Catalog) BeginDeletion(ctx context.Context, id TenantID, grace time.Duration, actor string, steps []string) (o Operation, epoch int64, err error) {
	epoch, err = c.changeTenant(ctx, "begin deletion", id, func(tx pgx.Tx, state State) (bool, error) {
		switch state {
		case Active, Suspended, Provisioning:
			o, err = newDeletion(ctx, tx, id, grace, actor, steps, Deletion{Half: state == Provisioning})
			if err == nil {
				_, err = tx.Exec(ctx, updateState, id, Deleting, []State{state})
			}
			return true, err
		case Deleting:
			o, err = goOnDeleting(ctx, tx, id, grace, actor, steps)
			return false, err
		default:
			return false, fmt.Errorf("begin deletion: tenant is %s: %w", state, ErrConflict)
		}
	})
	return o, epoch, err
}

func newDeletion(ctx context.Context, tx pgx.Tx, id TenantID, grace time.Duration, actor string, steps []string, args Deletion) (Operation, error) {
	if args.Half {
		grace = 0
	}
	o, err := beginOperation(ctx, tx, OperationSpec{Kind: KindDelete, Tenant: id, Actor: actor, Args: args, Steps: steps})
	if err != nil {
		return o, err
	}
	// By the database's clock, which decides also when it is due.
	if _, err := tx.Exec(ctx, setDue, o.ID, grace); err != nil {
		return o, err
	}
	return readOperation(ctx, tx, ` where o.id = $1`, o.ID)
}

func goOnDeleting(ctx context.Context, tx pgx.Tx, id TenantID, grace time.Duration, actor string, steps []string) (Operation, error) {
	last, err := readOperation(ctx, tx, lastDeletion, id)
	if errors.Is(err, pgx.ErrNoRows) { // begun by a release that had no operations
		return newDeletion(ctx, tx, id, grace, actor, steps, Deletion{})
	}
	if err != nil {
		return last, err
	}
	switch last.State {
	case OperationCancelled:
		var args Deletion // and what its steps had found
		if err := json.Unmarshal(last.Args, &args); err != nil {
			return last, fmt.Errorf("begin deletion: the arguments of operation %s can't be read: %w", last.ID, ErrConflict)
		}
		if last.Token > 0 {
			grace = 0 // it has begun, and can't be undone
		}
		return newDeletion(ctx, tx, id, grace, actor, steps, args)
	case OperationFailed:
		if _, err = tx.Exec(ctx, updateRetry, last.ID); err == nil && last.Token == 0 {
			// It hasn't begun: a restore has put it before a person, who gives it its grace.
			_, err = tx.Exec(ctx, setDue, last.ID, grace)
		}
	case OperationWaiting:
		_, err = tx.Exec(ctx, bringForward, last.ID, grace)
	}
	if err != nil {
		return last, err
	}
	return readOperation(ctx, tx, ` where o.id = $1`, last.ID)
}

// The guards are one with the change: who takes the operation finds it cancelled,
// or is found to have taken it.
const (
	cancelDeletion = `
update operations set state = 'cancelled', ended_at = now()
 where tenant = $1 and kind = 'delete' and state in ('waiting', 'failed') and token = 0`
	selectBegun = `
select exists (select from operations
                where tenant = $1 and kind = 'delete' and (token > 0 or (args ->> 'half')::boolean is true))`
)

// Undelete takes a deletion back that still waits: its operation is cancelled and
// the tenant suspended. ErrConflict for a tenant that isn't being deleted, once
// the deletion has begun, and for one that was never whole.
func (c *Catalog) Undelete(ctx context.Context, id TenantID) (epoch int64, err error) {
	return c.changeTenant(ctx, "undelete", id, func(tx pgx.Tx, state State) (bool, error) {
		if state != Deleting {
			return false, fmt.Errorf("undelete: tenant is %s: %w", state, ErrConflict)
		}
		if _, err := tx.Exec(ctx, cancelDeletion, id); err != nil {
			return false, err
		}
		var begun bool
		if err := tx.QueryRow(ctx, selectBegun, id).Scan(&begun); err != nil {
			return false, err
		}
		if begun {
			return false, fmt.Errorf("undelete: its deletion has begun: %w", ErrConflict)
		}
		_, err := tx.Exec(ctx, updateState, id, Suspended, []State{Deleting})
		return true, err
	})
}

const noteOperation = `
update operations
   set args = args || jsonb_build_object('notes',
              coalesce(args -> 'notes', '{}') || jsonb_build_object($3::text, $4::jsonb))
 where id = $1 and token = $2 and state = 'running'
returning false`

// NoteOperation keeps what a step has found under a name in the operation's
// arguments, for steps after it and for a worker that goes on. It holds no secret.
// ErrLost.
func (c *Catalog) NoteOperation(ctx context.Context, o Operation, name string, note any) error {
	text, err := json.Marshal(note)
	if err != nil {
		return invalid(wrong("note", "not JSON"))
	}
	return c.held(ctx, "note", noteOperation, o.ID, o.Token, name, text)
}

// Deletion reads the arguments of a deletion as they are now. ErrNotFound.
func (c *Catalog) Deletion(ctx context.Context, operation string) (d Deletion, err error) {
	o, err := c.Operation(ctx, operation)
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(o.Args, &d); err != nil {
		return d, fmt.Errorf("read deletion: arguments can't be read: %w", ErrConflict)
	}
	return d, nil
}

const (
	forgetBackups = `delete from tenant_backups where tenant = $1`
	forgetExports = `delete from exports where tenant = $1`
)

// ForgetCopies forgets a tenant's backups and exports, whose objects are gone.
func (c *Catalog) ForgetCopies(ctx context.Context, id TenantID) error {
	var batch pgx.Batch
	batch.Queue(forgetBackups, id)
	batch.Queue(forgetExports, id)
	return wrap("forget copies", c.writer.SendBatch(ctx, &batch).Close())
}
