package finetune_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/inference/finetune"
	"freehold/tenantdb"
	"freehold/tenantdb/blob"
)

// trains is a trainer made of a function.
type trains func(ctx context.Context, run *finetune.Run) (finetune.Result, error)

func (trains) Check(finetune.Method) error { return nil }

func (t trains) Train(ctx context.Context, run *finetune.Run) (finetune.Result, error) {
	return t(ctx, run)
}

// TestWorker is what a worker does with jobs that aren't done by the book, over one
// tenant.
func TestWorker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	many := 100
	_, _, err := b.cat.PatchConfig(t.Context(), b.id, catalog.ConfigPatch{FineTuningRunningLimit: &many, FineTuningQueueLimit: &many})
	b.ok(err)
	for name, check := range map[string]func(b *bench){
		"bad files": (*bench).refusesBadFiles, "cancel": (*bench).stopsWhenCancelled, "a failure": (*bench).failsOnce,
		"tries": (*bench).triesAgain, "the store is away": (*bench).waits, "the database is away": (*bench).goesOn, "hidden": (*bench).hides,
	} {
		t.Run(name, func(t *testing.T) { // one after the other: they share the queue
			sub := *b
			sub.TB = t
			check(&sub)
		})
	}
}

// expire has a file's time be over.
func (b *bench) expire(file uuid.UUID) {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), b.order.OwnerURL)
	b.ok(err)
	_, err = conn.Exec(b.Context(), `update freehold.files set expires_at = now() - interval '1 minute' where id = $1`, file)
	b.ok(errors.Join(err, conn.Close(b.Context())))
}

// with runs a worker with a trainer while fn looks on.
func (b *bench) with(t finetune.Trainer, fn func()) {
	b.Helper()
	b.order.trainer = t
	stop := b.work()
	defer stop()
	fn()
	b.until("the queue is empty", b.nothingLeft)
}

func (b *bench) objectsOf(job tenantdb.Job) (keys []string) {
	b.Helper()
	b.ok(b.blob.Tenant(b.id).List(b.Context(), tenantdb.ModelPrefix(job.ID), func(o blob.Object) error {
		keys = append(keys, o.Key)
		return nil
	}))
	return keys
}

// Each file that can't be trained with ends its job before a trainer sees it, with
// the line and the reason.
func (b *bench) refusesBadFiles() {
	good := examples()
	bad := map[string]struct {
		content string
		says    []string
	}{
		"empty":         {"", []string{"empty_file"}},
		"BOM":           {"\uFEFF" + good, []string{"Line 1", "byte_order_mark"}},
		"Windows lines": {strings.ReplaceAll(good, "\n", "\r\n"), []string{"Line 1", "windows_line_ending"}},
		"10 MB line":    {good + `{"messages":[{"role":"user","content":"` + strings.Repeat("x", 10<<20) + "\"}]}\n", []string{"Line 13", "line_too_long"}},
		"not UTF-8":     {good + "{\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}\n", []string{"Line 13", "invalid_utf8"}},
		"wrong role":    {good + `{"messages":[{"role":"boss","content":"a"},{"role":"assistant","content":"b"}]}` + "\n", []string{"Line 13", "unrecognized_role"}},
		"no assistant":  {good + `{"messages":[{"role":"user","content":"a"}]}` + "\n", []string{"Line 13", "example_missing_assistant_message"}},
	}
	jobs := map[string]tenantdb.Job{}
	for name, file := range bad {
		jobs[name] = b.create(b.file(file.content))
	}
	b.with(trains(func(context.Context, *finetune.Run) (finetune.Result, error) {
		return finetune.Result{}, errors.New("a trainer has seen a bad file")
	}), func() {
		for name, file := range bad {
			var job tenantdb.Job
			b.until(name+" is refused", func() bool { job = b.job(jobs[name].ID); return job.Ended() })
			if job.State != tenantdb.JobFailed || job.ErrorCode != finetune.CodeInvalidTraining || job.ErrorParam != "training_file" {
				b.Errorf("%s: job is %s: %s %s", name, job.State, job.ErrorCode, job.ErrorParam)
			}
			for _, text := range file.says {
				if !strings.Contains(job.ErrorMessage, text) {
					b.Errorf("%s: %q says nothing of %s", name, job.ErrorMessage, text)
				}
			}
		}
	})
}

// A cancelled job's trainer is told why it stops, and no model comes of it, whatever
// the trainer says.
func (b *bench) stopsWhenCancelled() {
	job := b.create(b.file(examples()))
	began, cause := make(chan struct{}, 2), make(chan error, 2)
	b.with(trains(func(ctx context.Context, run *finetune.Run) (finetune.Result, error) {
		began <- struct{}{}
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return finetune.Result{}, os.WriteFile(filepath.Join(run.Out, "model.safetensors"), []byte("late"), 0o600)
	}), func() {
		<-began
		b.tenant(func(ctx context.Context, db *tenantdb.DB) error {
			_, err := db.CancelJob(ctx, tenantdb.Actor{Actor: "key:test"}, job.ID)
			return err
		})
		b.ok(b.cat.CancelWork(b.Context(), job.ID.String()))
		// It has made a model all the same, and is asked to take away what it has left.
		for range 2 {
			if err := <-cause; !errors.Is(err, finetune.ErrCancelled) {
				b.Errorf("the trainer was stopped because of %v", err)
			}
		}
	})
	if now := b.job(job.ID); now.State != tenantdb.JobCancelled {
		b.Errorf("job is %s", now.State)
	}
	if keys := b.objectsOf(job); len(keys) > 0 {
		b.Errorf("it has left %q", keys)
	}
	b.tenant(func(ctx context.Context, db *tenantdb.DB) error {
		if _, err := db.TunedModelByName(ctx, job.Model); !errors.Is(err, tenantdb.ErrNotFound) {
			b.Errorf("its model: %v", err)
		}
		return nil
	})
}

