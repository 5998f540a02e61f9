package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Drain reads one by id; ErrNotFound.
func (c *Catalog) Drain(ctx context.Context, id string) (Drain, error) {
	if _, err := uuid.Parse(id); err != nil {
		return Drain{}, fmt.Errorf("read drain: %w", ErrNotFound)
	}
	d, err := queryDrain(ctx, c.writer, ` where d.id = $1`, id)
	return d, wrap("read drain", err)
}

const drainToTake = `
 where d.state = 'running' and (d.lease_until is null or d.lease_until < now())
   and not exists (select from chores where name = '` + RestoreChore + `' and error <> '')
 order by d.created_at limit 1`

// NextDrain finds a drain that runs and that nobody has; false when there is none, and
// until a restore of the catalog has come to its end. TakeDrain takes it.
func (c *Catalog) NextDrain(ctx context.Context) (Drain, bool, error) {
	d, err := queryDrain(ctx, c.writer, drainToTake)
	if errors.Is(err, pgx.ErrNoRows) {
		return Drain{}, false, nil
	}
	return d, err == nil, wrap("look for drains", err)
}

const takeDrain = `
update server_drains set token = token + 1, worker = $2, lease_until = now() + $3::interval
 where id = $1 and state = 'running' and (lease_until is null or lease_until < now() or worker = $2)`

// TakeDrain takes a running drain that nobody has, or that the taker has. taken says
// whether it is theirs; the drain is as it is then. ErrNotFound.
func (c *Catalog) TakeDrain(ctx context.Context, id string, by Taker) (d Drain, taken bool, err error) {
	ctx, cancel, err := whole(ctx)
	if err != nil {
		return d, false, wrap("take drain", err)
	}
	defer cancel()
	tag, err := c.writer.Exec(ctx, takeDrain, id, by.Worker, by.Lease)
	if err != nil {
		return d, false, wrap("take drain", err)
	}
	d, err = c.Drain(ctx, id)
	return d, err == nil && tag.RowsAffected() > 0, err
}

const keepDrain = `
update server_drains set lease_until = now() + $3::interval where id = $1 and token = $2 and state = 'running'`

// KeepDrain is the sign of life of who has a drain; ErrLost when it is theirs no
// longer, or runs no longer.
func (c *Catalog) KeepDrain(ctx context.Context, d Drain, lease time.Duration) error {
	return c.ofDrain(ctx, "keep drain", keepDrain, d.ID, d.Token, lease)
}

const leaveDrain = `
update server_drains set lease_until = null, worker = '' where id = $1 and token = $2 and state = 'running'`

// LeaveDrain gives a drain up that goes on, because its worker stops. ErrLost.
func (c *Catalog) LeaveDrain(ctx context.Context, d Drain) error {
	return c.ofDrain(ctx, "leave drain", leaveDrain, d.ID, d.Token)
}

const haltDrain = `
update server_drains set state = 'halted', error = left($3, 1000), lease_until = null, worker = ''
 where id = $1 and token = $2 and state = 'running'`

// HaltDrain has nothing new begun until a person has it go on. ErrLost.
func (c *Catalog) HaltDrain(ctx context.Context, d Drain, reason string) error {
	return c.ofDrain(ctx, "halt drain", haltDrain, d.ID, d.Token, storable(reason))
}

func (c *Catalog) ofDrain(ctx context.Context, op, sql string, args ...any) error {
	tag, err := c.writer.Exec(ctx, sql, args...)
	if err == nil && tag.RowsAffected() == 0 {
		return fmt.Errorf("%s: %w", op, ErrLost)
	}
	return wrap(op, err)
}

const (
	lockDrained = `
select s.id from servers s join server_drains d on d.server_id = s.id
 where d.id = $1 and d.token = $2 and d.state = 'running' for no key update of s`
	endDrain = `
update server_drains d set state = 'done', error = '', lease_until = null, worker = '', ended_at = now()
 where d.id = $1 and d.token = $2 and d.state = 'running'
   and not exists (select from tenants t where t.server_id = d.server_id and t.state not in ('deleting', 'deleted'))
   and not exists (select from ready_databases r where r.server_id = d.server_id)`
)

// EndDrain ends a drain when nobody lives on its server any more but tenants that are
// being deleted, and no ready database is left; false while there is one. ErrLost.
func (c *Catalog) EndDrain(ctx context.Context, d Drain) (done bool, err error) {
	err = pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
		// Two statements: what is looked at is what was there once the server was locked,
		// and who places tenants locks it too.
		var server string
		err := tx.QueryRow(ctx, lockDrained, d.ID, d.Token).Scan(&server)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("end drain: %w", ErrLost)
		}
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, endDrain, d.ID, d.Token)
		done = err == nil && tag.RowsAffected() > 0
		return err
	})
	return done, wrap("end drain", err)
}
