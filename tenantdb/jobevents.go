package tenantdb

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Kinds of events.
const (
	EventMessage = "message"
	EventMetrics = "metrics"
)

// JobEvent is a line of a job's diary.
type JobEvent struct {
	ID        uuid.UUID // v7; zero: the next of this process
	Level     string    // info (when empty), warn or error
	Kind      string    // message (when empty) or metrics
	Message   string
	Data      json.RawMessage // nil: none
	CreatedAt time.Time       // zero: now
}

// JobCheckpoint is a state that a model could be made of.
type JobCheckpoint struct {
	ID        uuid.UUID // v7; zero: the next of this process
	Step      int64
	Metrics   json.RawMessage
	CreatedAt time.Time // zero: now
}

const (
	jobExists = `select exists (select from freehold.fine_tuning_jobs j where j.id = $1)`

	listEvents = `
select e.id, e.level, e.kind, e.message, e.data, e.created_at from freehold.fine_tuning_events e
 where e.job = $1 and e.id < $2 order by e.id desc limit $3`

	listCheckpoints = `
select c.id, c.step, c.metrics, c.created_at from freehold.fine_tuning_checkpoints c
 where c.job = $1 and c.id < $2 order by c.id desc limit $3`
)

// JobEvents lists newest first, at most limit (at least one), those before `after`
// when it is not zero. ErrNotFound when there is no such job, ErrFenced.
func (db *DB) JobEvents(ctx context.Context, id, after uuid.UUID, limit int) (list []JobEvent, err error) {
	if err := db.ofJob(ctx, id, after, limit, listEvents, collectInto(&list)); err != nil {
		return nil, fmt.Errorf("list events of fine-tuning job: %w", err)
	}
	return list, nil
}

// JobCheckpoints lists newest first, at most limit (at least one), those before
// `after` when it is not zero. ErrNotFound when there is no such job, ErrFenced.
func (db *DB) JobCheckpoints(ctx context.Context, id, after uuid.UUID, limit int) (list []JobCheckpoint, err error) {
	if err := db.ofJob(ctx, id, after, limit, listCheckpoints, collectInto(&list)); err != nil {
		return nil, fmt.Errorf("list checkpoints of fine-tuning job: %w", err)
	}
	return list, nil
}

func (db *DB) ofJob(ctx context.Context, id, after uuid.UUID, limit int, sql string, read func(pgx.Rows) error) error {
	if after == uuid.Nil {
		after = uuid.Max
	}
	var there bool
	b := db.fenced()
	b.Queue(jobExists, id).QueryRow(func(row pgx.Row) error { return row.Scan(&there) })
	b.Queue(sql, id, after, max(limit, 1)).Query(read)
	err := db.send(ctx, b)
	if err == nil && !there {
		err = ErrNotFound
	}
	return err
}

const (
	// maxMetrics is how many events a job may have for metrics to be added, and
	// maxEvents for what its trainer says. How it ends is told in any case.
	maxMetrics = 10_000
	maxEvents  = 11_000
	noMaximum  = 1 << 30
	// maxCheckpoints is how many steps of a job have one.
	maxCheckpoints = 1_000

	// stillMine is the job while it is this worker's, in a transaction that has
	// locked it.
	stillMine = `freehold.fine_tuning_jobs j where j.id = $1 and j.token = $2 and j.finished_at is null`

	insertEvents = `
insert into freehold.fine_tuning_events (id, job, level, kind, message, data, created_at)
select e.id, $1, e.level, e.kind, e.message, e.data, coalesce(e.at, now())
  from unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::json[], $8::timestamptz[]) with ordinality
    as e (id, level, kind, message, data, at, n)
 cross join (select count(*) as n from freehold.fine_tuning_events x where x.job = $1) as had
 where exists (select from ` + stillMine + `)
   and had.n + e.n <= case e.kind when 'metrics' then $9::bigint else $10::bigint end
on conflict (id) do nothing`

	upsertCheckpoints = `
insert into freehold.fine_tuning_checkpoints (id, job, step, metrics, created_at)
select distinct on (c.step) c.id, $1::uuid, c.step, c.metrics, coalesce(c.at, now())
  from unnest($3::uuid[], $4::bigint[], $5::json[], $6::timestamptz[]) with ordinality as c (id, step, metrics, at, n)
 where exists (select from ` + stillMine + `)
   and c.n + (select count(*) from freehold.fine_tuning_checkpoints x where x.job = $1) <= $7::bigint
 order by c.step, c.n desc
on conflict (job, step) do update set metrics = excluded.metrics`
)

// queueEvents adds a job's events to a batch that has locked it.
func queueEvents(b *pgx.Batch, id uuid.UUID, token int64, events []JobEvent, metrics, most int) {
	if len(events) == 0 {
		return
	}
	n := len(events)
	ids, at := make([]uuid.UUID, n), make([]*time.Time, n)
	levels, kinds, messages, data := make([]string, n), make([]string, n), make([]string, n), make([]json.RawMessage, n)
	for i, e := range events {
		ids[i], at[i] = orNew(e.ID), known(e.CreatedAt)
		levels[i], kinds[i], data[i] = or(e.Level, "info"), or(e.Kind, EventMessage), e.Data
		// A trainer's words must not keep a job from being recorded.
		messages[i] = strings.ReplaceAll(strings.ToValidUTF8(e.Message, "\uFFFD"), "\x00", "")
	}
	b.Queue(insertEvents, id, token, ids, levels, kinds, messages, data, at, metrics, most)
}

func queueCheckpoints(b *pgx.Batch, id uuid.UUID, token int64, checkpoints []JobCheckpoint) {
	if len(checkpoints) == 0 {
		return
	}
	n := len(checkpoints)
	ids, at := make([]uuid.UUID, n), make([]*time.Time, n)
	steps, metrics := make([]int64, n), make([]json.RawMessage, n)
	for i, c := range checkpoints {
		ids[i], steps[i], metrics[i], at[i] = orNew(c.ID), c.Step, object(c.Metrics), known(c.CreatedAt)
	}
	b.Queue(upsertCheckpoints, id, token, ids, steps, metrics, at, maxCheckpoints)
}

func orNew(id uuid.UUID) uuid.UUID {
	if id == uuid.Nil {
		return newID()
	}
	return id
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
