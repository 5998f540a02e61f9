package catalog

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// TenantBackup is a backup of one tenant in the object store.
type TenantBackup struct {
	ID             string     `json:"id"` // the operation's that made it
	TenantID       TenantID   `json:"tenant_id"`
	Tenant         string     `json:"tenant"` // slug
	Key            string     `json:"key"`    // of the object, whole
	MadeAt         time.Time  `json:"made_at"`
	Bytes          int64      `json:"bytes"`   // sealed
	Objects        int64      `json:"objects"` // named by its manifest
	SchemaVersion  int64      `json:"schema_version"`
	ProductVersion int64      `json:"product_version"`
	ServerVersion  int        `json:"server_version"` // server_version_num
	Scheduled      bool       `json:"scheduled"`
	ProvedAt       *time.Time `json:"proved_at"`   // last restored from, and found whole
	ProofError     string     `json:"proof_error"` // of a later attempt
	CreatedAt      time.Time  `json:"created_at"`
}

const (
	backupColumns = `id, tenant, key, made_at, bytes, objects, schema_version, product_version, server_version, scheduled`

	// Only by who has the operation, so that one that was cancelled leaves nothing.
	addTenantBackup = mine + `
insert into tenant_backups (` + backupColumns + `)
select mine.id, $3, $4, $5, $6, $7, $8, $9, $10, $11 from mine
    on conflict (id) do update set key = excluded.key, made_at = excluded.made_at, bytes = excluded.bytes,
       objects = excluded.objects, schema_version = excluded.schema_version,
       product_version = excluded.product_version, server_version = excluded.server_version
returning false`
)

// AddTenantBackup records the backup that an operation made. Twice is once. ErrLost.
func (c *Catalog) AddTenantBackup(ctx context.Context, o Operation, b TenantBackup) error {
	return c.held(ctx, "record backup", addTenantBackup, o.ID, o.Token, o.TenantID, b.Key, b.MadeAt, b.Bytes,
		b.Objects, b.SchemaVersion, b.ProductVersion, b.ServerVersion, b.Scheduled)
}

const recallTenantBackup = `
insert into tenant_backups (` + backupColumns + `) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    on conflict do nothing`

// RecallTenantBackup records a backup that was found in the object store and that
// this catalog has forgotten. One of the same id or key that is known stays as it is.
func (c *Catalog) RecallTenantBackup(ctx context.Context, b TenantBackup) error {
	id, err := uuid.Parse(b.ID)
	if err != nil {
		return wrap("record backup", invalid(wrong("id", "want a uuid")))
	}
	_, err = c.writer.Exec(ctx, recallTenantBackup, id, b.TenantID, b.Key, b.MadeAt, b.Bytes, b.Objects,
		b.SchemaVersion, b.ProductVersion, b.ServerVersion, b.Scheduled)
	return wrap("record backup", err)
}

const selectTenantBackups = `
select b.id::text, b.tenant as tenant_id, t.slug as tenant, b.key, b.made_at, b.bytes, b.objects, b.schema_version,
       b.product_version, b.server_version, b.scheduled, b.proved_at, b.proof_error, b.created_at
  from tenant_backups b join tenants t on t.id = b.tenant
 where b.tenant = $1`

const theNewest = ` order by b.made_at desc, b.id desc limit 1`

// TenantBackups lists a tenant's, newest first.
func (c *Catalog) TenantBackups(ctx context.Context, id TenantID) ([]TenantBackup, error) {
	rows, err := c.writer.Query(ctx, selectTenantBackups+` order by b.made_at desc, b.id desc`, id)
	if err != nil {
		return nil, wrap("list backups", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[TenantBackup])
	return list, wrap("list backups", err)
}

// BackupLatest names a tenant's newest backup.
const BackupLatest = "latest"

// TenantBackup reads one of a tenant's backups: by its id, BackupLatest, or an RFC
// 3339 moment, which names the newest that isn't later. ErrNotFound, also for another
// tenant's; ErrInvalid.
func (c *Catalog) TenantBackup(ctx context.Context, tenant TenantID, which string) (TenantBackup, error) {
	const op = "read backup"
	where, args := "", []any{tenant}
	if id, err := uuid.Parse(which); err == nil {
		where, args = ` and b.id = $2`, append(args, id)
	} else if at, err := time.Parse(time.RFC3339, which); err == nil {
		where, args = ` and b.made_at <= $2`+theNewest, append(args, at)
	} else if which == BackupLatest {
		where = theNewest
	} else {
		return TenantBackup{}, fmt.Errorf("%s: %w", op, invalid(wrong("backup", "want an id, %q or a moment as in RFC 3339", BackupLatest)))
	}
	rows, err := c.writer.Query(ctx, selectTenantBackups+where, args...)
	if err != nil {
		return TenantBackup{}, wrap(op, err)
	}
	b, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[TenantBackup])
	return b, wrap(op, err)
}

const proveTenantBackup = `
update tenant_backups
   set proved_at = case when $2 = '' then now() else proved_at end, proof_error = left($2, 1000)
 where id = $1
returning id`

