package tenantdb

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Actor is who does something, as the tenant's audit names it.
type Actor struct {
	Actor     string // key:<id>, operator:<name> or system
	RequestID string
	Audit     bool // it is told to the audit, in the same transaction
}

// ActorSystem is the platform itself.
const ActorSystem = "system"

// States of a file.
const (
	FileUploading = "uploading"
	FileProcessed = "processed"
	FileDeleting  = "deleting"
)

// Purposes of files.
const (
	PurposeFineTune = "fine-tune"
	PurposeUserData = "user_data"
	PurposeResults  = "fine-tune-results"
)

// File is a file's row. Its bytes are the object files/<id>.
type File struct {
	ID        uuid.UUID // v7
	State     string
	Purpose   string
	Name      string
	Bytes     int64
	Sum       []byte // sha-256; nil until it is processed
	APIKey    string // whose upload it was; empty: a worker's
	CreatedAt time.Time
	ExpiresAt *time.Time // nil: never
}

const insertFile = `
insert into freehold.files as f (id, state, purpose, name, bytes, api_key, created_at, expires_at)
values ($1, 'uploading', $2, $3, $4, $5, coalesce($6, now()), $7)
on conflict (id) do update set created_at = excluded.created_at where f.state = 'uploading'
returning f.id`

// BeginFile writes down that a file is on its way, before its first byte is stored:
// what is left behind is found by it. Bytes may be what is expected, CreatedAt may be
// zero (now); Purpose, Name, Bytes and ExpiresAt are EndFile's to correct. Twice is
// once, from then on. ErrFenced, ErrInvalid (also for an id that a file has).
func (db *DB) BeginFile(ctx context.Context, f File) error {
	if f.ID.Version() != 7 {
		return fmt.Errorf("begin file: %w: the id isn't a uuid v7", ErrInvalid)
	}
	var begun []uuid.UUID
	b := db.fenced()
	b.Queue(insertFile, f.ID, f.Purpose, f.Name, f.Bytes, f.APIKey, known(f.CreatedAt), f.ExpiresAt).
		Query(func(rows pgx.Rows) (err error) {
			begun, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
			return err
		})
	err := db.send(ctx, b)
	if err == nil && len(begun) == 0 {
		err = fmt.Errorf("%w: the id is another file's", ErrInvalid)
	}
	if err != nil {
		return fmt.Errorf("begin file: %w", err)
	}
	return nil
}

// known is nil for a time that isn't.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

const (
	// Who waited here counts, in its next statement, what those before it stored.
	lockStorage = `select pg_advisory_xact_lock(hashtext('freehold.files'))`

	fileColumns = `f.id, f.state, f.purpose, f.name, f.bytes, f.sha256 as sum, f.api_key, f.created_at, f.expires_at`

	// Of uploads in progress the earlier ones count: else two that fit one by one would
	// both be refused.
	endFile = `
with room as materialized (
    select coalesce(sum(f.bytes), 0)::bigint as taken from freehold.files f
     where f.id <> $1 and (f.state <> 'uploading' or f.id < $1)
), ended as (
    update freehold.files f
       set state = 'processed', purpose = $2, name = $3, bytes = $4, sha256 = $5, expires_at = $6
      from room r
     where f.id = $1 and f.state = 'uploading' and $4::bigint <= $7::bigint - r.taken
 returning ` + fileColumns + `
), audited as (
    insert into freehold.audit_log (id, at, actor, action, subject, request_id, detail)
    select $8, now(), $9, 'file.create', 'file-' || f.id::text, $10,
           json_build_object('purpose', f.purpose, 'bytes', f.bytes)
      from ended f where $11
)
select f.id, f.state, f.purpose, f.name, f.bytes, f.sum, f.api_key, f.created_at, f.expires_at from ended f
union all
select ` + fileColumns + ` from freehold.files f where f.id = $1 and f.state = 'processed' and f.sha256 = $5`

	stillUploading = `
select exists (select from freehold.files f where f.id = $1 and f.state = 'uploading')`
)

// EndFile makes an upload a file, with these Purpose, Name, Bytes, Sum and ExpiresAt,
// and returns it. Twice is once. ErrStorageFull when all of the tenant's files, with
// the earlier uploads whose size is known, would have more than limit bytes: exact,
// however many end at a time. ErrNotFound when there is no such upload (any more),
// ErrFenced, ErrInvalid.
func (db *DB) EndFile(ctx context.Context, who Actor, f File, limit int64) (File, error) {
	var list []File
	var uploading bool
	b := db.fenced()
	b.Queue(lockStorage)
	b.Queue(endFile, f.ID, f.Purpose, f.Name, f.Bytes, f.Sum, f.ExpiresAt, limit, newID(), who.Actor, who.RequestID, who.Audit).
		Query(collectInto(&list))
	b.Queue(stillUploading, f.ID).QueryRow(func(row pgx.Row) error { return row.Scan(&uploading) })
	err := db.send(ctx, b)
	switch {
	case err != nil:
	case len(list) > 0:
		return list[0], nil
	case uploading:
		err = ErrStorageFull
	default:
		err = ErrNotFound
	}
	return File{}, fmt.Errorf("end file: %w", err)
}

