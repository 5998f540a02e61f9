package catalog

import (
	"time"

	"github.com/jackc/pgx/v5"
)

// Upkeep is what a person may have to know of tenants' backups, restores and moves.
type Upkeep struct {
	Late        []LateBackup // the worst first, a Sample of them
	Broken      BrokenBackups
	Unconfirmed Unconfirmed
	Stuck       StuckMoves
	Drains      []DrainTrouble
	KeptTooLong KeptTooLong
}

// LateBackup is a tenant outside its backup target.
type LateBackup struct {
	Tenant string        // slug
	Target time.Duration // the oldest that its newest backup should be
	Age    time.Duration // of its newest backup; of the tenant when it has none
	Never  bool          // it has none
	Of     int           // how many tenants are outside theirs
}

// BrokenBackups are tenants of whose backups the one that was restored last, on
// trial, was not whole. Error is that of the first.
type BrokenBackups struct {
	Count   int
	Tenants []string
	Error   string
}

// Unconfirmed are tenants that were restored a while ago, whose databases from before
// are kept until somebody says which it is to be. Oldest is for how long.
type Unconfirmed struct {
	Count   int
	Tenants []string
	Oldest  time.Duration
}

// StuckMoves are tenants that nobody serves, because they are moving and nobody works
// on that. Operation, State and Oldest are of the one that waits longest; Operation is
// empty when there is none.
type StuckMoves struct {
	Count            int
	Tenants          []string
	Operation, State string
	Oldest           time.Duration
}

// DrainTrouble is the drain of a server that has come to a halt, or that nobody works
// on.
type DrainTrouble struct {
	Server, State, Error string
	// Unled is for how long nobody has worked on it; negative while somebody does.
	Unled time.Duration
}

// KeptTooLong are databases that tenants have left and that should have been dropped.
type KeptTooLong struct {
	Count   int
	Servers []string
	Oldest  time.Duration // since it fell due
}

const (
	selectLate = backupTargets + `
select slug as tenant, every as target, now() - since as age, made_at is null as never, count(*) over () as of
  from target where every > interval '0' and now() - since > every
 order by now() - since - every desc, slug limit nullif($1, 0)`

	// A newer backup that was found whole makes up for it.
	selectBroken = `
select count(*) as count, coalesce((array_agg(x.slug order by x.slug))[1:3], '{}') as tenants,
       coalesce((array_agg(x.proof_error order by x.slug))[1], '') as error
  from (select distinct on (t.id) t.slug, b.proof_error
          from tenant_backups b join tenants t on t.id = b.tenant
         where b.proof_error <> '' and t.state in ('active', 'suspended', 'moving')
           and not exists (select from tenant_backups n where n.tenant = b.tenant and n.made_at > b.made_at
                              and n.proved_at is not null and n.proof_error = '')
         order by t.id, b.made_at desc) x`

	selectUnconfirmed = `
select count(*) as count, coalesce((array_agg(t.slug order by k.created_at))[1:3], '{}') as tenants,
       coalesce(max(now() - k.created_at), interval '0') as oldest
  from kept_databases k join tenants t on t.id = k.tenant
 where k.why = 'restored' and k.drop_at is null and k.created_at < now() - interval '1 day'`

	// Whoever works on it says so every few seconds; one that died is followed by
	// another within a minute.
	selectStuck = `
select count(*) as count, coalesce((array_agg(x.slug order by x.since))[1:3], '{}') as tenants,
       coalesce((array_agg(x.id order by x.since))[1], '') as operation,
       coalesce((array_agg(x.state order by x.since))[1], '') as state,
       coalesce(now() - min(x.since), interval '0') as oldest
  from (select t.slug, coalesce(o.id::text, '') as id, coalesce(o.state, '') as state,
               greatest(t.updated_at, o.run_at, o.ended_at, o.lease_until) as since
          from tenants t
          left join lateral (select w.id, w.state, w.run_at, w.ended_at, w.lease_until from operations w
                              where w.tenant = t.id and w.kind in ('move', 'restore')
                              order by w.created_at desc limit 1) o on true
         where t.state = 'moving') x
 where x.since < now() - interval '1 minute'`

	selectDrainTrouble = `
select s.name as server, d.state, d.error, now() - coalesce(d.lease_until, d.created_at) as unled
  from server_drains d join servers s on s.id = d.server_id
 where d.state in ('running', 'halted') order by d.created_at`

	// Of a server that is down nothing can be dropped, and it is named.
	selectKeptTooLong = `
select count(*) as count, coalesce((array_agg(distinct s.name))[1:3], '{}') as servers,
       coalesce(max(now() - k.drop_at), interval '0') as oldest
  from kept_databases k join servers s on s.id = k.server_id
 where k.drop_at < now() - interval '1 hour' and s.state <> 'down'`
)

// queue reads what the overview has of backups, restores and moves.
func (u *Upkeep) queue(batch *pgx.Batch) {
	collect(batch, &u.Late, selectLate, Sample)
	collect(batch, &u.Drains, selectDrainTrouble)
	collectOne(batch, &u.Broken, selectBroken)
	collectOne(batch, &u.Unconfirmed, selectUnconfirmed)
	collectOne(batch, &u.Stuck, selectStuck)
	collectOne(batch, &u.KeptTooLong, selectKeptTooLong)
}

// collectOne queues a query of one row.
func collectOne[T any](batch *pgx.Batch, one *T, sql string, args ...any) {
	batch.Queue(sql, args...).Query(func(rows pgx.Rows) (err error) {
		*one, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[T])
		return err
	})
}
