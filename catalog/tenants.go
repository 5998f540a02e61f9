package catalog

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
)

const selectTenant = `
select t.id, t.slug, t.name, t.email, t.plan, t.labels, t.region, t.state, s.name as server,
       t.database, t.role, t.epoch, t.schema_version, t.created_at
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

// TenantFilter narrows Tenants; zero fields don't filter. Label is a key or
// key=value. After is the last slug of the page before.
type TenantFilter struct {
	State, Server, Region, Plan, Label, After string
	Limit                                     int
}

const selectTenants = selectTenant + `
 where case when $1 = '' then t.state <> 'deleted' else t.state = $1 end
   and ($2 = '' or s.name = $2)
   and ($3 = '' or t.region = $3)
   and ($4 = '' or t.plan = $4)
   and ($5 = '' or t.labels ? $5)
   and ($6 = '' or t.labels ->> $5 = $7)
   and ($8 = '' or t.slug > $8)
 order by t.slug, t.id limit nullif($9, 0)`

// Tenants lists, by slug, deleted ones only when asked for by state.
func (c *Catalog) Tenants(ctx context.Context, f TenantFilter) ([]Tenant, error) {
	if f.Limit < 0 {
		return nil, invalid(within("limit", f.Limit, 0, 1<<31-1))
	}
	key, value, valued := strings.Cut(f.Label, "=")
	by := ""
	if valued {
		by = "value"
	}
	rows, err := c.writer.Query(ctx, selectTenants,
		f.State, f.Server, f.Region, f.Plan, key, by, value, f.After, f.Limit)
	if err != nil {
		return nil, wrap("list tenants", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Tenant])
	return list, wrap("list tenants", err)
}
