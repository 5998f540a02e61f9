package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Every change to a tenant takes its locks in one order, the tenant's row first
// and the clock's last, so that two changes can't wait for each other and the
// order of numbers is the order of commits.
const (
	lockTenant = `
select state, epoch from tenants where id = $1 for no key update`

	tickTenant = `
update tenants set epoch = catalog_tick(false), updated_at = now() where id = $1 returning epoch`

	tickPlatform = `select catalog_tick(true)`
)

// changeTenant runs fn in a transaction that holds the tenant's row, and ends it
// with a new epoch. When fn reports that nothing changed, the epoch stays. A
// deleted tenant is ErrNotFound.
func (c *Catalog) changeTenant(ctx context.Context, op string, id TenantID,
	fn func(tx pgx.Tx, state State) (changed bool, err error),
) (epoch int64, err error) {
	err = pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
		var state State
		if err := tx.QueryRow(ctx, lockTenant, id).Scan(&state, &epoch); err != nil {
			return err
		}
		if state == Deleted {
			return fmt.Errorf("%s: %w", op, ErrNotFound)
		}
		changed, err := fn(tx, state)
		if err != nil || !changed {
			return err
		}
		return tx.QueryRow(ctx, tickTenant, id).Scan(&epoch)
	})
	if err != nil {
		return 0, wrap(op, err)
	}
	return epoch, nil
}

// changePlatform runs fn in a transaction that ends with a new number for what
// belongs to no tenant.
func (c *Catalog) changePlatform(ctx context.Context, op string, fn func(tx pgx.Tx) error) error {
	return wrap(op, pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, tickPlatform)
		return err
	}))
}