// What can't get better isn't tried again.
func (b *bench) failsOnce() {
	var tries atomic.Int32
	job := b.create(b.file(examples()))
	b.with(trains(func(ctx context.Context, run *finetune.Run) (finetune.Result, error) {
		tries.Add(1)
		b.ok(os.WriteFile(filepath.Join(run.Checkpoints, "part"), []byte("x"), 0o600))
		b.ok(run.Saved(ctx, "part"))
		return finetune.Result{}, &finetune.Failure{Code: "too_hard", Message: "Nothing can be learnt from this."}
	}), func() {
		b.until("the job has failed", func() bool { j := b.job(job.ID); return j.Ended() })
	})
	if now := b.job(job.ID); now.State != tenantdb.JobFailed || now.ErrorCode != "too_hard" || tries.Load() != 1 {
		b.Errorf("job is %s (%s) after %d tries", now.State, now.ErrorCode, tries.Load())
	}
	if keys := b.objectsOf(job); len(keys) > 0 {
		b.Errorf("it has left %q", keys)
	}
}

// What may get better is tried again, with what was saved, and in the end it counts.
func (b *bench) triesAgain() {
	var tries atomic.Int32
	job := b.create(b.file(examples()))
	b.with(trains(func(ctx context.Context, run *finetune.Run) (finetune.Result, error) {
		n := tries.Add(1)
		if n == 1 {
			b.ok(os.WriteFile(filepath.Join(run.Checkpoints, "part"), []byte("half"), 0o600))
			b.ok(run.Saved(ctx, "part"))
			return finetune.Result{}, errors.New("out of memory")
		}
		got, err := os.ReadFile(filepath.Join(run.Checkpoints, "part"))
		if err != nil || string(got) != "half" {
			return finetune.Result{}, &finetune.Failure{Code: "lost", Message: "What was saved is gone."}
		}
		return finetune.Result{TrainedTokens: 7}, os.WriteFile(filepath.Join(run.Out, "model.safetensors"), got, 0o600)
	}), func() { b.ended(job.ID) })
	now := b.job(job.ID)
	if tries.Load() != 2 || now.TrainedTokens == nil || *now.TrainedTokens != 7 {
		b.Errorf("%d tries, tokens %v", tries.Load(), now.TrainedTokens)
	}
}

// Where the object store or a database is away, waiting is no try.
func (b *bench) waits() {
	var tries atomic.Int32
	job := b.create(b.file(examples()))
	b.with(trains(func(_ context.Context, run *finetune.Run) (finetune.Result, error) {
		if tries.Add(1) <= 21 { // more than there are tries
			return finetune.Result{}, finetune.ErrStore
		}
		return finetune.Result{}, os.WriteFile(filepath.Join(run.Out, "model.safetensors"), nil, 0o600)
	}), func() { b.ended(job.ID) })
}

// A database that is away for a while stops no training, and what was told meanwhile,
// and what was made, is recorded when it is back.
func (b *bench) goesOn() {
	var tries atomic.Int32
	var away atomic.Bool
	b.order.away = away.Load
	job := b.create(b.file(examples()))
	b.with(trains(func(ctx context.Context, run *finetune.Run) (finetune.Result, error) {
		tries.Add(1)
		away.Store(true)
		for step := range int64(3) {
			err := run.Report(ctx, finetune.Event{Step: step, Metrics: map[string]float64{"train_loss": 1}, Checkpoint: true})
			if err != nil {
				return finetune.Result{}, err
			}
		}
		time.AfterFunc(200*time.Millisecond, func() { away.Store(false) })
		return finetune.Result{}, os.WriteFile(filepath.Join(run.Out, "model.safetensors"), nil, 0o600)
	}), func() { b.ended(job.ID) })
	b.tenant(func(ctx context.Context, db *tenantdb.DB) error {
		told, err := db.JobCheckpoints(ctx, job.ID, uuid.Nil, 10)
		if len(told) != 3 || tries.Load() != 1 {
			b.Errorf("%d checkpoints told, in %d tries", len(told), tries.Load())
		}
		return err
	})
}

// Personal data reaches no trainer, and the model's card says what was done.
func (b *bench) hides() {
	const address = "ann@example.com"
	content := strings.Replace(examples(), "We open at nine.", "Write to "+address, 1)
	job := b.create(b.file(content))
	b.expire(job.TrainingFile) // a job's file stays until it has ended
	b.with(trains(func(_ context.Context, run *finetune.Run) (finetune.Result, error) {
		got, err := os.ReadFile(run.Train)
		if err != nil || strings.Contains(string(got), address) || !strings.Contains(string(got), "[EMAIL]") {
			return finetune.Result{}, &finetune.Failure{Code: "seen", Message: "The data isn't hidden."}
		}
		return finetune.Result{Card: map[string]any{"policy": "none", "epochs": 3}}, os.WriteFile(filepath.Join(run.Out, "model.safetensors"), nil, 0o600)
	}), func() { b.ended(job.ID) })
	b.tenant(func(ctx context.Context, db *tenantdb.DB) error {
		m, err := db.TunedModelByName(ctx, job.Model)
		if err != nil {
			return err
		}
		for _, text := range []string{`"pii_mode":"restore"`, `"EMAIL":1`, `"epochs":3`} {
			if !strings.Contains(string(m.Card), text) {
				b.Errorf("the card lacks %s: %s", text, m.Card)
			}
		}
		return nil
	})
}
