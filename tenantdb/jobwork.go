package tenantdb

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// What workers record of a job. Each takes the token that the worker has the work
// by, and records nothing with ErrLostJob when that isn't the job's (another worker
// has claimed it), or *JobEnded when the job has ended. ErrNotFound, ErrFenced.

// Whoever cancels the job or takes it over waits for this transaction, or this one
// finds what that did.
const lockJob = `
select j.token, j.finished_at is not null as ended from freehold.fine_tuning_jobs j where j.id = $1 for no key update`

// standing is how a job was found.
type standing struct {
	Token int64
	Ended bool
}

// record runs a batch's statements behind the job's lock. Those that write do so only
// while the job is this token's.
func (db *DB) record(ctx context.Context, verb string, id uuid.UUID, token int64, queue func(*pgx.Batch)) error {
	var found []standing
	var list []Job
	b := db.fenced()
	b.Queue(lockJob, id).Query(collectInto(&found))
	queue(b)
	b.Queue(selectJob, id).Query(collectInto(&list))
	err := db.send(ctx, b)
	switch {
	case err != nil:
	case len(found) == 0 || len(list) == 0:
		err = ErrNotFound
	case found[0].Ended:
		err = &JobEnded{Job: list[0]}
	case found[0].Token != token:
		err = ErrLostJob
	default:
		return nil
	}
	return fmt.Errorf("%s fine-tuning job: %w", verb, err)
}

const claimJob = `
update freehold.fine_tuning_jobs j set token = $2 where j.id = $1 and j.token <= $2 and j.finished_at is null`

// ClaimJob makes the job this token's, unless it is a higher one's, and returns it.
// Twice is once.
func (db *DB) ClaimJob(ctx context.Context, id uuid.UUID, token int64) (Job, error) {
	var found []standing
	var list []Job
	b := db.fenced()
	b.Queue(lockJob, id).Query(collectInto(&found))
	b.Queue(claimJob, id, token)
	b.Queue(selectJob, id).Query(collectInto(&list))
	err := db.send(ctx, b)
	switch {
	case err != nil:
	case len(found) == 0 || len(list) == 0:
		err = ErrNotFound
	case found[0].Ended:
		err = &JobEnded{Job: list[0]}
	case found[0].Token > token:
		err = ErrLostJob
	default:
		return list[0], nil
	}
	return Job{}, fmt.Errorf("claim fine-tuning job: %w", err)
}

const advanceJob = `
update freehold.fine_tuning_jobs j
   set state = $3, started_at = case when $3 = 'running' then coalesce(j.started_at, now()) else j.started_at end
 where j.id = $1 and j.token = $2 and j.finished_at is null`

// AdvanceJob brings a job to a state that is no end: JobValidating, JobQueued or
// JobRunning. ErrInvalid for others.
func (db *DB) AdvanceJob(ctx context.Context, id uuid.UUID, token int64, state string, events []JobEvent) error {
	switch state {
	case JobValidating, JobQueued, JobRunning:
	default:
		return fmt.Errorf("advance fine-tuning job: %w: the state %q", ErrInvalid, state)
	}
	return db.record(ctx, "advance", id, token, func(b *pgx.Batch) {
		queueEvents(b, id, token, events, noMaximum, noMaximum)
		b.Queue(advanceJob, id, token, state)
	})
}

// AddJobEvents adds to a job's diary. Metrics beyond its first 10,000 events are left
// out, messages beyond a thousand more, and checkpoints beyond a thousand; one of a
// step that there is replaces that one's metrics. An event's id again is nothing new.
func (db *DB) AddJobEvents(ctx context.Context, id uuid.UUID, token int64, events []JobEvent, checkpoints []JobCheckpoint) error {
	return db.record(ctx, "add events to", id, token, func(b *pgx.Batch) {
		queueEvents(b, id, token, events, maxMetrics, maxEvents)
		queueCheckpoints(b, id, token, checkpoints)
	})
}

const setUpstream = `
update freehold.fine_tuning_jobs j set upstream = $3 where j.id = $1 and j.token = $2 and j.finished_at is null`

// SetJobUpstream notes the job's id at another server.
func (db *DB) SetJobUpstream(ctx context.Context, id uuid.UUID, token int64, upstream string) error {
	return db.record(ctx, "note upstream of", id, token, func(b *pgx.Batch) {
		b.Queue(setUpstream, id, token, upstream)
	})
}

