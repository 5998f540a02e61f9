package catalog

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

const nodeColumns = `id::text, name, version, seen, started_at, heartbeat_at, schema_min, schema_max`

const selectNodes = `
select ` + nodeColumns + ` from nodes where ` + servesTo + ` order by name, started_at`

// Nodes lists the processes that serve, or served and were killed: those have an
// old heartbeat.
func (c *Catalog) Nodes(ctx context.Context) ([]Node, error) {
	rows, err := c.writer.Query(ctx, selectNodes)
	if err != nil {
		return nil, wrap("list nodes", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Node])
	return list, wrap("list nodes", err)
}

// Those that can't have told that they live while the catalog was away may live.
const selectLiveRanges = `
select ` + nodeColumns + ` from nodes
 where heartbeat_at > now() - $1::interval or pg_postmaster_start_time() > now() - $1::interval
 order by name, started_at`

// LiveRanges lists all processes that gave a sign of life within that time, by the
// catalog's clock, also those that serve nobody and work on tenants' databases: what
// a schema change would take away, none of them may still use.
func (c *Catalog) LiveRanges(ctx context.Context, within time.Duration) ([]Node, error) {
	rows, err := c.writer.Query(ctx, selectLiveRanges, within)
	if err != nil {
		return nil, wrap("list live nodes", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Node])
	return list, wrap("list live nodes", err)
}
