package catalog

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Nobody could tell that they live while the catalog was away: after its start all
// have time to.
const selectLiveNodes = `
select id from nodes
 where heartbeat_at > now() - $1::interval or pg_postmaster_start_time() > now() - $1::interval`

// LiveNodes are the processes that gave a sign of life within that time, by the
// catalog's clock.
func (c *Catalog) LiveNodes(ctx context.Context, within time.Duration) ([]uuid.UUID, error) {
	rows, err := c.writer.Query(ctx, selectLiveNodes, within)
	if err != nil {
		return nil, wrap("list live nodes", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	return list, wrap("list live nodes", err)
}
