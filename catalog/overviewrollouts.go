package catalog

import (
	"time"

	"github.com/jackc/pgx/v5"
)

// RolloutTrouble is an open rollout, as far as a person may have to know of it.
type RolloutTrouble struct {
	ID            string
	Stream        Stream
	Target        int64
	State, Reason string
	// Unled is for how long nobody has led it; negative while somebody does.
	Unled         time.Duration
	Total, Failed int
	Tenants       []string // of the failed ones
}

// SchemaTrouble is what the last comparisons of tenants' schemas have found, of
// active tenants.
type SchemaTrouble struct {
	Compared int // tenants
	// Newest is how long ago the last one was compared; nil: none was.
	Newest                           *time.Duration
	Drifted, InvalidIndexes          int      // tenants with such
	DriftedTenants, InvalidInTenants []string // the first of them
}

const (
	selectRolloutTrouble = `
select r.id::text, r.stream, r.target, r.state, r.reason,
       now() - coalesce(r.lease_until, r.created_at) as unled,
       (select count(*) from rollout_targets x where x.rollout = r.id and x.state <> 'gone') as total,
       (select count(*) from rollout_targets x where x.rollout = r.id and x.state = 'failed') as failed,
       array(select t.slug from rollout_targets x join tenants t on t.id = x.tenant
              where x.rollout = r.id and x.state = 'failed' order by t.slug limit 3) as tenants
  from rollouts r where r.state in ('running', 'halted', 'partial') order by r.created_at`

	selectSchemaTrouble = `
select count(*) as compared, now() - max(s.checked_at) as newest,
       count(*) filter (where s.drifted) as drifted,
       count(*) filter (where s.invalid_indexes <> '{}') as invalid_indexes,
       coalesce((array_agg(t.slug order by t.slug) filter (where s.drifted))[1:3], '{}') as drifted_tenants,
       coalesce((array_agg(t.slug order by t.slug) filter (where s.invalid_indexes <> '{}'))[1:3], '{}') as invalid_in_tenants
  from tenant_schemas s join tenants t on t.id = s.tenant where t.state = 'active'`

	// What the product's tables should be at is what was last rolled out to its end.
	selectProductTarget = `
select coalesce((select target from rollouts where stream = 'product' and state = 'done'
                  order by created_at desc limit 1), 0)`

	selectProductGaps = `
select g.product_version as version, g.n as count,
       array(select t.slug from tenants t where t.state in ('active', 'moving')
                and t.product_version = g.product_version limit 3) as tenants
  from (select product_version, count(*) as n from tenants
         where state in ('active', 'moving')
           and product_version < (select target from rollouts where stream = 'product' and state = 'done'
                                   order by created_at desc limit 1)
         group by product_version) g
 order by g.product_version`
)

// queueRollouts reads what the overview has of rollouts and schemas.
func (o *Overview) queueRollouts(batch *pgx.Batch) {
	collect(batch, &o.Rollouts, selectRolloutTrouble)
	collect(batch, &o.BelowProduct, selectProductGaps)
	batch.Queue(selectProductTarget).QueryRow(func(row pgx.Row) error { return row.Scan(&o.ProductTarget) })
	batch.Queue(selectSchemaTrouble).Query(func(rows pgx.Rows) (err error) {
		o.Schemas, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[SchemaTrouble])
		return err
	})
}
