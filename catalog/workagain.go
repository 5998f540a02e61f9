package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Somebody may have had it before: it isn't untouched.
const insertWorkAgain = `
insert into work_queue (id, tenant, trainer, token) values ($1, $2, $3, 1) on conflict (id) do nothing`

// EnqueueAgain has work done that the tenant's database knows and that the queue may
// have lost: no limit holds it back, it was let in before. Work that is in the queue
// stays as it is. ErrConflict unless the tenant is active, ErrNotFound for one that
// isn't there.
func (c *Catalog) EnqueueAgain(ctx context.Context, spec WorkSpec) error {
	if err := invalid(workID(spec.ID), match("trainer", spec.Trainer, trainPattern, "a trainer's name")); err != nil {
		return fmt.Errorf("enqueue work again: %w", err)
	}
	_, err := c.changeTenant(ctx, "enqueue work again", spec.Tenant, func(tx pgx.Tx, state State) (bool, error) {
		if state != Active {
			return false, fmt.Errorf("enqueue work again: tenant is %s: %w", state, ErrConflict)
		}
		_, err := tx.Exec(ctx, insertWorkAgain, spec.ID, spec.Tenant, spec.Trainer)
		return false, err // no node has to know
	})
	return err
}
