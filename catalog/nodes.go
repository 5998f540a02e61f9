package catalog

import (
	"context"

	"github.com/jackc/pgx/v5"
)

const selectNodes = `
select id::text, name, version, seen, started_at, heartbeat_at from nodes where ` + servesTo + ` order by name, started_at`

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
