package catalog

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
)

// A tenant that was suspended before its last backup was made has hardly changed
// since: that one only has to be renewed before it would expire. Whatever changes a
// tenant's row sets updated_at.
const backupTargets = `
with target as (
    select t.id, t.slug, t.plan, t.state, t.server_id, n.id as newest, n.made_at, coalesce(n.made_at, t.created_at) as since,
           case when t.state = 'suspended' and n.made_at > t.updated_at and plan.every > interval '0'
                then greatest(plan.every, plan.keep / 2) else plan.every end as every,
           plan.prove_every, coalesce(n.proof_error, '') as newest_error
      from tenants t
      left join backup_plans own on own.plan = t.plan
      left join backup_plans others on others.plan = ''
     cross join lateral (
           select coalesce(own.every, others.every, interval '0') as every,
                  coalesce(own.keep, others.keep, interval '0') as keep,
                  coalesce(own.prove_every, others.prove_every, interval '0') as prove_every) plan
      left join lateral (
           select b.id, b.made_at, b.proof_error from tenant_backups b
            where b.tenant = t.id order by b.made_at desc, b.id desc limit 1) n on true
     where t.state in ('active', 'suspended', 'moving')
)`

// TenantBackupView is how a tenant stands with its backups.
type TenantBackupView struct {
	Tenant     TenantID      `json:"tenant_id"`
	Slug       string        `json:"tenant"`
	Plan       string        `json:"plan"`
	NewestAt   *time.Time    `json:"newest_at"`   // nil: it has none
	ProvedAt   *time.Time    `json:"proved_at"`   // when one was last restored, and found whole
	ProofError string        `json:"proof_error"` // of the newest backup that was tried
	Target     time.Duration `json:"target"`      // 0: none
	Age        time.Duration `json:"age"`         // of the newest backup, or of a tenant without any
	Overdue    bool          `json:"overdue"`     // Age is above Target
}

// BackupFilter narrows BackupViews; zero fields don't filter. After is the last slug
// of the page before; it goes with no Worst.
type BackupFilter struct {
	OlderThan   time.Duration // by Age
	OverdueOnly bool
	Worst       bool // the oldest first, and not by slug
	After       string
	Limit       int
}

const selectBackupViews = backupTargets + `, viewed as (
    select x.id, x.slug, x.plan, x.made_at, x.every, now() - x.since as age, x.every > interval '0' and now() - x.since > x.every as overdue from target x
)
select v.id as tenant, v.slug, v.plan, v.made_at as newest_at, proof.proved_at, coalesce(tried.proof_error, '') as proof_error,
       v.every as target, v.age, v.overdue
  from viewed v
 cross join lateral (select max(b.proved_at) as proved_at from tenant_backups b where b.tenant = v.id) proof
  left join lateral (
       select b.proof_error from tenant_backups b
        where b.tenant = v.id and (b.proved_at is not null or b.proof_error <> '')
        order by b.made_at desc, b.id desc limit 1) tried on true
 where ($1::interval = interval '0' or v.age > $1) and (not $2 or v.overdue) and ($3 = '' or v.slug > $3)
 order by case when $4 then v.age end desc nulls last, v.slug, v.id limit nullif($5, 0)`

// BackupViews lists tenants that are served or suspended, by slug.
func (c *Catalog) BackupViews(ctx context.Context, f BackupFilter) ([]TenantBackupView, error) {
	if err := invalid(
		within("limit", f.Limit, 0, math.MaxInt32),
		within("older_than", int64(f.OlderThan), 0, int64(maxAge)),
	); err != nil {
		return nil, err
	}
	rows, err := c.writer.Query(ctx, selectBackupViews, f.OlderThan, f.OverdueOnly, f.After, f.Worst, f.Limit)
	if err != nil {
		return nil, wrap("list backups", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[TenantBackupView])
	return list, wrap("list backups", err)
}

// OwedBackup is a tenant whose next backup should begin.
type OwedBackup struct {
	Tenant TenantID
	Slug   string
	Server string // by name
}

// A backup begins when four fifths of its time are over, for some tenants a little
// later: those whose backups fall together drift apart, and a backup that has to be
// tried again still comes in time. One that failed, or that somebody cancelled, is
// left alone for a while.
const selectBackupsOwed = backupTargets + `, open as (
    select t.server_id, count(*) as n from operations o join tenants t on t.id = o.tenant
     where o.kind = 'backup' and o.state in ('waiting', 'running') group by t.server_id
), due as (
    select x.id, x.slug, x.server_id,
           x.since + x.every * (0.8 + 0.1 * (hashtext(x.id::text) & 1023) / 1023.0) as at
      from target x
     where x.every > interval '0' and x.state in ('active', 'suspended')
), owed as (
    select d.id, d.slug, d.at, s.name as server, coalesce(open.n, 0) as open,
           row_number() over (partition by d.server_id order by d.at, d.id) as nth
      from due d join servers s on s.id = d.server_id left join open on open.server_id = d.server_id
     where d.at <= now() and s.state <> 'down'
       and not exists (select from operations o
                        where o.tenant = d.id
                          and (o.state in ('waiting', 'running')
                               or o.kind = 'backup' and o.state in ('failed', 'cancelled')
                                  and o.ended_at > now() - interval '30 minutes'))
)
select id as tenant, slug, server from owed
 where nth <= $2 - open
 order by at, id limit greatest($1 - coalesce((select sum(n) from open), 0), 0)`

// BackupsOwed lists the tenants to be backed up next, the one that is due longest
// first: so many that no more than atOnce backups wait or run, and no more than
// perServer on a server. Tenants that are busy are left out.
func (c *Catalog) BackupsOwed(ctx context.Context, atOnce, perServer int) ([]OwedBackup, error) {
	rows, err := c.writer.Query(ctx, selectBackupsOwed, atOnce, perServer)
	if err != nil {
		return nil, wrap("list owed backups", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[OwedBackup])
	return list, wrap("list owed backups", err)
}

// One that a proof has found broken is told of; the next backup is tried again.
const selectProofsOwed = backupTargets + `, owed as (
    select distinct on (x.server_id) x.newest::text as id, x.id as tenant, proof.proved_at
      from target x
      join servers s on s.id = x.server_id
     cross join lateral (select max(b.proved_at) as proved_at from tenant_backups b where b.tenant = x.id) proof
     where x.newest is not null and x.newest_error = '' and x.prove_every > interval '0'
       and (proof.proved_at is null or proof.proved_at < now() - x.prove_every)
       and x.state in ('active', 'suspended') and s.state <> 'down'
     order by x.server_id, proof.proved_at nulls first, x.id)
select id, tenant from owed order by proved_at nulls first, id`

// ProofsOwed lists backups that are to be restored on trial, one for each server: the
// newest of the tenant whose last proof is oldest. Those that were never proved come
// first.
func (c *Catalog) ProofsOwed(ctx context.Context) ([]TenantBackup, error) {
	rows, err := c.writer.Query(ctx, selectProofsOwed)
	if err != nil {
		return nil, wrap("list owed proofs", err)
	}
	type owed struct {
		ID     string
		Tenant TenantID
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[owed])
	if err != nil {
		return nil, wrap("list owed proofs", err)
	}
	var list []TenantBackup
	for _, o := range found {
		b, err := c.TenantBackup(ctx, o.Tenant, o.ID)
		switch {
		case errors.Is(err, ErrNotFound): // it has expired meanwhile
		case err != nil:
			return nil, err
		default:
			list = append(list, b)
		}
	}
	return list, nil
}
