package tenantdb

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// States of a fine-tuning job, OpenAI's.
const (
	JobValidating = "validating_files"
	JobQueued     = "queued"
	JobRunning    = "running"
	JobSucceeded  = "succeeded"
	JobFailed     = "failed"
	JobCancelled  = "cancelled"
)

// Job is a fine-tuning job.
type Job struct {
	ID       uuid.UUID // v7; also the work's in the catalog
	State    string
	Base     string // the platform's model, by its name
	Trainer  string
	Model    string // what it makes is called
	Suffix   string
	Seed     int64
	Method   json.RawMessage // as it was asked for
	Metadata map[string]string

	TrainingFile               uuid.UUID
	ValidationFile, ResultFile *uuid.UUID
	TrainedTokens              *int64

	// Why it failed.
	ErrorCode, ErrorMessage, ErrorParam string

	Token    int64  // of the worker whose work it is; who has a lower one records nothing
	Upstream string // the job's id at another server

	APIKey, RequestID string
	IdempotencyKey    string
	RequestHash       []byte

	CreatedAt                          time.Time
	StartedAt, FinishedAt, EstimatedAt *time.Time
}

// Ended says that nothing will change any more.
func (j *Job) Ended() bool { return j.FinishedAt != nil }

const (
	jobColumns = `j.id, j.state, j.base, j.trainer, j.model, j.suffix, j.seed, j.method, j.metadata,
       j.training_file, j.validation_file, j.result_file, j.trained_tokens, j.error_code, j.error_message, j.error_param,
       j.token, j.upstream, j.api_key, j.request_id, j.idempotency_key, j.request_hash,
       j.created_at, j.started_at, j.finished_at, j.estimated_at`

	// Who asks for the same twice, at once, finds in its next statement what it made.
	lockJobs = `select pg_advisory_xact_lock(hashtext('freehold.fine_tuning_jobs'))`

	freeJobKey = `
update freehold.fine_tuning_jobs j set idempotency_key = ''
 where j.api_key = $1 and j.idempotency_key = $2 and j.idempotency_key <> '' and j.created_at < now() - interval '1 day'`

	usable = `f.state = 'processed' and f.purpose = 'fine-tune' and (f.expires_at is null or f.expires_at > now())`

	// Who would remove one of them waits for the job to be there, or the job finds it
	// removed.
	lockTrainingFiles = `
select f.id from freehold.files f where f.id = any($1::uuid[]) and ` + usable + ` order by f.id for share`

	// A job that came to nothing is asked for again on purpose.
	insertJob = `
with earlier as materialized (
    select j.id from freehold.fine_tuning_jobs j
     where j.api_key = $1 and j.idempotency_key = $2 and j.idempotency_key <> '' and j.created_at >= now() - interval '1 day'
    union all
    (select j.id from freehold.fine_tuning_jobs j
      where $2 = '' and $4::interval > interval '0' and j.api_key = $1 and j.request_hash = $3
        and j.idempotency_key = '' and j.created_at > now() - $4::interval and j.state not in ('failed', 'cancelled')
      order by j.created_at desc limit 1)
), made as (
    insert into freehold.fine_tuning_jobs as j (api_key, idempotency_key, request_hash, id, base, trainer, model, suffix,
           seed, method, metadata, training_file, validation_file, request_id)
    select $1, $2, $3, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15
     where not exists (select from earlier)
       and cardinality($16::uuid[]) = (select count(*) from freehold.files f where f.id = any($16::uuid[]) and ` + usable + `)
 returning ` + jobColumns + `
), told as (
    insert into freehold.fine_tuning_events (id, job, level, message)
    select $17, j.id, 'info', 'Created fine-tuning job: ftjob-' || j.id::text from made j
), audited as (
    insert into freehold.audit_log (id, at, actor, action, subject, request_id, detail)
    select $18, now(), $19, 'fine_tuning.create', 'ftjob-' || j.id::text, $20,
           json_build_object('base', j.base, 'model', j.model)
      from made j where $21
)
select ` + jobColumns + `, true as made from made j
union all
select ` + jobColumns + `, false as made from freehold.fine_tuning_jobs j where j.id in (select e.id from earlier e)`
)

// CreateJob writes a job with its first event. ID, Base, Trainer, Model, Suffix, Seed,
// Method, Metadata, the files, APIKey, RequestID, IdempotencyKey and RequestHash are
// the caller's. It returns the earlier job, and false, when the API key's
// Idempotency-Key was this request's within a day, or when there is none and the API
// key asked the same (by the hash) less than within ago and that job hasn't failed.
// *MissingFile, ErrMismatch, ErrFenced, ErrInvalid.
func (db *DB) CreateJob(ctx context.Context, who Actor, j Job, within time.Duration) (Job, bool, error) {
	job, made, err := db.createJob(ctx, who, j, within)
	if err != nil {
		return Job{}, false, fmt.Errorf("create fine-tuning job: %w", err)
	}
	return job, made, nil
}

