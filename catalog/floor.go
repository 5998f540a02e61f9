package catalog

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Versions are those of a database, one for each stream; 0: it has nothing of it.
type Versions struct {
	Freehold int64 `json:"freehold"`
	Product  int64 `json:"product"`
}

// One probe of an index for each. What suspended tenants have is no floor: they are
// brought up before they are active again. One that moves may be suspended behind that,
// so that it counts only where nothing else says how far the fleet is.
const selectFloors = `
select coalesce(
         (select t.schema_version from tenants t where t.state = 'active' order by t.schema_version limit 1),
         (select r.target from rollouts r where r.stream = 'freehold' and r.state = 'done'
           order by r.created_at desc limit 1),
         (select t.schema_version from tenants t where t.state = 'moving' order by t.schema_version limit 1), 0) as freehold,
       coalesce(
         (select t.product_version from tenants t where t.state = 'active' order by t.product_version limit 1),
         (select r.target from rollouts r where r.stream = 'product' and r.state = 'done'
           order by r.created_at desc limit 1),
         (select t.product_version from tenants t where t.state = 'moving' order by t.product_version limit 1), 0) as product`

// Floors are the lowest versions that databases of active tenants have: those that a
// tenant has to have before it becomes active. Where none is active they are what the
// stream's last rollout that was done ended at, else the lowest of moving ones, or 0.
func (c *Catalog) Floors(ctx context.Context) (v Versions, err error) {
	err = c.writer.QueryRow(ctx, selectFloors).Scan(&v.Freehold, &v.Product)
	return v, wrap("read floors", err)
}

const updateVersions = `
update tenants
   set schema_version = $2, product_version = $3, schema_needs = case when $4 < 0 then schema_needs else $4 end
 where id = $1
   and (schema_version, product_version, schema_needs)
       is distinct from ($2, $3, case when $4 < 0 then schema_needs else $4 end)`

// SetVersions records what a tenant's database has. needs is the lowest latest
// version that a binary may have to serve it; negative: as it was. Routes carry
// versions, so a change is a new epoch. ErrNotFound.
func (c *Catalog) SetVersions(ctx context.Context, id TenantID, v Versions, needs int64) error {
	_, err := c.changeTenant(ctx, "set versions", id, func(tx pgx.Tx, _ State) (bool, error) {
		tag, err := tx.Exec(ctx, updateVersions, id, v.Freehold, v.Product, needs)
		return tag.RowsAffected() > 0, err
	})
	return err
}
