package catalog

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
)

// Overview is what a person has to know of the platform, as the catalog alone can
// tell: no tenant's server is asked. Ages are by the catalog's clock.
type Overview struct {
	Tenants map[string]int // by state, deleted ones left out
	// FirstTenant is the age of the oldest; 0 without any.
	FirstTenant time.Duration
	Servers     []Server
	// Measured is how long ago each server that isn't down was measured, or else added.
	Measured map[string]time.Duration
	Ready    []ReadyCount
	Nodes    []NodeState
	Failed   []OperationGroup
	Overdue  []OperationGroup
	Below    []SchemaGap // of Freehold's stream
	Findings []FindingGroup
	Mail     StuckMails
	Visits   []VisitTrouble
	// Backup is the age of the newest backup of the catalog; nil without any.
	Backup *time.Duration
	Chores []ChoreState
	Work   WorkView
	// Rollouts are the open ones, the oldest first.
	Rollouts []RolloutTrouble
	// ProductTarget is what the product's tables should be at; 0: there are none.
	ProductTarget int64
	BelowProduct  []SchemaGap
	Schemas       SchemaTrouble
	Upkeep        Upkeep
}

// Sample is how many of a group are named.
const Sample = 3

// ReadyCount is how many ready databases a server has of those it should have.
type ReadyCount struct {
	Server string
	Want   int
	Ready  int
	// Begun is how long ago the newest was begun, nil when there is none.
	Begun *time.Duration
}

// NodeState is a node and what it last said of itself.
type NodeState struct {
	Node
	Silent time.Duration   `json:"-"`
	Health json.RawMessage `json:"-"`
}

// OperationGroup is operations in the same trouble. IDs, Tenants and Error are of
// the newest.
type OperationGroup struct {
	Kind, Step, Error string
	Count             int
	IDs, Tenants      []string
}

// SchemaGap is tenants whose schema is older than it should be.
type SchemaGap struct {
	Version int64
	Count   int
	Tenants []string
}

// FindingGroup is findings of one kind on one server. What and Fix are the oldest's.
type FindingGroup struct {
	Kind, Server string
	Count        int
	Objects      []string // a tenant's slug where there is one
	What, Fix    string
	Oldest       time.Duration
}

// StuckMails is mail that was given up, or that fails for a while.
type StuckMails struct {
	Count, GivenUp int
	IDs, Tenants   []string
	Error          string // the oldest's
}

// ChoreState is when a periodic work last ended well.
type ChoreState struct {
	Name   string
	Done   time.Duration // ago; since 1970 when it never did
	Tried  time.Duration // ago: its last run ended, well or not
	Failed bool          // its last run did
	Error  string
}

