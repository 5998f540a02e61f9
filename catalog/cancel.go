package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const endCancelled = `
update operations set state = 'cancelled', error = 'cancelled', lease_until = null, ended_at = now()
 where id = $1 and (state in ('waiting', 'failed') or state = 'running' and token = $2)`

// CancelOnboarding ends an onboarding that waits or failed, or that the caller has,
// and has what it made destroyed: the operation that does so is returned. Both are
// one transaction. ErrConflict in another state.
func (c *Catalog) CancelOnboarding(ctx context.Context, o Operation, actor string, steps []string) (undo Operation, err error) {
	_, err = c.changeTenant(ctx, "cancel onboarding", o.TenantID, func(tx pgx.Tx, state State) (bool, error) {
		tag, err := tx.Exec(ctx, endCancelled, o.ID, o.Token)
		if err != nil {
			return false, err
		}
		if tag.RowsAffected() == 0 || state != Provisioning {
			return false, fmt.Errorf("cancel onboarding: the tenant is %s: %w", state, ErrConflict)
		}
		if undo, err = newDeletion(ctx, tx, o.TenantID, 0, actor, steps, Deletion{Half: true}); err != nil {
			return false, err
		}
		_, err = tx.Exec(ctx, updateState, o.TenantID, Deleting, []State{Provisioning})
		return true, err
	})
	return undo, err
}
