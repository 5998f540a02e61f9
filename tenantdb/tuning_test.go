package tenantdb_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/tenantdb"
)

// TestTuning is files, jobs and models, one after the other in one tenant's database.
// What the API does is done as the tenant's role, and what workers do as the owner.
func TestTuning(t *testing.T) {
	t.Parallel()
	b := &tuning{bench: setup(t)}
	cfg, err := pgx.ParseConfig(b.at.OwnerURL)
	b.ok(err)
	cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe // as workers connect
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	b.ok(err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	b.worker = tenantdb.On(conn, 10)
	for _, part := range []struct {
		name string
		run  func(*tuning)
	}{
		{"files", (*tuning).files},
		{"storage limit", (*tuning).storageLimit},
		{"expiry", (*tuning).expiry},
		{"leftovers", (*tuning).leftovers},
		{"create job", (*tuning).createJob},
		{"asked again", (*tuning).askedAgain},
		{"asked at once", (*tuning).askedAtOnce},
		{"files in use", (*tuning).filesInUse},
		{"cancel", (*tuning).cancel},
		{"work", (*tuning).work},
		{"diary", (*tuning).diary},
		{"fail", (*tuning).fail},
		{"finish", (*tuning).finish},
		{"finish or cancel", (*tuning).finishOrCancel},
		{"privileges", (*tuning).privileges},
		{"fence", (*tuning).fences},
	} {
		t.Run(part.name, func(t *testing.T) { //nolint:paralleltest // they share one connection
			c := *b
			c.bench = &bench{TB: t, at: b.at, id: b.id, conn: b.conn, owner: b.owner, db: b.db}
			part.run(&c)
		})
	}
}

type tuning struct {
	*bench
	worker *tenantdb.DB
	many   []*tenantdb.DB // atOnce's
}

// alice is a key that does things, and is audited.
var alice = tenantdb.Actor{Actor: "key:alice", RequestID: "req_a", Audit: true}

// uploading is a file on its way.
func (b *tuning) uploading() tenantdb.File {
	b.Helper()
	f := tenantdb.File{ID: uuid.Must(uuid.NewV7()), Purpose: tenantdb.PurposeFineTune, Name: "train.jsonl", APIKey: "alice"}
	b.ok(b.db.BeginFile(b.Context(), f))
	return f
}

const noLimit = 1 << 60

// file is one that can be used.
func (b *tuning) file() tenantdb.File {
	b.Helper()
	f := b.uploading()
	f.Bytes, f.Sum = 100, bytes.Repeat([]byte{7}, 32)
	f, err := b.db.EndFile(b.Context(), alice, f, noLimit)
	b.ok(err)
	return f
}

// asked is a job as the API would create it, of a training file of its own.
func (b *tuning) asked() tenantdb.Job {
	b.Helper()
	id := uuid.Must(uuid.NewV7())
	return tenantdb.Job{
		ID: id, Base: "answer-1", Trainer: "builtin", Model: "ft:answer-1:acme::" + id.String()[28:], Seed: 7,
		Method: []byte(`{"type": "supervised"}`), TrainingFile: b.file().ID, APIKey: "alice", RequestID: "req_a",
		RequestHash: []byte(id.String()),
	}
}

func (b *tuning) job() tenantdb.Job {
	b.Helper()
	j, made, err := b.db.CreateJob(b.Context(), alice, b.asked(), 0)
	b.ok(err)
	if !made {
		b.Fatal("not made")
	}
	return j
}

// audit is what was told of a subject: actor, action, request and detail.
func (b *tuning) audit(subject string) []string {
	b.Helper()
	rows, err := b.owner.Query(b.Context(), `
		select a.actor || ' ' || a.action || ' ' || a.request_id || ' ' || a.detail::text
		  from freehold.audit_log a where a.subject = $1 order by a.id`, subject)
	b.ok(err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	b.ok(err)
	return list
}

func (b *tuning) told(subject string, want ...string) {
	b.Helper()
	if got := b.audit(subject); !slices.Equal(got, want) {
		b.Errorf("audit of %s:\n%s\nwant\n%s", subject, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (b *tuning) exec(sql string, args ...any) {
	b.Helper()
	_, err := b.owner.Exec(b.Context(), sql, args...)
	b.ok(err)
}

func (b *tuning) is(err, want error) {
	b.Helper()
	if !errors.Is(err, want) {
		b.Errorf("got %v, want %v", err, want)
	}
}

// refused is a statement that the tenant's role has no right to.
func (b *tuning) refused(sql string) {
	b.Helper()
	_, err := b.conn.Exec(b.Context(), sql)
	refused, ok := errors.AsType[*tenantdb.StateError](tenantdb.Translate(b.Context(), err))
	if !ok || refused.State != "42501" {
		b.Errorf("%s: %v", sql, err)
	}
}

// atOnce runs do on connections of the tenant's role, all at a time.
func (b *tuning) atOnce(n int, do func(db *tenantdb.DB, i int)) {
	b.Helper()
	for i := len(b.many); i < n; i++ {
		b.many = append(b.many, tenantdb.On(b.connect(b.at.TenantURL), 10))
	}
	begin := make(chan struct{})
	var all sync.WaitGroup
	for i, db := range b.many[:n] {
		all.Go(func() {
			<-begin
			do(db, i)
		})
	}
	close(begin)
	all.Wait()
}

func (b *tuning) privileges() {
	for _, sql := range []string{
		`insert into freehold.models (id, name, base, trainer) select id, 'ft:mine', 'b', 'builtin' from freehold.fine_tuning_jobs limit 1`,
		`update freehold.models set upstream = 'another tenant''s'`,
		`update freehold.models set artifact = 'models/other/'`,
		`insert into freehold.fine_tuning_checkpoints (id, job, step) select gen_random_uuid(), id, 99 from freehold.fine_tuning_jobs limit 1`,
		`update freehold.fine_tuning_events set message = 'never'`,
		`delete from freehold.fine_tuning_events`,
		`delete from freehold.fine_tuning_jobs`,
	} {
		b.refused(sql)
	}
}

// Nothing is read or written by who decided on an old truth.
func (b *tuning) fences() {
	ctx, id := b.Context(), uuid.Must(uuid.NewV7())
	b.fence(11)
	defer b.fence(10)
	var errs []error
	note := func(_ any, err error) { errs = append(errs, err) }
	f := tenantdb.File{ID: id, Purpose: tenantdb.PurposeUserData, Sum: make([]byte, 32)}
	errs = append(errs, b.db.BeginFile(ctx, f), b.db.DropFile(ctx, id), b.db.RemoveFile(ctx, alice, id), b.db.DropTunedModel(ctx, id))
	note(b.db.EndFile(ctx, alice, f, 1))
	note(b.db.StoredBytes(ctx))
	note(b.db.FileByID(ctx, id))
	note(b.db.Files(ctx, tenantdb.FileFilter{}))
	note(b.db.Job(ctx, id))
	note(b.db.Jobs(ctx, tenantdb.JobFilter{}))
	note(b.db.JobEvents(ctx, id, uuid.Nil, 1))
	note(b.db.JobCheckpoints(ctx, id, uuid.Nil, 1))
	note(b.db.CancelJob(ctx, alice, id))
	note(b.db.TunedModels(ctx))
	note(b.db.TunedModelByName(ctx, "ft:a"))
	note(b.db.RemoveTunedModel(ctx, alice, "ft:a"))
	_, _, err := b.db.CreateJob(ctx, alice, tenantdb.Job{ID: id, RequestHash: []byte("h")}, 0)
	errs = append(errs, err)
	note(b.worker.StaleFiles(ctx, time.Hour))
	note(b.worker.StaleTunedModels(ctx))
	note(b.worker.UnclearedJobs(ctx, time.Hour))
	note(b.worker.OpenJobs(ctx, time.Hour))
	note(b.worker.ClaimJob(ctx, id, 1))
	errs = append(errs, b.worker.ClearedJob(ctx, id), b.worker.AdvanceJob(ctx, id, 1, tenantdb.JobRunning, nil),
		b.worker.AddJobEvents(ctx, id, 1, nil, nil), b.worker.SetJobUpstream(ctx, id, 1, "u"),
		b.worker.FailJob(ctx, alice, id, 1, "c", "m", "p", nil), b.worker.FinishJob(ctx, alice, id, 1, tenantdb.Finish{}))
	for i, err := range errs {
		if !errors.Is(err, tenantdb.ErrFenced) {
			b.Errorf("call %d: %v", i, err)
		}
	}
}
