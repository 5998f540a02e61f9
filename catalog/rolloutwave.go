package catalog

import (
	"context"

	"github.com/jackc/pgx/v5"
)

const selectUnchecked = `
select x.tenant from rollout_targets x
 where x.rollout = $1 and x.wave = $2 and x.state = 'done'
   and not exists (select from tenant_schemas s where s.tenant = x.tenant and s.checked_at > x.ended_at)
 order by x.tenant`

// UncheckedTenants are the tenants of a wave that were migrated, and whose schema
// nobody has looked at since.
func (c *Catalog) UncheckedTenants(ctx context.Context, rollout string, wave int) ([]TenantID, error) {
	rows, err := c.writer.Query(ctx, selectUnchecked, rollout, wave)
	if err != nil {
		return nil, wrap("list wave", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[TenantID])
	return list, wrap("list wave", err)
}

const leaveRollout = `
update rollouts set lease_until = now(), worker = '' where id = $1 and token = $2`

// LeaveRollout ends the lead of a process that stops: another one leads at once.
func (c *Catalog) LeaveRollout(ctx context.Context, r Rollout) error {
	_, err := c.writer.Exec(ctx, leaveRollout, r.ID, r.Token)
	return wrap("leave rollout", err)
}

const wakeRollout = `
update rollouts r set state = 'running', ended_at = null, worker = '', lease_until = now(), token = token + 1
 where r.id = $1 and r.state = 'partial'
   and exists (select from tenants t
                where t.state = 'active'
                  and case r.stream when 'freehold' then t.schema_version else t.product_version end < r.target
                  and ` + unmet + `)`

// WakeRollout has one that ended in part go on when there are tenants that it hasn't
// met: created, restored or resumed since. What failed still waits for a person.
func (c *Catalog) WakeRollout(ctx context.Context, id string) (woken bool, err error) {
	tag, err := c.writer.Exec(ctx, wakeRollout, id)
	return tag.RowsAffected() > 0, wrap("wake rollout", err)
}