const (
	auditJob = `
insert into freehold.audit_log (id, at, actor, action, subject, request_id, detail)
select $3, now(), $4, $5, 'ftjob-' || j.id::text, coalesce(nullif($6, ''), j.request_id),
       json_strip_nulls(json_build_object('base', j.base, 'model', j.model, 'code', nullif($7, '')))
  from ` + stillMine

	failJob = `
update freehold.fine_tuning_jobs j
   set state = 'failed', error_code = $3, error_message = $4, error_param = $5, finished_at = now()
 where j.id = $1 and j.token = $2 and j.finished_at is null`
)

// FailJob ends a job that can't be done: why is for the tenant.
func (db *DB) FailJob(ctx context.Context, who Actor, id uuid.UUID, token int64, code, message, param string, events []JobEvent) error {
	message = strings.ReplaceAll(strings.ToValidUTF8(message, "\uFFFD"), "\x00", "")
	return db.record(ctx, "fail", id, token, func(b *pgx.Batch) {
		queueEvents(b, id, token, events, noMaximum, noMaximum)
		queueJobAudit(b, who, id, token, "fine_tuning.failed", code)
		b.Queue(failJob, id, token, code, message, param)
	})
}

func queueJobAudit(b *pgx.Batch, who Actor, id uuid.UUID, token int64, action, code string) {
	if who.Audit {
		b.Queue(auditJob, id, token, newID(), who.Actor, action, who.RequestID, code)
	}
}

// Finish is what a job that succeeded has made.
type Finish struct {
	// Model's Engine, Upstream, Artifact, Sum, Bytes and Card are taken; the rest is
	// the job's. Artifact is empty or lies under models/<job>/.
	Model TunedModel
	// Result, when there is one, is a file whose object is there: its ID, Name, Bytes
	// and Sum. Who began it with BeginFile leaves nothing behind when killed.
	Result        *File
	TrainedTokens int64
	Events        []JobEvent
}

const (
	insertModel = `
insert into freehold.models (id, name, base, trainer, engine, upstream, artifact, sha256, bytes, card)
select j.id, j.model, j.base, j.trainer, $3, $4, $5, $6, $7, $8 from ` + stillMine

	// One that a sweep has begun to delete stays away.
	insertResult = `
insert into freehold.files as f (id, state, purpose, name, bytes, sha256, api_key)
select $3, 'processed', 'fine-tune-results', $4, $5, $6, '' from ` + stillMine + `
on conflict (id) do update
   set state = 'processed', purpose = excluded.purpose, name = excluded.name, bytes = excluded.bytes, sha256 = excluded.sha256
 where f.state = 'uploading'`

	finishJob = `
update freehold.fine_tuning_jobs j
   set state = 'succeeded', finished_at = now(), trained_tokens = $3,
       result_file = (select f.id from freehold.files f where f.id = $4 and f.state = 'processed')
 where j.id = $1 and j.token = $2 and j.finished_at is null`
)

// FinishJob ends a job that has made a model: the model is there, its result file is,
// and the job has succeeded, all at once.
func (db *DB) FinishJob(ctx context.Context, who Actor, id uuid.UUID, token int64, f Finish) error {
	m := f.Model
	if m.Artifact != "" && !strings.HasPrefix(m.Artifact, ModelPrefix(id)) {
		return fmt.Errorf("finish fine-tuning job: %w: the artifact isn't under the job's prefix", ErrInvalid)
	}
	return db.record(ctx, "finish", id, token, func(b *pgx.Batch) {
		var result *uuid.UUID
		if r := f.Result; r != nil {
			result = &r.ID
			b.Queue(insertResult, id, token, r.ID, r.Name, r.Bytes, r.Sum)
		}
		b.Queue(insertModel, id, token, m.Engine, m.Upstream, m.Artifact, m.Sum, m.Bytes, object(m.Card))
		queueEvents(b, id, token, f.Events, noMaximum, noMaximum)
		queueJobAudit(b, who, id, token, "fine_tuning.succeeded", "")
		b.Queue(finishJob, id, token, f.TrainedTokens, result)
	})
}

// ModelPrefix is where the objects of a job lie, under the tenant's prefix: its
// model's artifact, its checkpoints and what is staged for it.
func ModelPrefix(job uuid.UUID) string { return "models/" + job.String() + "/" }

// FileKey is a file's object, under the tenant's prefix.
func FileKey(id uuid.UUID) string { return "files/" + id.String() }
