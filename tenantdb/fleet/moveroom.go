package fleet

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// roomLock is held by who begins a replication to a server.
const roomLock = "freehold replications"

// A database that follows another has one of the server's workers for as long as it
// does, and more of them while its tables are copied. A copy that finds none left is
// tried again after wal_retrieve_retry_interval, 5 s, table by table, and if all were of
// the first kind none would ever be made: who follows is reckoned with all it may take.
const selectRoom = `
select n.others = 0 or (n.others + 1) * (1 + current_setting('max_sync_workers_per_subscription')::int)
                       <= current_setting('max_logical_replication_workers')::int
  from (select count(*) as others from pg_subscription s where s.subenabled and s.subname <> $1) n`

// awaitRoom waits until the other server has workers left for one replication more, and
// returns the connection that keeps the place until the subscription is there. The
// caller closes it. Who moves there takes its turn so, whatever process it is.
func (m *mover) awaitRoom(ctx context.Context) (*pgx.Conn, error) {
	for {
		conn, room, err := m.seekRoom(ctx)
		if err != nil || room {
			return conn, err
		}
		if err := m.stillWanted(ctx); err != nil {
			return nil, err
		}
		if err := pause(ctx, syncPoll); err != nil {
			return nil, err
		}
	}
}

func (m *mover) seekRoom(ctx context.Context) (conn *pgx.Conn, room bool, err error) {
	conn, err = m.admin(ctx, m.args.To, maintenance)
	if err != nil {
		return nil, false, err
	}
	if err = lockOn(ctx, conn, roomLock); err == nil {
		err = translate(ctx, conn.QueryRow(ctx, selectRoom, m.link).Scan(&room))
	}
	if err != nil || !room {
		closeConn(ctx, conn)
		conn = nil
	}
	return conn, room, err
}
