package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// transitions is the life of a tenant: from each state, the ones that may follow.
var transitions = map[State][]State{
	Provisioning: {Active, Deleting},
	Active:       {Suspended, Moving, Deleting},
	Suspended:    {Active, Moving, Deleting},
	Moving:       {Active, Suspended},
	Deleting:     {Suspended, Deleted},
}

const (
	updateState = `
update tenants set state = $2 where id = $1 and state = any($3)`

	deleteDueOf = `delete from tenant_due where tenant = $1`
)

// SetState moves a tenant from one of the states to another, in one guarded
// update with a new epoch; ErrConflict when it is in none of them, ErrInvalid
// for a transition that a tenant's life doesn't have; *Behind for one that would
// be active with a database below the fleet's versions.
func (c *Catalog) SetState(ctx context.Context, id TenantID, to State, from ...State) (epoch int64, err error) {
	if len(from) == 0 {
		return 0, invalid(errors.New("from: no state named"))
	}
	for _, f := range from {
		if !slices.Contains(transitions[f], to) {
			return 0, invalid(fmt.Errorf("state: nothing leads from %s to %s", f, to))
		}
	}
	return c.changeTenant(ctx, "set state", id, func(tx pgx.Tx, state State) (bool, error) {
		if to == Active && (state == Suspended || state == Provisioning) && slices.Contains(from, state) {
			if err := mayServe(ctx, tx, id); err != nil {
				return false, err
			}
		}
		tag, err := tx.Exec(ctx, updateState, id, to, from)
		if err == nil && tag.RowsAffected() == 0 {
			err = fmt.Errorf("set state: tenant is %s: %w", state, ErrConflict)
		}
		if err == nil && to == Moving {
			_, err = tx.Exec(ctx, noteBefore, id, state)
		}
		if err == nil && state == Moving {
			err = leave(ctx, tx, id)
		}
		if err == nil && to == Deleted {
			// There is nothing left to visit, and whoever deleted it was marked last.
			_, err = tx.Exec(ctx, deleteDueOf, id)
		}
		return true, err
	})
}

// ActivateTenant ends a tenant's creation: it is active, and its welcome mail is
// owed. Twice is once, whatever its life has come to since; ErrConflict when it is
// being deleted, *Behind when its database is below the fleet's versions.
func (c *Catalog) ActivateTenant(ctx context.Context, id TenantID) error {
	_, err := c.changeTenant(ctx, "activate tenant", id, func(tx pgx.Tx, state State) (bool, error) {
		switch state {
		case Active, Suspended, Moving:
			return false, nil
		case Provisioning:
		default:
			return false, fmt.Errorf("activate tenant: it is %s: %w", state, ErrConflict)
		}
		if err := mayServe(ctx, tx, id); err != nil {
			return false, err
		}
		if _, err := tx.Exec(ctx, updateState, id, Active, []State{Provisioning}); err != nil {
			return false, err
		}
		return true, welcome(ctx, tx, id)
	})
	return err
}

const selectWelcome = `
select t.email, k.id from tenants t join api_keys k on k.tenant = t.id and k.name = $2
 where t.id = $1 and t.email <> '' order by k.created_at limit 1`

// welcome owes a new tenant its first mail, when it has an address.
func welcome(ctx context.Context, tx pgx.Tx, id TenantID) error {
	var recipient, key string
	err := tx.QueryRow(ctx, selectWelcome, id, firstKeyName).Scan(&recipient, &key)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	var batch pgx.Batch
	queueWelcome(&batch, id, recipient, key)
	return tx.SendBatch(ctx, &batch).Close()
}
