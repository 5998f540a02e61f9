package tenantdb_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"freehold/tenantdb"
)

var platform = tenantdb.Actor{Actor: tenantdb.ActorSystem, Audit: true}

// recordings are all that a worker can record of a job.
func (b *tuning) recordings(id uuid.UUID, token int64) map[string]error {
	ctx := b.Context()
	_, claimed := b.worker.ClaimJob(ctx, id, token)
	say := []tenantdb.JobEvent{{Message: "not to be seen"}}
	return map[string]error{
		"claim": claimed, "advance": b.worker.AdvanceJob(ctx, id, token, tenantdb.JobRunning, say),
		"events":   b.worker.AddJobEvents(ctx, id, token, say, []tenantdb.JobCheckpoint{{Step: 1}}),
		"upstream": b.worker.SetJobUpstream(ctx, id, token, "not to be seen"),
		"fail":     b.worker.FailJob(ctx, platform, id, token, "c", "m", "p", say),
		"finish": b.worker.FinishJob(ctx, platform, id, token, tenantdb.Finish{
			Events: say, Result: &tenantdb.File{ID: uuid.Must(uuid.NewV7()), Sum: make([]byte, 32)},
		}),
	}
}

// nothing of them is recorded, all of them end with want.
func (b *tuning) nothing(id uuid.UUID, token int64, want error) {
	b.Helper()
	state := func() (s string) {
		b.ok(b.owner.QueryRow(b.Context(), `
			select (select count(*) from freehold.files) || ' ' || (select count(*) from freehold.models) || ' ' ||
			       (select count(*) from freehold.fine_tuning_events) || ' ' || (select count(*) from freehold.fine_tuning_checkpoints) || ' ' ||
			       (select count(*) from freehold.audit_log) || coalesce((select j::text from freehold.fine_tuning_jobs j where j.id = $1), '')`, id).Scan(&s))
		return s
	}
	before := state()
	for name, err := range b.recordings(id, token) {
		if !errors.Is(err, want) {
			b.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if after := state(); after != before {
		b.Errorf("before %s\nafter  %s", before, after)
	}
}

func (b *tuning) work() {
	ctx := b.Context()
	b.nothing(uuid.Must(uuid.NewV7()), 1, tenantdb.ErrNotFound)
	j := b.job()
	for _, token := range []int64{3, 3, 5} { // its answer was lost; another worker's turn
		got, err := b.worker.ClaimJob(ctx, j.ID, token)
		b.ok(err)
		if got.ID != j.ID || got.Token != token {
			b.Errorf("%+v", got)
		}
	}
	b.nothing(j.ID, 4, tenantdb.ErrLostJob)

	b.ok(b.worker.AdvanceJob(ctx, j.ID, 5, tenantdb.JobQueued, []tenantdb.JobEvent{{Message: "Queued"}}))
	for range 2 {
		b.ok(b.worker.AdvanceJob(ctx, j.ID, 5, tenantdb.JobRunning, nil))
		b.ok(b.worker.SetJobUpstream(ctx, j.ID, 5, "ftjob-elsewhere"))
	}
	b.is(b.worker.AdvanceJob(ctx, j.ID, 5, tenantdb.JobSucceeded, nil), tenantdb.ErrInvalid)
	running, err := b.db.Job(ctx, j.ID)
	b.ok(err)
	if running.State != tenantdb.JobRunning || running.StartedAt == nil || running.Upstream != "ftjob-elsewhere" {
		b.Errorf("%+v", running)
	}
	b.ok(b.worker.AdvanceJob(ctx, j.ID, 5, tenantdb.JobQueued, nil))
	b.ok(b.worker.AdvanceJob(ctx, j.ID, 5, tenantdb.JobRunning, nil))
	if again, err := b.db.Job(ctx, j.ID); err != nil || !again.StartedAt.Equal(*running.StartedAt) {
		b.Errorf("it started twice: %+v, %v", again, err)
	}
	_, err = b.db.CancelJob(ctx, alice, j.ID)
	b.ok(err)
	b.nothing(j.ID, 5, tenantdb.ErrEndedJob)
	b.nothing(j.ID, 6, tenantdb.ErrEndedJob)
}

func (b *tuning) claimed() tenantdb.Job {
	b.Helper()
	j, err := b.worker.ClaimJob(b.Context(), b.job().ID, 1)
	b.ok(err)
	return j
}

func (b *tuning) diary() {
	ctx := b.Context()
	j := b.claimed()
	var events []tenantdb.JobEvent
	for i := range 5 {
		events = append(events, tenantdb.JobEvent{Message: fmt.Sprint("line ", i)})
	}
	events[1].Level, events[2].Kind, events[2].Data = "warn", tenantdb.EventMetrics, []byte(`{"step":  1}`)
	events[4].Message = "a\x00b\xff"
	b.ok(b.worker.AddJobEvents(ctx, j.ID, 1, events[:3], nil))
	events[3].ID = uuid.Must(uuid.NewV7())
	for range 2 { // its answer was lost
		b.ok(b.worker.AddJobEvents(ctx, j.ID, 1, events[3:4], nil))
	}
	b.ok(b.worker.AddJobEvents(ctx, j.ID, 1, events[4:], nil))
	var got []tenantdb.JobEvent
	for after := uuid.Nil; ; after = got[len(got)-1].ID {
		page, err := b.db.JobEvents(ctx, j.ID, after, 4)
		b.ok(err)
		if len(page) == 0 {
			break
		}
		got = append(got, page...)
	}
	if len(got) != 6 {
		b.Fatalf("%+v", got)
	}
	for i, want := range []string{"ab\uFFFD", "line 3", "line 2", "line 1", "line 0"} {
		if got[i].Message != want {
			b.Errorf("position %d holds %+v, want %q", i, got[i], want)
		}
	}
	if got[3].Level != "warn" || got[2].Kind != tenantdb.EventMetrics || string(got[2].Data) != `{"step":  1}` || got[4].Level != "info" {
		b.Errorf("%+v", got)
	}
	b.is(b.worker.AddJobEvents(ctx, j.ID, 1, []tenantdb.JobEvent{{Level: "loud"}}, nil), tenantdb.ErrInvalid)

	// One of a step that there is replaces it, also in one call.
	b.ok(b.worker.AddJobEvents(ctx, j.ID, 1, nil, []tenantdb.JobCheckpoint{{Step: 1, Metrics: []byte(`{"train_loss":3}`)}, {Step: 2}}))
	was, err := b.db.JobCheckpoints(ctx, j.ID, uuid.Nil, 10)
	b.ok(err)
	b.ok(b.worker.AddJobEvents(ctx, j.ID, 1, nil, []tenantdb.JobCheckpoint{{Step: 1, Metrics: []byte(`{"train_loss":2}`)}, {Step: 1, Metrics: []byte(`{"train_loss":1}`)}}))
	list, err := b.db.JobCheckpoints(ctx, j.ID, uuid.Nil, 10)
	b.ok(err)
	if len(list) != 2 || list[0].Step != 2 || list[1].Step != 1 || string(list[1].Metrics) != `{"train_loss":1}` || list[1].ID != was[1].ID {
		b.Errorf("%+v", list)
	}
	if list, err = b.db.JobCheckpoints(ctx, j.ID, list[0].ID, 10); err != nil || len(list) != 1 || list[0].Step != 1 {
		b.Errorf("the second page: %+v, %v", list, err)
	}

	// A trainer that says too much is not recorded, how the job ends is.
	b.exec(`insert into freehold.fine_tuning_events (id, job, level, message) select gen_random_uuid(), $1, 'info', 'm' from generate_series(7, 9999)`, j.ID)
	count := func(want int) {
		b.Helper()
		var n int
		b.ok(b.owner.QueryRow(ctx, `select count(*)::int from freehold.fine_tuning_events where job = $1`, j.ID).Scan(&n))
		if n != want {
			b.Errorf("%d events, want %d", n, want)
		}
	}
	metrics := tenantdb.JobEvent{Kind: tenantdb.EventMetrics}
	b.ok(b.worker.AddJobEvents(ctx, j.ID, 1, []tenantdb.JobEvent{metrics, metrics, {Message: "said"}}, nil))
	count(10_001)
	b.exec(`insert into freehold.fine_tuning_events (id, job, level, message) select gen_random_uuid(), $1, 'info', 'm' from generate_series(10002, 11000)`, j.ID)
	b.ok(b.worker.AddJobEvents(ctx, j.ID, 1, []tenantdb.JobEvent{{Message: "too much"}}, nil))
	count(11_000)
	b.ok(b.worker.FailJob(ctx, platform, j.ID, 1, "c", "m", "", []tenantdb.JobEvent{{Level: "error", Message: "failed"}}))
	count(11_001)
}

func (b *tuning) fail() {
	ctx := b.Context()
	j := b.claimed()
	b.ok(b.worker.FailJob(ctx, platform, j.ID, 1, "invalid_training_file", "Line 3: no\x00 JSON", "training_file",
		[]tenantdb.JobEvent{{Level: "error", Message: "Line 3"}}))
	got, err := b.db.Job(ctx, j.ID)
	b.ok(err)
	if got.State != tenantdb.JobFailed || !got.Ended() || got.ErrorCode != "invalid_training_file" || got.ErrorMessage != "Line 3: no JSON" || got.ErrorParam != "training_file" {
		b.Errorf("%+v", got)
	}
	names := `"base":"answer-1","model":"` + j.Model + `"`
	b.told("ftjob-"+j.ID.String(), `key:alice fine_tuning.create req_a {"base" : "answer-1", "model" : "`+j.Model+`"}`,
		`system fine_tuning.failed req_a {`+names+`,"code":"invalid_training_file"}`)
	b.nothing(j.ID, 1, tenantdb.ErrEndedJob)
}

func (b *tuning) finish() {
	ctx := b.Context()
	j := b.claimed()
	sum := bytes.Repeat([]byte{9}, 32)
	f := tenantdb.Finish{
		Model: tenantdb.TunedModel{
			Engine: "vllm", Upstream: "adapter-1", Artifact: tenantdb.ModelPrefix(j.ID) + "0909/", Sum: sum, Bytes: 1234, Card: []byte(`{"seed":  7}`),
			Name: "ft:not:this:one:", Base: "nor this", Trainer: "nor that",
		},
		Result:        &tenantdb.File{ID: uuid.Must(uuid.NewV7()), Name: "results.json", Bytes: 55, Sum: sum},
		TrainedTokens: 4321, Events: []tenantdb.JobEvent{{Message: "The model is ready"}},
	}
	elsewhere := f
	elsewhere.Model.Artifact = tenantdb.ModelPrefix(uuid.Must(uuid.NewV7())) + "0909/"
	b.is(b.worker.FinishJob(ctx, platform, j.ID, 1, elsewhere), tenantdb.ErrInvalid)
	b.ok(b.worker.BeginFile(ctx, tenantdb.File{ID: f.Result.ID, Purpose: tenantdb.PurposeResults}))
	b.ok(b.worker.BeginFile(ctx, tenantdb.File{ID: f.Result.ID, Purpose: tenantdb.PurposeResults})) // the second try's
	b.ok(b.worker.FinishJob(ctx, platform, j.ID, 1, f))

	got, err := b.db.Job(ctx, j.ID)
	b.ok(err)
	if got.State != tenantdb.JobSucceeded || !got.Ended() || *got.TrainedTokens != 4321 || *got.ResultFile != f.Result.ID {
		b.Errorf("%+v", got)
	}
	result, err := b.db.FileByID(ctx, f.Result.ID)
	b.ok(err)
	if result.Purpose != tenantdb.PurposeResults || result.Name != "results.json" || result.Bytes != 55 || result.APIKey != "" {
		b.Errorf("%+v", result)
	}
	m, err := b.db.TunedModelByName(ctx, j.Model)
	b.ok(err)
	if m.ID != j.ID || m.State != tenantdb.ModelReady || m.Base != j.Base || m.Trainer != j.Trainer || m.Engine != "vllm" || m.Upstream != "adapter-1" ||
		m.Artifact != f.Model.Artifact || !bytes.Equal(m.Sum, sum) || m.Bytes != 1234 || string(m.Card) != `{"seed":  7}` {
		b.Errorf("%+v", m)
	}
	if told := b.audit("ftjob-" + j.ID.String()); len(told) != 2 || told[1] != `system fine_tuning.succeeded req_a {"base":"answer-1","model":"`+j.Model+`"}` {
		b.Errorf("audit %q", told)
	}
	b.nothing(j.ID, 1, tenantdb.ErrEndedJob)

	// A worker that wasn't told to keep a result, and whose artifact lies elsewhere.
	second := b.claimed()
	b.ok(b.worker.FinishJob(ctx, tenantdb.Actor{Actor: tenantdb.ActorSystem}, second.ID, 1, tenantdb.Finish{Model: tenantdb.TunedModel{Upstream: "a2"}}))
	list, err := b.db.TunedModels(ctx)
	b.ok(err)
	if len(list) != 2 || list[0].ID != second.ID || list[1].ID != j.ID || string(list[1].Card) != "{}" {
		b.Errorf("%+v", list)
	}
	b.exec("update freehold.fine_tuning_jobs set finished_at = now() - interval '2 hours' where id = $1", j.ID)
	ended, err := b.worker.UnclearedJobs(ctx, 90*time.Minute)
	b.ok(err)
	if len(ended) != 1 || !ended[0].Made || ended[0].Artifact != f.Model.Artifact {
		b.Errorf("%+v", ended)
	}

	removed, err := b.db.RemoveTunedModel(ctx, alice, j.Model)
	b.ok(err)
	if removed.ID != j.ID || removed.State != tenantdb.ModelDeleting || removed.Artifact != f.Model.Artifact {
		b.Errorf("%+v", removed)
	}
	b.told(j.Model, `key:alice model.delete req_a {"base" : "answer-1", "job" : "ftjob-`+j.ID.String()+`"}`)
	_, err = b.db.RemoveTunedModel(ctx, alice, j.Model)
	b.is(err, tenantdb.ErrNotFound)
	_, err = b.db.TunedModelByName(ctx, j.Model)
	b.is(err, tenantdb.ErrNotFound)
	if list, err := b.db.TunedModels(ctx); err != nil || len(list) != 1 {
		b.Errorf("%+v, %v", list, err)
	}
	stale, err := b.worker.StaleTunedModels(ctx)
	b.ok(err)
	if len(stale) != 1 || stale[0].ID != j.ID {
		b.Errorf("%+v", stale)
	}
	for _, id := range []uuid.UUID{j.ID, j.ID, second.ID} { // what is a model stays
		b.ok(b.db.DropTunedModel(ctx, id))
	}
	if list, err := b.db.TunedModels(ctx); err != nil || len(list) != 1 || list[0].ID != second.ID {
		b.Errorf("%+v, %v", list, err)
	}
	if stale, err := b.worker.StaleTunedModels(ctx); err != nil || len(stale) != 0 {
		b.Errorf("%+v, %v", stale, err)
	}
}

// A job ends once: there is a model when it has succeeded, and none when not.
func (b *tuning) finishOrCancel() {
	ctx := b.Context()
	canceller := tenantdb.On(b.connect(b.at.TenantURL), 10)
	for range 15 {
		j := b.claimed()
		var all sync.WaitGroup
		var finished, cancelled error
		all.Go(func() { finished = b.worker.FinishJob(ctx, platform, j.ID, 1, tenantdb.Finish{}) })
		all.Go(func() { _, cancelled = canceller.CancelJob(ctx, alice, j.ID) })
		all.Wait()
		got, err := b.db.Job(ctx, j.ID)
		b.ok(err)
		_, err = b.db.TunedModelByName(ctx, j.Model)
		told := strings.Join(b.audit("ftjob-" + j.ID.String())[1:], "\n")
		switch got.State {
		case tenantdb.JobSucceeded:
			b.is(cancelled, tenantdb.ErrEndedJob)
			b.ok(errors.Join(finished, err))
			if !strings.HasPrefix(told, "system fine_tuning.succeeded") || strings.Contains(told, "\n") {
				b.Errorf("told %s", told)
			}
		case tenantdb.JobCancelled:
			b.is(finished, tenantdb.ErrEndedJob)
			b.is(err, tenantdb.ErrNotFound)
			b.ok(cancelled)
			if !strings.HasPrefix(told, "key:alice fine_tuning.cancel") || strings.Contains(told, "\n") {
				b.Errorf("told %s", told)
			}
		default:
			b.Errorf("it is %s", got.State)
		}
	}
}
