package tenantdb_test

import (
	"errors"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"freehold/tenantdb"
)

func (b *tuning) createJob() {
	ctx := b.Context()
	for name, spoil := range map[string]func(*tenantdb.File){
		"on its way":    nil,
		"another's use": func(f *tenantdb.File) { f.Purpose = tenantdb.PurposeUserData },
		"expired":       func(f *tenantdb.File) { f.ExpiresAt = new(time.Unix(1, 0)) },
	} {
		f := b.uploading()
		if spoil != nil {
			f.Sum = make([]byte, 32)
			spoil(&f)
			_, err := b.db.EndFile(ctx, alice, f, noLimit)
			b.ok(err)
		}
		j := b.asked()
		j.ValidationFile = &f.ID
		b.missing(name, j, "validation_file")
		j.TrainingFile, j.ValidationFile = f.ID, nil
		b.missing(name, j, "training_file")
	}
	j := b.asked()
	j.TrainingFile = uuid.Must(uuid.NewV7())
	b.missing("not there", j, "training_file")
	j.ID = uuid.New()
	_, _, err := b.db.CreateJob(ctx, alice, j, 0)
	b.is(err, tenantdb.ErrInvalid)

	j = b.asked()
	j.Suffix, j.Metadata, j.ValidationFile = "support", map[string]string{"team": "a", "run": "1"}, &j.TrainingFile
	_, made, err := b.db.CreateJob(ctx, alice, j, 0)
	b.ok(err)
	got, err := b.db.Job(ctx, j.ID)
	b.ok(err)
	if !made || got.State != tenantdb.JobValidating || got.Base != j.Base || got.Trainer != j.Trainer || got.Model != j.Model ||
		got.Suffix != "support" || got.Seed != 7 || string(got.Method) != `{"type": "supervised"}` || !maps.Equal(got.Metadata, j.Metadata) ||
		got.TrainingFile != j.TrainingFile || got.ValidationFile == nil || *got.ValidationFile != j.TrainingFile || got.ResultFile != nil ||
		got.TrainedTokens != nil || got.Token != 0 || got.APIKey != "alice" || got.RequestID != "req_a" || string(got.RequestHash) != j.ID.String() ||
		time.Since(got.CreatedAt) > time.Minute || got.StartedAt != nil || got.Ended() {
		b.Errorf("%+v", got)
	}
	b.told("ftjob-"+j.ID.String(), `key:alice fine_tuning.create req_a {"base" : "answer-1", "model" : "`+j.Model+`"}`)
	events, err := b.db.JobEvents(ctx, j.ID, uuid.Nil, 10)
	b.ok(err)
	if len(events) != 1 || events[0].Level != "info" || events[0].Kind != tenantdb.EventMessage || !strings.HasSuffix(events[0].Message, "ftjob-"+j.ID.String()) ||
		events[0].ID.Version() != 7 || events[0].Data != nil {
		b.Errorf("events %+v", events)
	}

	// Lists.
	second, third := b.job(), b.job()
	for want, filter := range map[string]tenantdb.JobFilter{
		third.ID.String() + second.ID.String(): {Limit: 2},
		j.ID.String():                          {Limit: 1, After: second.ID, Metadata: map[string]string{"team": "a"}},
		"":                                     {Limit: 5, Metadata: map[string]string{"team": "a", "run": "2"}},
	} {
		list, err := b.db.Jobs(ctx, filter)
		b.ok(err)
		var ids string
		for _, j := range list {
			ids += j.ID.String()
		}
		if ids != want {
			b.Errorf("%+v: %s, want %s", filter, ids, want)
		}
	}
	nobody := uuid.Must(uuid.NewV7())
	_, err = b.db.Job(ctx, nobody)
	b.is(err, tenantdb.ErrNotFound)
	_, err = b.db.JobEvents(ctx, nobody, uuid.Nil, 1)
	b.is(err, tenantdb.ErrNotFound)
	_, err = b.db.JobCheckpoints(ctx, nobody, uuid.Nil, 1)
	b.is(err, tenantdb.ErrNotFound)
}

func (b *tuning) missing(name string, j tenantdb.Job, param string) {
	b.Helper()
	_, _, err := b.db.CreateJob(b.Context(), alice, j, time.Minute)
	missing, ok := errors.AsType[*tenantdb.MissingFile](err)
	if !ok || missing.Param != param {
		b.Errorf("%s: %v, want %s to be missing", name, err, param)
	}
	if _, err := b.db.Job(b.Context(), j.ID); !errors.Is(err, tenantdb.ErrNotFound) {
		b.Errorf("%s: the job is there: %v", name, err)
	}
}

// again asks for first's request once more, as a job of another id, and says whether
// that was made.
func (b *tuning) again(first tenantdb.Job, within time.Duration, change func(*tenantdb.Job)) (made bool, err error) {
	b.Helper()
	j := first
	j.ID = uuid.Must(uuid.NewV7())
	j.Model += j.ID.String()
	if change != nil {
		change(&j)
	}
	got, made, err := b.db.CreateJob(b.Context(), alice, j, within)
	_, aerr := b.db.AskedJob(b.Context(), j, within)
	if err == nil && !made && (got.ID != first.ID || aerr != nil) {
		b.Errorf("answered with %s, want %s; asked: %v", got.ID, first.ID, aerr)
	}
	if errors.Is(err, tenantdb.ErrMismatch) != errors.Is(aerr, tenantdb.ErrMismatch) {
		b.Errorf("%v, but asked: %v", err, aerr)
	}
	return made, err
}

