package catalog

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Why a database is kept that its tenant has left.
const (
	KeptMoved    = "moved"
	KeptRestored = "restored"
)

// KeptDatabase is a database that its tenant has left and that isn't dropped yet:
// nobody can connect to it.
type KeptDatabase struct {
	ID        string     `json:"id"`
	TenantID  TenantID   `json:"tenant_id"`
	Tenant    string     `json:"tenant"` // slug
	Server    string     `json:"server"`
	Database  string     `json:"database"`
	Why       string     `json:"why"`
	Operation string     `json:"operation"`
	DropAt    *time.Time `json:"drop_at"` // nil: when it is confirmed
	CreatedAt time.Time  `json:"created_at"`
}

const keepDatabase = `
insert into kept_databases (id, tenant, server_id, database, why, operation, drop_at)
select $1, $2, s.id, $4, $5, $6, $7 from servers s where s.name = $3
    on conflict (server_id, database) do update set drop_at = excluded.drop_at
returning id`

// KeepDatabase registers a database that is about to be kept, by server and name:
// twice is once. Of k all but ID, Tenant and CreatedAt is needed. ErrNotFound for an
// unknown server.
func (c *Catalog) KeepDatabase(ctx context.Context, k KeptDatabase) error {
	var id uuid.UUID
	err := c.writer.QueryRow(ctx, keepDatabase, uuid.Must(uuid.NewV7()), k.TenantID, k.Server, k.Database, k.Why, k.Operation, k.DropAt).Scan(&id)
	return wrap("keep database", err)
}

// KeptFilter narrows KeptDatabases; zero fields don't filter.
type KeptFilter struct {
	Tenant TenantID
	Server string // name
	Due    bool   // to be dropped by now
}

const selectKept = `
select k.id::text, k.tenant as tenant_id, t.slug as tenant, s.name as server, k.database, k.why, k.operation::text,
       k.drop_at, k.created_at
  from kept_databases k join tenants t on t.id = k.tenant join servers s on s.id = k.server_id
 where ($1::uuid is null or k.tenant = $1) and ($2 = '' or s.name = $2) and (not $3 or k.drop_at <= now())
 order by k.created_at, k.id`

// KeptDatabases lists them, oldest first.
func (c *Catalog) KeptDatabases(ctx context.Context, f KeptFilter) ([]KeptDatabase, error) {
	var tenant *TenantID
	if !f.Tenant.IsZero() {
		tenant = &f.Tenant
	}
	rows, err := c.writer.Query(ctx, selectKept, tenant, f.Server, f.Due)
	if err != nil {
		return nil, wrap("list kept databases", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[KeptDatabase])
	return list, wrap("list kept databases", err)
}

const confirmKept = `
update kept_databases set drop_at = now() where tenant = $1 and why = $2 and drop_at is null`

// ConfirmKept has the databases dropped that a tenant keeps until somebody confirms,
// and tells how many.
func (c *Catalog) ConfirmKept(ctx context.Context, id TenantID, why string) (int64, error) {
	tag, err := c.writer.Exec(ctx, confirmKept, id, why)
	return tag.RowsAffected(), wrap("confirm kept databases", err)
}

const forgetKept = `delete from kept_databases where id = $1`

// ForgetKept forgets one that is gone, or came back into use. Twice is once.
func (c *Catalog) ForgetKept(ctx context.Context, id string) error {
	kept, err := uuid.Parse(id)
	if err != nil {
		return wrap("forget kept database", invalid(wrong("id", "want a uuid")))
	}
	_, err = c.writer.Exec(ctx, forgetKept, kept)
	return wrap("forget kept database", err)
}