// newID is a uuid v7, greater than all that this process has made before.
func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// collectInto reads a statement's rows; a batch may be sent twice.
func collectInto[T any](list *[]T) func(pgx.Rows) error {
	return func(rows pgx.Rows) (err error) {
		*list, err = pgx.CollectRows(rows, pgx.RowToStructByName[T])
		return err
	}
}

const deleteFile = `
delete from freehold.files f where f.id = $1 and f.state <> 'processed'`

// DropFile forgets a file whose object is gone, or never was: one that was on its way
// or is being deleted. Twice is once. ErrFenced.
func (db *DB) DropFile(ctx context.Context, id uuid.UUID) error {
	b := db.fenced()
	b.Queue(deleteFile, id)
	if err := db.send(ctx, b); err != nil {
		return fmt.Errorf("drop file: %w", err)
	}
	return nil
}

const sumFiles = `
select coalesce(sum(f.bytes), 0)::bigint from freehold.files f`

// StoredBytes is what all files have together, those on their way and those that are
// being deleted too. ErrFenced.
func (db *DB) StoredBytes(ctx context.Context) (n int64, err error) {
	b := db.fenced()
	b.Queue(sumFiles).QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
	if err := db.send(ctx, b); err != nil {
		return 0, fmt.Errorf("sum up files: %w", err)
	}
	return n, nil
}

const selectFile = `
select ` + fileColumns + ` from freehold.files f
 where f.id = $1 and f.state = 'processed' and (f.expires_at is null or f.expires_at > now())`

// FileByID reads one that can be used: ErrNotFound for those on their way, expired or
// being deleted. ErrFenced.
func (db *DB) FileByID(ctx context.Context, id uuid.UUID) (File, error) {
	var list []File
	b := db.fenced()
	b.Queue(selectFile, id).Query(collectInto(&list))
	err := db.send(ctx, b)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return File{}, fmt.Errorf("read file: %w", err)
	}
	return list[0], nil
}

// FileFilter says which files to list.
type FileFilter struct {
	Purpose   string    // empty: any
	After     uuid.UUID // those behind it, in the order of the list; zero: from the beginning
	Ascending bool      // oldest first
	Limit     int       // at least 1
}

const (
	listFiles = `
select ` + fileColumns + ` from freehold.files f
 where f.state = 'processed' and (f.expires_at is null or f.expires_at > now())
   and ($1::text = '' or f.purpose = $1)`

	listFilesDown = listFiles + ` and f.id < $2 order by f.id desc limit $3`
	listFilesUp   = listFiles + ` and f.id > $2 order by f.id limit $3`
)

// Files lists those that can be used, newest first unless asked otherwise. ErrFenced.
func (db *DB) Files(ctx context.Context, want FileFilter) (list []File, err error) {
	sql, after := listFilesUp, want.After
	if !want.Ascending {
		if sql = listFilesDown; after == uuid.Nil {
			after = uuid.Max
		}
	}
	b := db.fenced()
	b.Queue(sql, want.Purpose, after, max(want.Limit, 1)).Query(collectInto(&list))
	if err := db.send(ctx, b); err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	return list, nil
}

const (
	// A job that is being made holds the files that it needs, and one of the two waits
	// here for the other.
	lockFile = `
select f.id from freehold.files f where f.id = $1 for update`

	removeFile = `
with found as materialized (
    select f.id, exists (select from freehold.fine_tuning_jobs j
                          where j.finished_at is null and (j.training_file = f.id or j.validation_file = f.id)) as used
      from freehold.files f
     where f.id = $1 and f.state = 'processed' and ($2 or f.expires_at is null or f.expires_at > now())
), removed as (
    update freehold.files f set state = 'deleting' from found x where f.id = x.id and not x.used
 returning f.id, f.purpose
), audited as (
    insert into freehold.audit_log (id, at, actor, action, subject, request_id, detail)
    select $3, now(), $4, 'file.delete', 'file-' || r.id::text, $5, json_build_object('purpose', r.purpose)
      from removed r where $6
)
select x.used from found x`
)

// RemoveFile marks a file as being deleted: nobody sees it any more, and its object
// can go, and then its row (DropFile). The system may remove one that has expired;
// for others that isn't there. ErrInUse while an unfinished job needs it, ErrNotFound,
// ErrFenced.
func (db *DB) RemoveFile(ctx context.Context, who Actor, id uuid.UUID) error {
	var found []bool
	b := db.fenced()
	b.Queue(lockFile, id)
	b.Queue(removeFile, id, who.Actor == ActorSystem, newID(), who.Actor, who.RequestID, who.Audit).
		Query(func(rows pgx.Rows) (err error) {
			found, err = pgx.CollectRows(rows, pgx.RowTo[bool])
			return err
		})
	err := db.send(ctx, b)
	switch {
	case err != nil:
	case len(found) == 0:
		err = ErrNotFound
	case found[0]:
		err = ErrInUse
	}
	if err != nil {
		return fmt.Errorf("remove file: %w", err)
	}
	return nil
}

// object is text, or an empty JSON object.
func object(text json.RawMessage) json.RawMessage {
	if len(text) == 0 {
		return json.RawMessage(`{}`)
	}
	return text
}
