package catalog

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Finding is something on a server or in the object store that doesn't agree with
// the catalog. Kind and Object name it.
type Finding struct {
	Kind   string    `json:"kind"`
	Object string    `json:"object"`           // a database, role or prefix
	Server string    `json:"server,omitempty"` // empty: the object store
	Tenant TenantID  `json:"tenant,omitzero"`  // zero when none is known
	What   string    `json:"what"`
	Fix    string    `json:"fix,omitempty"` // empty: the reconciler mends it by itself
	Since  time.Time `json:"since"`         // seen first then, and at each look after it

	Age time.Duration `json:"-"` // how long ago that is, by the catalog's clock
}

const (
	selectFindings = `
select kind, object, server, tenant, what, fix, since, now() - since as age from findings order by kind, server, object`

	lockFindings = `select pg_advisory_xact_lock(hashtext('freehold findings'))`

	deleteFindings = `
delete from findings f
 where f.server <> all($1::text[])
   and not exists (select from unnest($2::text[], $3::text[]) as n (kind, object)
                    where n.kind = f.kind and n.object = f.object)`

	upsertFindings = `
insert into findings (kind, object, server, tenant, what, fix)
select n.kind, n.object, n.server, n.tenant, n.what, n.fix
  from unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[])
       as n (kind, object, server, tenant, what, fix)
on conflict (kind, object) do update
   set server = excluded.server, tenant = excluded.tenant, what = excluded.what, fix = excluded.fix`
)

// Findings lists what the reconciler found when it last looked.
func (c *Catalog) Findings(ctx context.Context) ([]Finding, error) {
	return queryFindings(ctx, c.writer)
}

func queryFindings(ctx context.Context, q querier) ([]Finding, error) {
	rows, err := q.Query(ctx, selectFindings)
	if err != nil {
		return nil, wrap("list findings", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Finding])
	return list, wrap("list findings", err)
}

// ReplaceFindings writes what is so now, and returns it. What was so before keeps
// its Since; the Since of found isn't read. unseen are the servers that couldn't
// be looked at ("" is the object store): what was found there stays.
func (c *Catalog) ReplaceFindings(ctx context.Context, found []Finding, unseen []string) (list []Finding, err error) {
	n := len(found)
	kinds, objects, servers := make([]string, n), make([]string, n), make([]string, n)
	tenants, whats, fixes := make([]*string, n), make([]string, n), make([]string, n)
	for i, f := range found {
		kinds[i], objects[i], servers[i], whats[i], fixes[i] = f.Kind, f.Object, f.Server, f.What, f.Fix
		if !f.Tenant.IsZero() {
			id := f.Tenant.String()
			tenants[i] = &id
		}
	}
	if unseen == nil {
		unseen = []string{}
	}
	err = pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
		// Two looks at once would else each insert what the other does.
		if _, err := tx.Exec(ctx, lockFindings); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, deleteFindings, unseen, kinds, objects); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, upsertFindings, kinds, objects, servers, tenants, whats, fixes); err != nil {
			return err
		}
		list, err = queryFindings(ctx, tx)
		return err
	})
	return list, wrap("replace findings", err)
}

// Resident is a tenant, or a ready database, as the catalog knows it: what should
// be on its server and in the object store.
type Resident struct {
	ID      TenantID
	Slug    string // empty for a ready database
	Server  string
	Ready   bool
	State   string        // the tenant's State, or making, ready, dropping
	Busy    bool          // an operation of the tenant waits or runs
	Changed time.Duration // how long ago its row changed; of a ready database, was made
}

const selectResidents = `
select t.id, t.slug, s.name as server, false as ready, t.state,
       exists (select from operations o where o.tenant = t.id and o.state in ('waiting', 'running')) as busy,
       now() - t.updated_at as changed
  from tenants t join servers s on s.id = t.server_id
 where $1::uuid is null or t.id = $1
union all
select r.id, '', s.name, true, r.state, false, now() - r.created_at
  from ready_databases r join servers s on s.id = r.server_id
 where $1::uuid is null or r.id = $1`

// Residents reads all tenants, deleted ones too, and all ready databases, as of
// one moment, and calls fn with each.
func (c *Catalog) Residents(ctx context.Context, fn func(Resident)) error {
	return c.residents(ctx, nil, fn)
}

// Resident reads one; ErrNotFound.
func (c *Catalog) Resident(ctx context.Context, id TenantID) (r Resident, err error) {
	found := false
	err = c.residents(ctx, &id, func(one Resident) { r, found = one, true })
	if err == nil && !found {
		err = wrap("read resident", pgx.ErrNoRows)
	}
	return r, err
}

func (c *Catalog) residents(ctx context.Context, id *TenantID, fn func(Resident)) error {
	rows, err := c.writer.Query(ctx, selectResidents, id)
	if err != nil {
		return wrap("list residents", err)
	}
	var r Resident
	_, err = pgx.ForEachRow(rows, []any{&r.ID, &r.Slug, &r.Server, &r.Ready, &r.State, &r.Busy, &r.Changed}, func() error {
		fn(r)
		return nil
	})
	return wrap("list residents", err)
}
