package catalog

import (
	"context"

	"github.com/jackc/pgx/v5"
)

const selectTenant = `
select t.id, t.slug, t.name, t.email, t.plan, t.labels, t.region, t.state, s.name as server,
       t.database, t.role, t.epoch, t.schema_version, t.product_version, t.created_at
  from tenants t join servers s on s.id = t.server_id`

// Tenant reads one by id, a deleted one too. ErrNotFound.
func (c *Catalog) Tenant(ctx context.Context, id TenantID) (Tenant, error) {
	return queryTenant(ctx, c.writer, selectTenant+` where t.id = $1`, id)
}

// TenantBySlug reads the one that bears the slug now. ErrNotFound.
func (c *Catalog) TenantBySlug(ctx context.Context, slug string) (Tenant, error) {
	return queryTenant(ctx, c.writer, selectTenant+` where t.slug = $1 and t.state <> 'deleted'`, slug)
}

// querier is a pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func queryTenant(ctx context.Context, q querier, sql string, args ...any) (Tenant, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return Tenant{}, wrap("read tenant", err)
	}
	t, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Tenant])
	return t, wrap("read tenant", err)
}
