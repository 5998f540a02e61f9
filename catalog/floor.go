package catalog

import "context"

// One probe of the index for each state.
const selectFloor = `
select coalesce(min(lowest.schema_version), 0)
  from unnest('{active,suspended,moving}'::text[]) as living (state)
 cross join lateral (select schema_version from tenants t where t.state = living.state
                      order by t.schema_version limit 1) lowest`

// Floor is the lowest schema version that a tenant's database has: of active,
// suspended and moving ones. 0 when there are none.
func (c *Catalog) Floor(ctx context.Context) (int64, error) {
	var version int64
	err := c.writer.QueryRow(ctx, selectFloor).Scan(&version)
	return version, wrap("read floor", err)
}
