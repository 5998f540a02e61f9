package catalog

import (
	"context"

	"github.com/jackc/pgx/v5"
)

const selectUnnamed = selectTenant + `
 where not t.named and t.state in ('active', 'suspended') and t.schema_version >= $1
 order by t.created_at limit $2`

// Unnamed lists tenants whose database doesn't know whose it is, oldest first, of
// those whose schema has room for it.
func (c *Catalog) Unnamed(ctx context.Context, sinceVersion int64, limit int) ([]Tenant, error) {
	rows, err := c.writer.Query(ctx, selectUnnamed, sinceVersion, limit)
	if err != nil {
		return nil, wrap("list unnamed tenants", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Tenant])
	return list, wrap("list unnamed tenants", err)
}

// It is nobody's truth but the next pass's, so it takes no number.
const updateNamed = `update tenants set named = true where id = $1 and not named`

// SetNamed records that a tenant's database knows whose it is.
func (c *Catalog) SetNamed(ctx context.Context, id TenantID) error {
	_, err := c.writer.Exec(ctx, updateNamed, id)
	return wrap("set named", err)
}

const selectCatalogID = `select catalog::text from catalog_clock`

// CatalogID tells this catalog from others that share a server with it: the
// comment on databases and roles that it made is "freehold" and this. A restored
// catalog is the one that was backed up.
func (c *Catalog) CatalogID(ctx context.Context) (id string, err error) {
	err = c.writer.QueryRow(ctx, selectCatalogID).Scan(&id)
	return id, wrap("read catalog's id", err)
}
