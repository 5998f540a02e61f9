package tenantdb

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// sweepPage is how much of each kind a sweep is told of at a time.
const sweepPage = 200

const (
	// From here on it can't become a file any more.
	giveUpUploads = `
update freehold.files f set state = 'deleting' where f.state = 'uploading' and f.created_at < now() - $1::interval`

	listStaleFiles = `
select ` + fileColumns + ` from freehold.files f where f.state = 'deleting'
union all
select ` + fileColumns + ` from freehold.files f
 where f.state = 'processed' and f.expires_at <= now()
   and not exists (select from freehold.fine_tuning_jobs j
                    where j.finished_at is null and (j.training_file = f.id or j.validation_file = f.id))
 limit $1`
)

// StaleFiles gives uploads up that began longer ago than olderThan, and lists what
// has to go, some at a time: files that are being deleted, those uploads among them,
// and files that have expired and that no unfinished job needs. ErrFenced.
func (db *DB) StaleFiles(ctx context.Context, olderThan time.Duration) (list []File, err error) {
	b := db.fenced()
	b.Queue(giveUpUploads, olderThan)
	b.Queue(listStaleFiles, sweepPage).Query(collectInto(&list))
	if err := db.send(ctx, b); err != nil {
		return nil, fmt.Errorf("list stale files: %w", err)
	}
	return list, nil
}

// EndedJob is a job that has ended, with what may be left of its work in the store.
type EndedJob struct {
	ID       uuid.UUID
	Made     bool   // a model, which is there still
	Artifact string // its, which stays; empty: it has none here
}

const listUnclearedJobs = `
select j.id, m.id is not null as made, coalesce(m.artifact, '') as artifact
  from freehold.fine_tuning_jobs j left join freehold.models m on m.id = j.id
 where not j.cleared and j.finished_at < now() - $1::interval order by j.finished_at limit $2`

// UnclearedJobs lists jobs that ended longer ago than that and weren't marked by
// ClearedJob, some at a time. ErrFenced.
func (db *DB) UnclearedJobs(ctx context.Context, ago time.Duration) (list []EndedJob, err error) {
	b := db.fenced()
	b.Queue(listUnclearedJobs, ago, sweepPage).Query(collectInto(&list))
	if err := db.send(ctx, b); err != nil {
		return nil, fmt.Errorf("list ended jobs: %w", err)
	}
	return list, nil
}

const clearJob = `
update freehold.fine_tuning_jobs j set cleared = true where j.id = $1 and j.finished_at is not null`

// ClearedJob marks an ended job of whose work nothing is left in the store but its
// model. ErrFenced.
func (db *DB) ClearedJob(ctx context.Context, id uuid.UUID) error {
	b := db.fenced()
	b.Queue(clearJob, id)
	if err := db.send(ctx, b); err != nil {
		return fmt.Errorf("mark ended job: %w", err)
	}
	return nil
}

// OpenJob is a job that hasn't ended.
type OpenJob struct {
	ID      uuid.UUID
	Trainer string
	Token   int64
}

const listOpenJobs = `
select j.id, j.trainer, j.token from freehold.fine_tuning_jobs j
 where j.finished_at is null and j.created_at < now() - $1::interval order by j.created_at`

// OpenJobs lists jobs that began longer ago than that and haven't ended. ErrFenced.
func (db *DB) OpenJobs(ctx context.Context, ago time.Duration) (list []OpenJob, err error) {
	b := db.fenced()
	b.Queue(listOpenJobs, ago).Query(collectInto(&list))
	if err := db.send(ctx, b); err != nil {
		return nil, fmt.Errorf("list open jobs: %w", err)
	}
	return list, nil
}