func (db *DB) createJob(ctx context.Context, who Actor, j Job, within time.Duration) (_ Job, made bool, err error) {
	if j.ID.Version() != 7 {
		return Job{}, false, fmt.Errorf("%w: the id isn't a uuid v7", ErrInvalid)
	}
	files := []uuid.UUID{j.TrainingFile}
	if v := j.ValidationFile; v != nil && *v != j.TrainingFile {
		files = append(files, *v)
	}
	metadata, err := jsonOf(j.Metadata)
	if err != nil {
		return Job{}, false, err
	}
	var there []uuid.UUID
	var list []struct {
		Job
		Made bool
	}
	b := db.fenced()
	b.Queue(lockJobs)
	if j.IdempotencyKey != "" {
		b.Queue(freeJobKey, j.APIKey, j.IdempotencyKey)
	}
	b.Queue(lockTrainingFiles, files).Query(func(rows pgx.Rows) (err error) {
		there, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		return err
	})
	b.Queue(insertJob, j.APIKey, j.IdempotencyKey, j.RequestHash, within, j.ID, j.Base, j.Trainer, j.Model, j.Suffix,
		j.Seed, object(j.Method), metadata, j.TrainingFile, j.ValidationFile, j.RequestID, files,
		newID(), newID(), who.Actor, who.RequestID, who.Audit).
		Query(collectInto(&list))
	switch err := db.send(ctx, b); {
	case err != nil:
		return Job{}, false, err
	case len(list) > 0 && !list[0].Made && j.IdempotencyKey != "" && !bytes.Equal(list[0].RequestHash, j.RequestHash):
		return Job{}, false, ErrMismatch
	case len(list) > 0:
		return list[0].Job, list[0].Made, nil
	case !slices.Contains(there, j.TrainingFile):
		return Job{}, false, &MissingFile{Param: "training_file"}
	}
	return Job{}, false, &MissingFile{Param: "validation_file"}
}

// jsonOf is a map as a JSON object.
func jsonOf(m map[string]string) (json.RawMessage, error) {
	if len(m) == 0 {
		return json.RawMessage(`{}`), nil
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%w: metadata", ErrInvalid)
	}
	return text, nil
}

const selectJob = `
select ` + jobColumns + ` from freehold.fine_tuning_jobs j where j.id = $1`

// Job reads one. ErrNotFound, ErrFenced.
func (db *DB) Job(ctx context.Context, id uuid.UUID) (Job, error) {
	var list []Job
	b := db.fenced()
	b.Queue(selectJob, id).Query(collectInto(&list))
	err := db.send(ctx, b)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Job{}, fmt.Errorf("read fine-tuning job: %w", err)
	}
	return list[0], nil
}

// JobFilter says which jobs to list.
type JobFilter struct {
	After    uuid.UUID         // those before it; zero: from the newest
	Limit    int               // at least 1
	Metadata map[string]string // all of which a job has
}

const listJobs = `
select ` + jobColumns + ` from freehold.fine_tuning_jobs j
 where j.id < $1 and j.metadata @> $2::jsonb order by j.id desc limit $3`

// Jobs lists newest first. ErrFenced.
func (db *DB) Jobs(ctx context.Context, want JobFilter) (list []Job, err error) {
	after := want.After
	if after == uuid.Nil {
		after = uuid.Max
	}
	metadata, err := jsonOf(want.Metadata)
	if err == nil {
		b := db.fenced()
		b.Queue(listJobs, after, metadata, max(want.Limit, 1)).Query(collectInto(&list))
		err = db.send(ctx, b)
	}
	if err != nil {
		return nil, fmt.Errorf("list fine-tuning jobs: %w", err)
	}
	return list, nil
}

const cancelJob = `
with ended as (
    update freehold.fine_tuning_jobs j set state = 'cancelled', finished_at = now()
     where j.id = $1 and j.finished_at is null returning j.id, j.base, j.model
), told as (
    insert into freehold.fine_tuning_events (id, job, level, message)
    select $2, e.id, 'info', 'The job was cancelled' from ended e
), audited as (
    insert into freehold.audit_log (id, at, actor, action, subject, request_id, detail)
    select $3, now(), $4, 'fine_tuning.cancel', 'ftjob-' || e.id::text, $5, json_build_object('base', e.base, 'model', e.model)
      from ended e where $6
)
select e.id from ended e`

// CancelJob ends a job that hasn't: no worker records anything of it any more.
// *JobEnded when it had ended, however; ErrNotFound, ErrFenced.
func (db *DB) CancelJob(ctx context.Context, who Actor, id uuid.UUID) (Job, error) {
	var ended []uuid.UUID
	var list []Job
	b := db.fenced()
	b.Queue(cancelJob, id, newID(), newID(), who.Actor, who.RequestID, who.Audit).Query(func(rows pgx.Rows) (err error) {
		ended, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		return err
	})
	b.Queue(selectJob, id).Query(collectInto(&list)) // a statement of its own sees who was quicker
	err := db.send(ctx, b)
	switch {
	case err != nil:
	case len(list) == 0:
		err = ErrNotFound
	case len(ended) == 0:
		err = &JobEnded{Job: list[0]}
	default:
		return list[0], nil
	}
	return Job{}, fmt.Errorf("cancel fine-tuning job: %w", err)
}
