package replica

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// While two databases are compared, the source's own log says which rows change: a
// slot beside the replication's is read for their keys. Its place is moved on only over
// changes that were found on both sides, so it is always enough to compare what comes
// after it, whatever has died meanwhile.

// changes are what a part of the log changes.
type changes struct {
	rows  map[string]map[rowKey]uint64 // by table: the last commit that changed it
	whole map[string]uint64            // tables with changes whose rows nobody can tell
	count int                          // keys in rows
	last  uint64                       // the last commit
	more  bool                         // there is more than was read
}

func newChanges() *changes {
	return &changes{rows: map[string]map[rowKey]uint64{}, whole: map[string]uint64{}}
}

func (c *changes) changed(table string, key rowKey, commit uint64) {
	rows := c.rows[table]
	if rows == nil {
		rows = map[rowKey]uint64{}
		c.rows[table] = rows
	}
	if _, known := rows[key]; !known {
		c.count++
	}
	rows[key] = commit
}

func (c *changes) inWhole(table string, commit uint64) { c.whole[table] = commit }

func (c *changes) touched(table string) bool {
	_, whole := c.whole[table]
	return whole || len(c.rows[table]) > 0
}

const (
	copySlot = `select lsn::text from pg_copy_logical_replication_slot($1, $2, false)`
	slotHere = `select exists (select from pg_replication_slots where slot_name = $1)`
)

// watch makes the slot anew, at a place that the target has confirmed. A copy of a slot
// doesn't wait for anybody.
func watch(ctx context.Context, conn *pgx.Conn, name string) error {
	var there bool
	if err := conn.QueryRow(ctx, slotHere, seen(name)).Scan(&there); err != nil {
		return err
	}
	if there {
		if _, err := conn.Exec(ctx, dropSlot, seen(name)); err != nil {
			return err
		}
	}
	_, err := conn.Exec(ctx, copySlot, name, seen(name))
	return err
}

// atOnce is about how many changes are read at once: the server makes a list of them
// before it sends the first.
const atOnce = 50_000

const (
	peekChanges = `
select data from pg_logical_slot_peek_binary_changes($1, null, $2, 'proto_version', '1', 'publication_names', $3)`
	getChanges = `
select data from pg_logical_slot_get_binary_changes($1, null, $2, 'proto_version', '1', 'publication_names', $3)`
)

// read adds what the slot has next, up to a number of changes, to c; get also moves the
// slot's place behind it.
func (c *changes) read(ctx context.Context, conn *pgx.Conn, sql, name string, limit int) error {
	d := &decoder{relations: map[uint32]relation{}, changed: c.changed, whole: c.inWhole}
	rows, _ := conn.Query(ctx, sql, seen(name), limit, pgx.Identifier{name}.Sanitize())
	var message []byte
	n := 0
	_, err := pgx.ForEachRow(rows, []any{(*pgtype.DriverBytes)(&message)}, func() error {
		n++
		return d.take(message)
	})
	c.last = max(c.last, d.commit)
	c.more = n >= limit
	return err
}

// drain reads the slot to its end and moves its place there.
func (c *changes) drain(ctx context.Context, conn *pgx.Conn, name string) error {
	for {
		if err := c.read(ctx, conn, getChanges, name, atOnce); err != nil || !c.more {
			return err
		}
		if c.count > mostKeys {
			return fmt.Errorf("more than %d rows changed while the databases were compared: %w", mostKeys, ErrBusy)
		}
	}
}

// mostKeys bounds the keys that are kept in memory.
const mostKeys = 2_000_000

const advanceSlot = `
select pg_replication_slot_advance(s.slot_name, $2::pg_lsn)::text
  from pg_replication_slots s
 where s.slot_name = $1 and s.confirmed_flush_lsn < $2::pg_lsn`

// advance moves the slot's place up to lsn: of the transactions that commit there or
// later, none is passed over.
func advance(ctx context.Context, conn *pgx.Conn, name string, lsn uint64) error {
	_, err := conn.Exec(ctx, advanceSlot, seen(name), fmt.Sprintf("%X/%X", lsn>>32, uint32(lsn)))
	return err
}
