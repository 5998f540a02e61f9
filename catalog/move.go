package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	noteBefore   = `update tenants set before_move = $2 where id = $1`
	selectBefore = `select before_move from tenants where id = $1`
)

// leave moves a tenant that moves on to what it was before, in the caller's
// transaction.
func leave(ctx context.Context, tx pgx.Tx, id TenantID) error {
	if _, err := tx.Exec(ctx, noteBefore, id, ""); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, deleteDrained, id)
	return err
}

// EndMove has a moving tenant be again what it was before its pause, active or
// suspended, under a new epoch, and tells which. ErrConflict in any other state.
func (c *Catalog) EndMove(ctx context.Context, id TenantID) (before State, err error) {
	_, err = c.changeTenant(ctx, "end move", id, func(tx pgx.Tx, state State) (bool, error) {
		if state != Moving {
			return false, fmt.Errorf("end move: tenant is %s: %w", state, ErrConflict)
		}
		if err := tx.QueryRow(ctx, selectBefore, id).Scan(&before); err != nil {
			return false, err
		}
		if before == "" { // an older release paused it, and only what is active is worth that
			before = Active
		}
		if _, err := tx.Exec(ctx, updateState, id, before, []State{Moving}); err != nil {
			return false, err
		}
		return true, leave(ctx, tx, id)
	})
	return before, err
}

const selectSilent = `
select name from nodes
 where heartbeat_at < now() - $1::interval and heartbeat_at >= now() - $2::interval order by name`

// SilentNodes names the nodes that gave no sign of life for as long as silent and
// don't count as dead yet: whoever asks all nodes for something now would wait for
// them.
func (c *Catalog) SilentNodes(ctx context.Context, silent, deadAfter time.Duration) ([]string, error) {
	rows, err := c.writer.Query(ctx, selectSilent, silent, deadAfter)
	if err != nil {
		return nil, wrap("list silent nodes", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return names, wrap("list silent nodes", err)
}

// OperationNotes reads what an operation's steps have noted, by name. ErrNotFound.
func (c *Catalog) OperationNotes(ctx context.Context, id string) (map[string]json.RawMessage, error) {
	o, err := c.Operation(ctx, id)
	if err != nil {
		return nil, err
	}
	return o.Notes()
}

// Notes are what the steps have noted, by name, as the operation was read.
func (o Operation) Notes() (map[string]json.RawMessage, error) {
	var args struct {
		Notes map[string]json.RawMessage `json:"notes"`
	}
	if err := json.Unmarshal(o.Args, &args); err != nil {
		return nil, fmt.Errorf("read notes: arguments can't be read: %w", ErrConflict)
	}
	return args.Notes, nil
}

const (
	rewindSteps = mine + `, rewound as (
update operation_steps s set state = 'waiting', started_at = null, ended_at = null
  from mine where s.operation = mine.id)
select false from mine`
	dropNotes = `
update operations set args = args - 'notes' where id = $1 and token = $2 and state = 'running' returning false`
)

// RewindSteps has the operation begin anew when it is tried again: what its steps did
// was taken back. Why a step failed stays to be read. ErrLost.
func (c *Catalog) RewindSteps(ctx context.Context, o Operation) error {
	if err := c.held(ctx, "rewind steps", rewindSteps, o.ID, o.Token); err != nil {
		return err
	}
	return c.held(ctx, "drop notes", dropNotes, o.ID, o.Token)
}

const selectBusy = `
select exists (select from operations where tenant = $1 and kind = any($2) and state in ('waiting', 'running'))`

// BusyWith reports whether an operation of one of the kinds waits or runs for the
// tenant.
func (c *Catalog) BusyWith(ctx context.Context, id TenantID, kinds ...string) (busy bool, err error) {
	err = c.writer.QueryRow(ctx, selectBusy, id, kinds).Scan(&busy)
	return busy, wrap("look for operations", err)
}

// StateBeforeMove tells what a moving tenant was before its pause; ErrConflict for
// one that doesn't move.
func (c *Catalog) StateBeforeMove(ctx context.Context, id TenantID) (before State, err error) {
	err = c.writer.QueryRow(ctx, selectBefore+` and state = 'moving'`, id).Scan(&before)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("read move: it moves no longer: %w", ErrConflict)
	}
	if before == "" {
		before = Active
	}
	return before, wrap("read move", err)
}
