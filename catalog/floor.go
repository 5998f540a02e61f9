package catalog

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// One probe of the index for each state.
const selectFloor = `
select coalesce(min(lowest.schema_version), 0)
  from unnest('{active,suspended,moving}'::text[]) as living (state)
 cross join lateral (select schema_version from tenants t where t.state = living.state
                      order by t.schema_version limit 1) lowest`

// Floor is the lowest schema version that a tenant's database has: of active,
// suspended and moving ones. 0 when there are none.
func (c *Catalog) Floor(ctx context.Context) (int64, error) {
	version, err := floor(ctx, c.writer)
	return version, wrap("read floor", err)
}

func floor(ctx context.Context, q querier) (int64, error) {
	rows, err := q.Query(ctx, selectFloor)
	if err != nil {
		return 0, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
}
