package catalog

import "context"

const countTenants = `select state, count(*) from tenants where state <> 'deleted' group by state`

// CountTenants counts tenants by state, deleted ones left out.
func (c *Catalog) CountTenants(ctx context.Context) (map[string]int, error) {
	rows, err := c.writer.Query(ctx, countTenants)
	if err != nil {
		return nil, wrap("count tenants", err)
	}
	defer rows.Close()
	counts := map[string]int{}
	for rows.Next() {
		var (
			state string
			n     int
		)
		if err := rows.Scan(&state, &n); err != nil {
			return nil, wrap("count tenants", err)
		}
		counts[state] = n
	}
	return counts, wrap("count tenants", rows.Err())
}