const (
	countByState = `
select state, count(*) from tenants where state <> 'deleted' group by state`

	// Ids are made in the order of time.
	firstTenant = `
select coalesce((select now() - created_at from tenants order by id limit 1), interval '0')`

	selectReadyCounts = `
select s.name as server, s.ready as want, count(r.id) filter (where r.state = 'ready') as ready,
       now() - max(r.created_at) as begun
  from servers s left join ready_databases r on r.server_id = s.id
 where s.ready > 0 and s.state = 'active' group by s.id order by s.name`

	selectMeasured = `
select name, now() - coalesce(measured_at, created_at) from servers where state <> 'down'`

	// A node that ends says so; one silent for longer than this was given up.
	selectNodeStates = `
select ` + nodeColumns + `, now() - heartbeat_at as silent, health
  from nodes where heartbeat_at > now() - interval '10 minutes' and ` + servesTo + ` order by name, started_at`

	groupOperations = `
select x.kind, x.step, count(*) as count,
       (array_agg(x.error order by x.created_at desc))[1] as error,
       (array_agg(x.id::text order by x.created_at desc))[1:3] as ids,
       (array_agg(x.slug order by x.created_at desc))[1:3] as tenants
  from (select o.id, o.kind, o.error, o.created_at, coalesce(t.slug, '') as slug,
               coalesce((select s.name from operation_steps s
                          where s.operation = o.id and s.state <> 'done' order by s.n limit 1), '') as step
          from operations o left join tenants t on t.id = o.tenant where `
	groupedOperations = `) x group by x.kind, x.step order by max(x.created_at) desc limit 20`

	// What was taken up again, and what belongs to nobody any more, needs nobody.
	failedOperations = groupOperations + `
       o.state = 'failed' and t.state is distinct from 'deleted'
       and not exists (select from operations n where n.tenant = o.tenant and n.kind = o.kind
                          and n.created_at > o.created_at and n.state <> 'cancelled')` + groupedOperations

	// Where others are at work there is a queue: that is none's fault for a while.
	overdueOperations = groupOperations + `
       o.state in ('waiting', 'running') and o.run_at < now() - interval '2 minutes'
       and (o.state = 'waiting' or o.lease_until < now() - interval '1 minute')
       and (o.run_at < now() - interval '30 minutes'
            or not exists (select from operations w where w.state = 'running' and w.lease_until > now()))` + groupedOperations

	// Suspended ones are brought up when they are resumed.
	selectGaps = `
select g.schema_version as version, g.n as count,
       array(select t.slug from tenants t where t.state in ('active', 'moving')
                and t.schema_version = g.schema_version limit 3) as tenants
  from (select schema_version, count(*) as n from tenants
         where state in ('active', 'moving') and schema_version < $1 group by schema_version) g
 order by g.schema_version`

	// What the reconciler mends by itself it mends within the hour, or it can't.
	groupFindings = `
select f.kind, f.server, count(*) as count,
       (array_agg(coalesce(t.slug, f.object) order by f.since, f.object))[1:3] as objects,
       (array_agg(f.what order by f.since, f.object))[1] as what,
       (array_agg(f.fix order by f.since, f.object))[1] as fix,
       max(now() - f.since) as oldest
  from findings f left join tenants t on t.id = f.tenant
 where f.fix <> '' or f.since < now() - interval '1 hour'
 group by f.kind, f.server order by f.kind, f.server`

	selectStuckMail = `
select count(*) as count, count(m.given_up_at) as given_up,
       (array_agg(m.id::text order by m.created_at))[1:3] as ids,
       (array_agg(coalesce(t.slug, '') order by m.created_at))[1:3] as tenants,
       coalesce((array_agg(m.error order by m.created_at))[1], '') as error
  from mail_outbox m left join tenants t on t.id = m.tenant
 where ` + mailIsStuck

	newestBackup = `select now() - max(made_at) from catalog_backups`

	selectChoreStates = `
select name, now() - done_at as done, now() - greatest(done_at, error_at) as tried, coalesce(error <> '' and error_at >= done_at, false) as failed, error
  from chores order by name`
)

// Overview reads all of it in two round trips, by index. target is the schema
// version that tenants should have.
func (c *Catalog) Overview(ctx context.Context, target int64) (o Overview, err error) {
	o.Tenants = map[string]int{}
	var batch pgx.Batch
	batch.Queue(countByState).Query(func(rows pgx.Rows) error {
		var state string
		var n int
		_, err := pgx.ForEachRow(rows, []any{&state, &n}, func() error {
			o.Tenants[state] = n
			return nil
		})
		return err
	})
	o.Measured = map[string]time.Duration{}
	batch.Queue(selectMeasured).Query(func(rows pgx.Rows) error {
		var name string
		var age time.Duration
		_, err := pgx.ForEachRow(rows, []any{&name, &age}, func() error {
			o.Measured[name] = age
			return nil
		})
		return err
	})
	batch.Queue(firstTenant).QueryRow(func(row pgx.Row) error { return row.Scan(&o.FirstTenant) })
	batch.Queue(newestBackup).QueryRow(func(row pgx.Row) error { return row.Scan(&o.Backup) })
	collect(&batch, &o.Ready, selectReadyCounts)
	collect(&batch, &o.Nodes, selectNodeStates)
	collect(&batch, &o.Failed, failedOperations)
	collect(&batch, &o.Overdue, overdueOperations)
	collect(&batch, &o.Below, selectGaps, target)
	collect(&batch, &o.Findings, groupFindings)
	collect(&batch, &o.Chores, selectChoreStates)
	collect(&batch, &o.Visits, selectVisitTrouble)
	o.queueRollouts(&batch)
	o.Work.queue(&batch)
	o.Upkeep.queue(&batch)
	batch.Queue(selectStuckMail).Query(func(rows pgx.Rows) (err error) {
		o.Mail, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[StuckMails])
		return err
	})
	if err := c.writer.SendBatch(ctx, &batch).Close(); err != nil {
		return o, wrap("read overview", err)
	}
	o.Servers, err = c.Servers(ctx)
	return o, err
}

// collect queues a query whose rows become a list.
func collect[T any](batch *pgx.Batch, list *[]T, sql string, args ...any) {
	batch.Queue(sql, args...).Query(func(rows pgx.Rows) (err error) {
		*list, err = pgx.CollectRows(rows, pgx.RowToStructByName[T])
		return err
	})
}
