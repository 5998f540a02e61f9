package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// States of an export.
const (
	ExportWaiting = "waiting"
	ExportRunning = "running"
	ExportDone    = "done"
	ExportFailed  = "failed"
	ExportExpired = "expired"
)

const (
	// maxExports bounds a tenant's exports that take room: it asks for them itself.
	maxExports = 10
	// exportWreck is how long after its end an export that failed may still be tried
	// again: then what it may have left is removed.
	exportWreck = 24 * time.Hour
)

// Export is what a tenant takes along: one object under its prefix, until it expires.
// Tables, Rows, Files and Bytes say how far it is while it runs.
type Export struct {
	ID        string     `json:"id"` // the operation's
	TenantID  TenantID   `json:"tenant_id"`
	Tenant    string     `json:"tenant"` // slug
	Actor     string     `json:"actor"`  // key:<id> or operator:<name>
	State     string     `json:"state"`
	Key       string     `json:"key"` // of its object, under the tenant's prefix; empty: it has none any more
	Bytes     int64      `json:"bytes"`
	SHA256    string     `json:"sha256,omitempty"` // of the object, in hex; empty until it is written
	Tables    int        `json:"tables"`
	Rows      int64      `json:"rows"`
	Files     int64      `json:"files"`
	Error     string     `json:"error,omitempty"` // why it failed, in a sentence for the tenant
	CreatedAt time.Time  `json:"created_at"`
	ReadyAt   *time.Time `json:"ready_at,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// The operation says what its row can't: that nobody goes on with it, or that it was
// cancelled.
const selectExport = `
select e.id::text, e.tenant as tenant_id, t.slug as tenant, e.actor,
       case when e.state = 'done' and e.expires_at <= now() then 'expired'
            when e.state in ('waiting', 'running') and o.state in ('failed', 'cancelled') then 'failed'
            else e.state end as state,
       e.key, e.bytes, coalesce(encode(e.sha256, 'hex'), '') as sha256, e.tables, e.rows, e.files,
       case when e.state in ('waiting', 'running') and o.state = 'cancelled' then 'The export was cancelled.'
            when e.state = 'failed' or e.state in ('waiting', 'running') and o.state = 'failed'
            then coalesce(nullif(e.error, ''), 'The export could not be made.')
            else '' end as error,
       e.created_at, e.ready_at, e.expires_at
  from exports e join tenants t on t.id = e.tenant left join operations o on o.id = e.id`

func readExports(ctx context.Context, q querier, where string, args ...any) ([]Export, error) {
	rows, err := q.Query(ctx, selectExport+where, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[Export])
}

func readExport(ctx context.Context, q querier, where string, args ...any) (Export, error) {
	list, err := readExports(ctx, q, where, args...)
	if err == nil && len(list) == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return Export{}, err
	}
	return list[0], nil
}

// Export reads one of a tenant's. ErrNotFound, also for another tenant's.
func (c *Catalog) Export(ctx context.Context, tenant TenantID, id string) (Export, error) {
	if _, err := uuid.Parse(id); err != nil {
		return Export{}, fmt.Errorf("read export: %w", ErrNotFound)
	}
	e, err := readExport(ctx, c.writer, ` where e.tenant = $1 and e.id = $2`, tenant, id)
	return e, wrap("read export", err)
}

const pageOfExports = `
 where e.tenant = $1 and ($2 = '' or e.id < nullif($2, '')::uuid) order by e.id desc limit $3`

// Exports lists a tenant's, newest first; after is the last id of the page before.
func (c *Catalog) Exports(ctx context.Context, tenant TenantID, after string, limit int) ([]Export, error) {
	if after != "" {
		if _, err := uuid.Parse(after); err != nil {
			return nil, invalid(wrong("after", "not the id of an export"))
		}
	}
	list, err := readExports(ctx, c.writer, pageOfExports, tenant, after, limit)
	return list, wrap("list exports", err)
}

// ExportSpec is what an export is begun with.
type ExportSpec struct {
	Tenant TenantID
	Actor  string // key:<id> or operator:<name>
	Steps  []string

	// RequestKey is the Idempotency-Key of the request, and RequestHash of what: the
	// same request again, within a day, is answered with the export it began.
	RequestKey  string
	RequestHash []byte
}

const (
	insertExport = `
insert into exports (id, tenant, actor, key, request_key, request_hash)
values ($1, $2, $3, $4, nullif($5, ''), $6)`

	countExports = `
select count(*) from exports where tenant = $1 and state = 'done' and expires_at > now()`
)

// BeginExport registers an export of an active or suspended tenant and the operation
// that makes it, which is a worker's to do; the audit has it as export.create. key
// names the object by the export's id. *Busy while the tenant is busy with another
// operation; ErrConflict in another state, and for one that has very many exports;
// ErrMismatch; ErrNotFound.
func (c *Catalog) BeginExport(ctx context.Context, spec ExportSpec, key func(id string) string) (e Export, err error) {
	if err := invalid(line("actor", spec.Actor, maxName)); err != nil {
		return Export{}, fmt.Errorf("begin export: %w", err)
	}
	err = pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
		var state State
		var epoch int64
		if err := tx.QueryRow(ctx, lockTenant, spec.Tenant).Scan(&state, &epoch); err != nil {
			return err
		}
		var again bool
		if e, again, err = repeatedExport(ctx, tx, spec); err != nil || again {
			return err
		}
		switch state {
		case Active, Suspended:
		case Deleted:
			return fmt.Errorf("begin export: %w", ErrNotFound)
		default:
			return fmt.Errorf("begin export: the tenant is %s: %w", state, ErrConflict)
		}
		var live int
		if err := tx.QueryRow(ctx, countExports, spec.Tenant).Scan(&live); err != nil {
			return err
		}
		if live >= maxExports {
			return fmt.Errorf("begin export: the tenant has %d exports that can be downloaded, as many as it may: %w", live, ErrConflict)
		}
		e, err = insertedExport(ctx, tx, spec, key)
		return err
	})
	return e, wrap("begin export", err)
}

func insertedExport(ctx context.Context, tx pgx.Tx, spec ExportSpec, key func(id string) string) (Export, error) {
	op, err := beginOperation(ctx, tx, OperationSpec{Kind: KindExport, Tenant: spec.Tenant, Actor: spec.Actor, Steps: spec.Steps})
	if err != nil {
		return Export{}, err
	}
	_, err = tx.Exec(ctx, insertExport, op.ID, spec.Tenant, spec.Actor, key(op.ID), spec.RequestKey, spec.RequestHash)
	if err != nil {
		return Export{}, err
	}
	// With the export, or not at all. Operators are named there as in their other acts.
	actor := strings.TrimPrefix(spec.Actor, "operator:")
	_, err = tx.Exec(ctx, appendAudit, actor, "export.create", spec.Tenant, map[string]any{"export": op.ID})
	if err != nil {
		return Export{}, err
	}
	return readExport(ctx, tx, ` where e.id = $1`, op.ID)
}

const selectExportRequest = `
select e.id::text, e.request_hash = $3 as same from exports e
 where e.tenant = $1 and e.request_key = $2 and e.created_at > now() - interval '1 day'
 order by e.id desc limit 1`

// repeatedExport finds the export that the same request has begun before.
func repeatedExport(ctx context.Context, tx pgx.Tx, spec ExportSpec) (Export, bool, error) {
	if spec.RequestKey == "" {
		return Export{}, false, nil
	}
	var id string
	var same bool
	err := tx.QueryRow(ctx, selectExportRequest, spec.Tenant, spec.RequestKey, spec.RequestHash).Scan(&id, &same)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Export{}, false, nil
	case err != nil:
		return Export{}, false, err
	case !same:
		return Export{}, false, fmt.Errorf("begin export: %w", ErrMismatch)
	}
	e, err := readExport(ctx, tx, ` where e.id = $1`, id)
	return e, err == nil, err
}

// ExportTotals is how much is in an export.
type ExportTotals struct {
	Tables int
	Rows   int64
	Files  int64
	Bytes  int64 // written so far
}

// What is no longer waited for has been cleared away, or will be: it isn't written.
const beginWriting = mine + `
update exports e set state = 'running', error = '', sha256 = null, bytes = 0, tables = 0, rows = 0, files = 0
  from mine where e.id = mine.id and e.state in ('waiting', 'running')
returning mine.cancel`

// BeginExportWriting says that the object is being written, from its first byte.
// ErrLost, ErrCancelled; ErrLost too when it was given up.
func (c *Catalog) BeginExportWriting(ctx context.Context, o Operation) error {
	return c.held(ctx, "begin export", beginWriting, o.ID, o.Token)
}

const noteExport = mine + `
update exports e set bytes = $3, tables = $4, rows = $5, files = $6
  from mine where e.id = mine.id and e.state = 'running'
returning mine.cancel`

// NoteExport says how far the writing is. ErrLost, ErrCancelled.
func (c *Catalog) NoteExport(ctx context.Context, o Operation, t ExportTotals) error {
	return c.heldLoosely(ctx, "note export", noteExport, o.ID, o.Token, t.Bytes, t.Tables, t.Rows, t.Files)
}

const exportWritten = mine + `
update exports e set sha256 = $3, bytes = $4, tables = $5, rows = $6, files = $7
  from mine where e.id = mine.id and e.state = 'running'
returning false`

// ExportWritten notes what was written, and its sha-256. ErrLost.
func (c *Catalog) ExportWritten(ctx context.Context, o Operation, sum []byte, t ExportTotals) error {
	return c.held(ctx, "note export", exportWritten, o.ID, o.Token, sum, t.Bytes, t.Tables, t.Rows, t.Files)
}

const exportFailed = mine + `
update exports e set error = $3 from mine where e.id = mine.id and e.state = 'running'
returning false`

// ExportFailed notes, in a sentence for the tenant, why the writing failed: what is
// shown when nobody tries again. ErrLost.
func (c *Catalog) ExportFailed(ctx context.Context, o Operation, why string) error {
	return c.held(ctx, "note export", exportFailed, o.ID, o.Token, why)
}

const endExport = mine + `
update exports e set state = 'done', ready_at = coalesce(e.ready_at, now()),
       expires_at = coalesce(e.expires_at, now() + $3::interval), error = ''
  from mine where e.id = mine.id and e.state in ('running', 'done') and e.sha256 is not null
returning false`

// EndExport says that the export can be downloaded for so long. Twice is once.
// ErrLost, also for one that wasn't written.
func (c *Catalog) EndExport(ctx context.Context, o Operation, life time.Duration) error {
	return c.held(ctx, "end export", endExport, o.ID, o.Token, life)
}

// An export is over before its object goes: who tries again finds it so. Until its
// key is forgotten, the object may be there.
const (
	overExports = `
with over as (
    select e.id, case when e.state = 'done' then 'expired' else 'failed' end as state
      from exports e left join operations o on o.id = e.id
     where e.state = 'done' and e.expires_at <= now()
        or e.state in ('waiting', 'running') and o.state in ('failed', 'cancelled') and o.ended_at < now() - $1::interval
       for update of e skip locked
)
update exports e set state = over.state from over where e.id = over.id`

	unforgotten = `
 where e.state in ('expired', 'failed') and e.key <> '' order by e.id limit $1`

	forgetExport = `
update exports set key = '' where id = $1 and state in ('expired', 'failed')`
)

// ExportsOver ends the exports whose time is over, and lists, oldest first, those that
// have ended and whose objects may be there still.
func (c *Catalog) ExportsOver(ctx context.Context, limit int) ([]Export, error) {
	if _, err := c.writer.Exec(ctx, overExports, exportWreck); err != nil {
		return nil, wrap("end exports", err)
	}
	list, err := readExports(ctx, c.writer, unforgotten, limit)
	return list, wrap("list exports", err)
}

// ForgetExport notes that an export's object is gone. Twice is once.
func (c *Catalog) ForgetExport(ctx context.Context, id string) error {
	_, err := c.writer.Exec(ctx, forgetExport, id)
	return wrap("forget export", err)
}