// ProveTenantBackup records that a backup was restored and found whole, or, with a
// failure, why it was not: a text for people, without secrets. ErrNotFound.
func (c *Catalog) ProveTenantBackup(ctx context.Context, id, failure string) error {
	backup, err := uuid.Parse(id)
	if err != nil {
		return fmt.Errorf("record proof: %w", ErrNotFound)
	}
	failure = strings.ReplaceAll(strings.ToValidUTF8(failure, ""), "\x00", "")
	var found uuid.UUID
	return wrap("record proof", c.writer.QueryRow(ctx, proveTenantBackup, backup, failure).Scan(&found))
}

const deleteTenantBackup = `delete from tenant_backups where id = $1`

// RemoveTenantBackup forgets a backup whose object is gone, or goes. Twice is no error.
func (c *Catalog) RemoveTenantBackup(ctx context.Context, id string) error {
	backup, err := uuid.Parse(id)
	if err != nil {
		return nil // nothing bears such an id
	}
	_, err = c.writer.Exec(ctx, deleteTenantBackup, backup)
	return wrap("forget backup", err)
}

// ExpiredBackup is a backup that is forgotten already, and whose object is to go.
type ExpiredBackup struct {
	TenantID TenantID
	Key      string
}

// The newest is kept however old it is, and so is the newest that no proof has found
// broken, and what somebody restores from, or would when an operation is retried.
const expireTenantBackups = `
delete from tenant_backups b
 using (select x.id, x.tenant, x.key
          from tenant_backups x
          join tenants t on t.id = x.tenant
          left join backup_plans p on p.plan = t.plan
          left join backup_plans d on d.plan = ''
         where ($1::uuid is null or x.tenant = $1) and x.made_at < now() - coalesce(p.keep, d.keep)
           and exists (select from tenant_backups n
                        where n.tenant = x.tenant and (n.made_at, n.id) > (x.made_at, x.id))
           and (x.proof_error <> ''
                or exists (select from tenant_backups n
                            where n.tenant = x.tenant and n.proof_error = '' and (n.made_at, n.id) > (x.made_at, x.id)))
           and not exists (select from operations o
                            where o.state in ('waiting', 'running', 'failed') and o.kind in ('restore', 'onboard')
                              and (position(x.id::text in o.args::text) > 0 or position(x.key in o.args::text) > 0))
         order by x.made_at limit $2) old
 where b.id = old.id
returning b.tenant as tenant_id, b.key`

// ExpireTenantBackups forgets backups that are older than their plans keep them, of
// one tenant or, with a zero id, of all, so many at most, and tells whose objects are
// to be removed.
func (c *Catalog) ExpireTenantBackups(ctx context.Context, id TenantID, limit int) ([]ExpiredBackup, error) {
	var tenant *TenantID
	if !id.IsZero() {
		tenant = &id
	}
	rows, err := c.writer.Query(ctx, expireTenantBackups, tenant, limit)
	if err != nil {
		return nil, wrap("expire backups", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[ExpiredBackup])
	return list, wrap("expire backups", err)
}

const supersede = `
update operations set state = 'cancelled', ended_at = now()
 where tenant = $1 and kind = 'backup' and state = 'failed'`

// BeginBackup registers a backup of a tenant, in the taker's hands, or, when taker
// has no name, for the next worker. Backups of it that failed are cancelled: this one is
// another try. *Busy when the tenant is busy with another operation, ErrConflict when
// it is neither active nor suspended, ErrNotFound.
func (c *Catalog) BeginBackup(ctx context.Context, spec OperationSpec, taker Taker) (o Operation, err error) {
	ctx, cancel, err := whole(ctx)
	if err != nil {
		return o, wrap("begin backup", err)
	}
	defer cancel()
	spec.Kind = KindBackup
	err = pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
		var state State
		var epoch int64
		if err := tx.QueryRow(ctx, lockTenant, spec.Tenant).Scan(&state, &epoch); err != nil {
			return err
		}
		busy, err := busyWith(ctx, tx, spec.Tenant)
		if err != nil {
			return err
		}
		if busy != nil { // tells more than the state that it is in for that
			return busy
		}
		switch state {
		case Active, Suspended:
		case Deleted:
			return ErrNotFound
		default:
			return fmt.Errorf("begin backup: tenant is %s: %w", state, ErrConflict)
		}
		if _, err := tx.Exec(ctx, supersede, spec.Tenant); err != nil {
			return err
		}
		if o, err = beginOperation(ctx, tx, spec); err != nil || taker.Worker == "" {
			return err
		}
		o, err = takeIn(ctx, tx, o.ID, taker)
		return err
	})
	return o, wrap("begin backup", err)
}

const pruneBackups = `
delete from operations
 where id in (select id from operations
               where kind = 'backup' and state in ('done', 'cancelled') and ended_at < now() - interval '30 days'
               order by created_at limit 5000)`

// PruneBackups removes the operations of backups that ended more than 30 days ago,
// with their steps; what they made is on record for itself.
func (c *Catalog) PruneBackups(ctx context.Context) error {
	_, err := c.writer.Exec(ctx, pruneBackups)
	return wrap("prune operations", err)
}
