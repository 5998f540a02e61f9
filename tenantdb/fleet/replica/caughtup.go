package replica

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// LSN is a place in a server's log, as Postgres writes it.
type LSN string

// A message in a transaction of its own: its commit is flushed, and with it all that
// was written before. Locally: no standby is waited for.
const emit = `
select set_config('synchronous_commit', 'local', true), pg_logical_emit_message(true, 'freehold', ''::text)::text`

// FlushLSN is a place in the source's log behind all that had committed when it was
// called, also what wasn't on disk yet. conn may be in any database.
func FlushLSN(ctx context.Context, conn *pgx.Conn) (lsn LSN, err error) {
	err = conn.QueryRow(ctx, emit).Scan(nil, &lsn)
	return lsn, wrap("flush the source's log", err)
}

const selectConfirmed = `
select coalesce(s.confirmed_flush_lsn >= $2::pg_lsn, false), coalesce(s.wal_status = 'lost', false)
  from pg_replication_slots s
 where s.slot_name = $1`

const selectReady = `
select not exists (select from pg_subscription_rel r where r.srsubid = s.oid and r.srsubstate <> 'r')
  from pg_subscription s
  join pg_database d on d.oid = s.subdbid and d.datname = current_database()
 where s.subname = $1`

// CaughtUp waits, as long as ctx lasts, until the target has all that the source had
// committed up to lsn. ErrSlotLost when it never will; ErrUnfit without subscription.
//
// Why nothing is missing then: each table is ready, which means that its copy and all
// changes up to where the others were are there. And the target has confirmed lsn. It
// confirms a place once everything that it was sent before is committed and on its disk;
// a transaction is sent as a whole, streaming being off, when the source's decoding
// comes to its commit; and places are confirmed in the log's order. So each transaction
// whose commit lies before lsn has been applied, or holds nothing that is published.
//
// Why that doesn't take long: a target confirms when it is told something, else every
// wal_receiver_status_interval, and only what is on its disk, which a worker that commits
// without waiting learns late. So at each look a message is written on both sides: the
// target's commit flushes what the worker has written, and the source's wakes the sender,
// which at the end of its log asks for a reply.
func CaughtUp(ctx context.Context, source, target *pgx.Conn, name string, lsn LSN) error {
	for {
		var ready, confirmed, lost bool
		err := source.QueryRow(ctx, selectConfirmed, name, string(lsn)).Scan(&confirmed, &lost)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && lost && !confirmed {
			err = ErrSlotLost
		}
		if err != nil {
			return wrap("wait for the target", err)
		}
		err = target.QueryRow(ctx, selectReady, name).Scan(&ready)
		if errors.Is(err, pgx.ErrNoRows) {
			err = ErrUnfit
		}
		if err != nil || ready && confirmed {
			return wrap("wait for the target", err)
		}
		if !confirmed {
			if _, err := FlushLSN(ctx, target); err != nil {
				return wrap("wait for the target", err)
			}
			if _, err := FlushLSN(ctx, source); err != nil {
				return wrap("wait for the target", err)
			}
		}
		if err := rest(ctx, poll); err != nil {
			return wrap("wait for the target", err)
		}
	}
}
