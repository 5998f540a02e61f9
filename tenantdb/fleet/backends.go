package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A node's connections are known by application_name, which every role may see
// of every session.
const (
	routerName = "freehold-router/" // before the node's id

	selectAlive = `
select pid from pg_stat_activity where pid = any($1) and starts_with(application_name, $2)`
	countBackends = `
select count(*) from pg_stat_activity where application_name = $1`
)

// Backends tells which of the routers' backends, by pid, are still there on a
// server (by id). It connects as its admin, from the reserve.
func (f *Fleet) Backends(ctx context.Context, serverID string, pids []uint32) (alive []uint32, err error) {
	if len(pids) == 0 {
		return nil, nil
	}
	asked := make([]int32, len(pids))
	for i, pid := range pids {
		asked[i] = int32(pid) // a pid is an int to Postgres
	}
	err = f.lookAt(ctx, serverID, func(conn *pgx.Conn) error {
		rows, _ := conn.Query(ctx, selectAlive, asked, routerName) // its error is in rows
		found, err := pgx.CollectRows(rows, pgx.RowTo[int32])
		for _, pid := range found {
			alive = append(alive, uint32(pid))
		}
		return err
	})
	return alive, err
}

// NodeBackends counts a node's backends on a server (both by id).
func (f *Fleet) NodeBackends(ctx context.Context, serverID, node string) (n int, err error) {
	err = f.lookAt(ctx, serverID, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, countBackends, routerName+node).Scan(&n)
	})
	return n, err
}

func (f *Fleet) lookAt(ctx context.Context, serverID string, look func(*pgx.Conn) error) error {
	conn, err := f.adminByID(ctx, serverID, maintenance)
	if err != nil {
		return fmt.Errorf("look at backends: %w", err)
	}
	defer closeConn(ctx, conn)
	if err := look(conn); err != nil {
		return fmt.Errorf("look at backends: %w", translate(ctx, err))
	}
	return nil
}

// DropSilentShare gives a silent node's part of a server's budget back to the
// others, once none of its backends is left there. It reports whether it did: not
// while backends are left, nor when the node has asked within deadAfter.
func (f *Fleet) DropSilentShare(ctx context.Context, serverID, node string, deadAfter time.Duration) (bool, error) {
	n, err := f.NodeBackends(ctx, serverID, node)
	if err != nil || n > 0 {
		return false, err
	}
	dropped, err := f.cat.DropShare(ctx, serverID, node, deadAfter)
	if dropped {
		f.log.WarnContext(ctx, "silent node's share dropped", "server", serverID, "node", node)
	}
	return dropped, err
}