func (b *tuning) askedAgain() {
	first := b.asked()
	first.IdempotencyKey = "k1"
	_, made, err := b.db.CreateJob(b.Context(), alice, first, 0)
	b.ok(err)
	expect := func(what string, wantMade bool, wantErr error, gotMade bool, err error) {
		b.Helper()
		if gotMade != wantMade || !errors.Is(err, wantErr) {
			b.Errorf("%s: made %t, %v", what, gotMade, err)
		}
	}
	expect("the first", true, nil, made, err)
	b.exec("update freehold.files set state = 'deleting' where id = $1", first.TrainingFile)
	made, err = b.again(first, 0, nil)
	expect("the same, its file gone", false, nil, made, err)
	b.exec("update freehold.files set state = 'processed' where id = $1", first.TrainingFile)
	made, err = b.again(first, 0, func(j *tenantdb.Job) { j.RequestHash = []byte("another") })
	expect("another request", false, tenantdb.ErrMismatch, made, err)
	made, err = b.again(first, 0, func(j *tenantdb.Job) { j.APIKey = "bob" })
	expect("somebody else's", true, nil, made, err)
	b.exec("update freehold.fine_tuning_jobs set created_at = now() - interval '25 hours' where id = $1", first.ID)
	made, err = b.again(first, 0, nil)
	expect("a day later", true, nil, made, err)

	// Without a key: a client's library that tries once more.
	first = b.job()
	made, err = b.again(first, 0, nil)
	expect("asked on purpose", true, nil, made, err)
	first = b.job()
	made, err = b.again(first, time.Minute, nil)
	expect("tried once more", false, nil, made, err)
	made, err = b.again(first, time.Minute, func(j *tenantdb.Job) { j.APIKey = "bob" })
	expect("by somebody else", true, nil, made, err)
	_, err = b.db.CancelJob(b.Context(), alice, first.ID)
	b.ok(err)
	made, err = b.again(first, time.Minute, nil)
	expect("after it was cancelled", true, nil, made, err)
	first = b.job()
	b.exec("update freehold.fine_tuning_jobs set created_at = now() - interval '2 minutes' where id = $1", first.ID)
	made, err = b.again(first, time.Minute, nil)
	expect("a while later", true, nil, made, err)
}

func (b *tuning) askedAtOnce() {
	ctx := b.Context()
	for _, key := range []string{"k2", "", "k3", "", "k4", ""} {
		asked := b.asked()
		asked.IdempotencyKey = key
		var made atomic.Int64
		b.atOnce(4, func(db *tenantdb.DB, i int) {
			j := asked
			j.ID = uuid.Must(uuid.NewV7())
			j.Model += j.ID.String()
			_, created, err := db.CreateJob(ctx, alice, j, time.Minute)
			if err != nil {
				b.Error(err)
			} else if created {
				made.Add(1)
			}
		})
		if made.Load() != 1 {
			b.Errorf("key %q: %d were made", key, made.Load())
		}
	}
}

func (b *tuning) filesInUse() {
	ctx := b.Context()
	j := b.asked()
	validation := b.file().ID
	j.ValidationFile = &validation
	_, _, err := b.db.CreateJob(ctx, alice, j, 0)
	b.ok(err)
	for _, id := range []uuid.UUID{j.TrainingFile, validation} {
		b.is(b.db.RemoveFile(ctx, alice, id), tenantdb.ErrInUse)
	}
	_, err = b.db.CancelJob(ctx, alice, j.ID)
	b.ok(err)
	for _, id := range []uuid.UUID{j.TrainingFile, validation} {
		b.ok(b.db.RemoveFile(ctx, alice, id))
	}
	// Of a job and a removal at once, one comes too late.
	for range 15 {
		j := b.asked()
		var created, removed error
		b.atOnce(2, func(db *tenantdb.DB, i int) {
			if i == 0 {
				_, _, created = db.CreateJob(ctx, alice, j, 0)
			} else {
				removed = db.RemoveFile(ctx, alice, j.TrainingFile)
			}
		})
		if created == nil {
			b.is(removed, tenantdb.ErrInUse)
		} else if missing, ok := errors.AsType[*tenantdb.MissingFile](created); !ok || missing.Param != "training_file" || removed != nil {
			b.Errorf("created: %v, removed: %v", created, removed)
		}
	}
}

func (b *tuning) cancel() {
	ctx := b.Context()
	j := b.job()
	got, err := b.db.CancelJob(ctx, alice, j.ID)
	b.ok(err)
	if got.State != tenantdb.JobCancelled || !got.Ended() || got.Model != j.Model {
		b.Errorf("%+v", got)
	}
	_, err = b.db.CancelJob(ctx, alice, j.ID)
	b.is(err, tenantdb.ErrEndedJob)
	if ended, ok := errors.AsType[*tenantdb.JobEnded](err); !ok || ended.Job.ID != j.ID || ended.Job.State != tenantdb.JobCancelled {
		b.Errorf("%v", err)
	}
	_, err = b.db.CancelJob(ctx, alice, uuid.Must(uuid.NewV7()))
	b.is(err, tenantdb.ErrNotFound)
	names := `{"base" : "answer-1", "model" : "` + j.Model + `"}`
	b.told("ftjob-"+j.ID.String(), "key:alice fine_tuning.create req_a "+names, "key:alice fine_tuning.cancel req_a "+names)
	if events, err := b.db.JobEvents(ctx, j.ID, uuid.Nil, 10); err != nil || len(events) != 2 || events[0].Message != "The job was cancelled" {
		b.Errorf("events %+v, %v", events, err)
	}
}
