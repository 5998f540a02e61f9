package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// NotDrained is returned by AwaitDrained when its context ended first. It wraps
// that context's error.
type NotDrained struct {
	Nodes []string // names of those that were waited for

	cause error
}

func (e *NotDrained) Error() string {
	if len(e.Nodes) == 0 {
		return fmt.Sprintf("not known to be drained: %v", e.cause)
	}
	return fmt.Sprintf("not drained by %s: %v", strings.Join(e.Nodes, ", "), e.cause)
}

func (e *NotDrained) Unwrap() error { return e.cause }

// drainedPoll is short: a tenant stands still meanwhile.
const drainedPoll = 20 * time.Millisecond

// A node that has never seen an older number than the epoch holds nothing older.
const selectUndrained = `
select t.state, array(
       select n.name from nodes n
        where n.heartbeat_at >= now() - $3::interval and n.born < $2
          and not exists (select from drained d
                           where d.tenant = t.id and d.node = n.id and d.epoch >= $2)
        order by n.name)
  from tenants t where t.id = $1`

// AwaitDrained returns when no live node holds a connection of a moving tenant
// from before epoch any more. A node that was silent for deadAfter isn't waited
// for: it serves nothing. When ctx ends first: *NotDrained, which names those that
// were waited for. ErrConflict when the tenant moves no longer.
func (c *Catalog) AwaitDrained(ctx context.Context, id TenantID, epoch int64, deadAfter time.Duration) error {
	left := &NotDrained{}
	for {
		var state State
		var nodes []string
		err := wrap("await drained",
			c.writer.QueryRow(ctx, selectUndrained, id, epoch, deadAfter).Scan(&state, &nodes))
		switch {
		case ctx.Err() != nil:
			left.cause = ctx.Err()
			return left
		case err == nil && state != Moving:
			return fmt.Errorf("await drained: tenant is %s: %w", state, ErrConflict)
		case err == nil && len(nodes) == 0:
			return nil
		case err == nil:
			left.Nodes = nodes
		case !errors.Is(err, ErrUnavailable):
			return err
		}
		// What is away for a moment is asked again, as long as the caller waits.
		if !pause(ctx, drainedPoll) {
			left.cause = ctx.Err()
			return left
		}
	}
}

const updateTenantServer = `
update tenants t set server_id = s.id, region = case t.region when '' then '' else s.region end
  from servers s where t.id = $1 and s.name = $2`

// SwitchServer has a moving tenant live on another server, by name, under a new
// epoch, and in that one's region if it has one; its database and role keep their names. ErrConflict in any other state,
// ErrNotFound for an unknown server.
func (c *Catalog) SwitchServer(ctx context.Context, id TenantID, toServer string) (epoch int64, err error) {
	return c.changeTenant(ctx, "switch server", id, func(tx pgx.Tx, state State) (bool, error) {
		if state != Moving {
			return false, fmt.Errorf("switch server: tenant is %s: %w", state, ErrConflict)
		}
		tag, err := tx.Exec(ctx, updateTenantServer, id, toServer)
		if err == nil && tag.RowsAffected() == 0 {
			err = fmt.Errorf("switch server: server %s: %w", toServer, ErrNotFound)
		}
		return true, err
	})
}

const deleteDrained = `delete from drained where tenant = $1`
