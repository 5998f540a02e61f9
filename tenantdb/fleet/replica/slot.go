package replica

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const selectSlot = `
select s.plugin = 'pgoutput' and s.database = current_database() and not s.temporary, coalesce(s.wal_status = 'lost', false)
  from pg_replication_slots s
 where s.slot_name = $1`

const createSlot = `select lsn::text from pg_create_logical_replication_slot($1, 'pgoutput')`

// MakeSlot makes the place in the source's log from which the target will be told of
// changes: beforehand, because CREATE SUBSCRIPTION would wait for itself when both are
// on one server. It waits for transactions that are open, anywhere on the server. One
// that is there stays as it is; ErrSlotLost for one that has lost its place. conn is the
// admin's, in the source.
func MakeSlot(ctx context.Context, conn *pgx.Conn, name string) error {
	for {
		var ours, lost bool
		err := conn.QueryRow(ctx, selectSlot, name).Scan(&ours, &lost)
		switch {
		case err == nil && !ours:
			return fmt.Errorf("make slot: %s is another's: %w", name, ErrBusy)
		case err == nil && lost:
			return fmt.Errorf("make slot: %w", ErrSlotLost)
		case err == nil:
			return nil
		case !errors.Is(err, pgx.ErrNoRows):
			return wrap("make slot", err)
		}
		_, err = conn.Exec(ctx, createSlot, name)
		if state(err) != stateDuplicate {
			return wrap("make slot", err)
		}
	}
}

// seen is the name of the slot by which changes are watched while source and target
// are compared.
func seen(name string) string { return name + "_seen" }

// A slot for a table's copy is named after the subscription's and the table's numbers in
// the target. One that is at work for somebody else's login isn't ours.
const selectSlots = `
select s.slot_name::text, coalesce(s.active_pid, 0)
  from pg_replication_slots s
  left join pg_stat_activity a on a.pid = s.active_pid
 where s.slot_name = any ($1)
    or s.slot_name ~ '^pg_[0-9]+_sync_[0-9]+_[0-9]+$' and (s.active_pid is null or a.usename = $2)
       and s.database in (select o.database from pg_replication_slots o where o.slot_name = any ($1) union all select $3)
 order by s.slot_name = $2`

const (
	endSender = `select pg_terminate_backend($1)`
	dropSlot  = `select pg_drop_replication_slot($1)`
)

// DropSlots drops the replication's slots, with who reads them, and those that its
// copies of tables have left; of that database if there is no slot of the replication
// any more, or database is "". conn is the admin's, in any database of the server:
// neither that of the slots has to be the same, nor need it allow connections. After
// DropLogin or Unsubscribe nobody comes back for them. ErrBusy when one stays in use.
func DropSlots(ctx context.Context, conn *pgx.Conn, name, database string) error {
	err := await(ctx, func() (bool, error) {
		type slot struct {
			name string
			pid  int
		}
		rows, _ := conn.Query(ctx, selectSlots, []string{name, seen(name)}, name, database)
		slots, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s slot, err error) {
			return s, row.Scan(&s.name, &s.pid)
		})
		if err != nil || len(slots) == 0 {
			return true, err
		}
		// The one that names the replication goes last: by it the others are found.
		for _, s := range slots {
			if s.pid != 0 {
				_, err = conn.Exec(ctx, endSender, s.pid)
			} else if _, err = conn.Exec(ctx, dropSlot, s.name); state(err) == stateNoObject {
				err = nil
			}
			if s := state(err); err != nil && s != stateInUse && s != stateDenied {
				return false, err
			}
			if err != nil || s.pid != 0 {
				return false, nil
			}
		}
		return false, nil
	})
	return wrap("drop slots", err)
}
