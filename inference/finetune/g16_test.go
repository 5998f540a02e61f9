package finetune_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/inference/finetune"
	"freehold/migrations/pgtest"
	"freehold/tenantdb"
	"freehold/tenantdb/blob"
)

// A worker that is killed with -9 at any step of a job leaves it to the next one,
// which ends it once: one model, one result file, no artifact beside it, no work
// left in the queue. The same holds when two workers race and are killed at random.
func TestG16_JobSurvivesKill(t *testing.T) {
	t.Parallel()
	b := setup(t)
	many := 1000
	_, _, err := b.cat.PatchConfig(t.Context(), b.id, catalog.ConfigPatch{FineTuningRunningLimit: &many, FineTuningQueueLimit: &many})
	b.ok(err)
	file := b.file(examples())
	points, races := []string{"saved", "uploaded"}, 1
	if pgtest.Long() {
		points, races = finetune.Points(), 4
	}
	for _, point := range points {
		t.Logf("killed at %s", point)
		job := b.create(file)
		o := b.order
		o.DieAt, o.Worker = point, "dies"
		b.dies(o)
		if t.Failed() {
			return
		}
		b.finish(job.ID)
	}

	var jobs []tenantdb.Job
	for range 1 + races {
		jobs = append(jobs, b.create(file))
	}
	for range races {
		one, other := b.order, b.order
		one.Worker, one.Dir = "one", b.order.Dir+"-one"
		other.Worker, other.Dir = "other", b.order.Dir+"-other"
		first, second := b.start(one), b.start(other)
		time.Sleep(400*time.Millisecond + rand.N(600*time.Millisecond))
		_ = first.Process.Kill()
		_ = first.Wait()
		time.Sleep(rand.N(400 * time.Millisecond))
		_ = second.Process.Kill()
		_ = second.Wait()
	}
	stop := b.work()
	for _, job := range jobs {
		b.ended(job.ID)
	}
	b.until("the queue is empty", b.nothingLeft)
	stop()
	for _, job := range jobs {
		b.once(job.ID)
	}
}

// finish has another worker end a job, and looks at what there is then.
func (b *bench) finish(id uuid.UUID) {
	b.Helper()
	stop := b.work()
	b.ended(id)
	b.until("the queue is empty", b.nothingLeft)
	stop()
	b.once(id)
}

// ended waits until a job has succeeded.
func (b *bench) ended(id uuid.UUID) {
	b.Helper()
	b.until("the job has ended", func() bool { j := b.job(id); return j.Ended() })
	if j := b.job(id); j.State != tenantdb.JobSucceeded {
		b.Fatalf("job is %s: %s %s", j.State, j.ErrorCode, j.ErrorMessage)
	}
}

// nothingLeft reports whether the work queue is empty.
func (b *bench) nothingLeft() bool {
	view, err := b.cat.Work(b.Context())
	b.ok(err)
	return view.Waiting+view.Running == 0
}

// once holds that a job has left what it should, and no more.
func (b *bench) once(id uuid.UUID) {
	b.Helper()
	job := b.job(id)
	var models []tenantdb.TunedModel
	var events []tenantdb.JobEvent
	var audit []tenantdb.AuditRow
	b.tenant(func(ctx context.Context, db *tenantdb.DB) (err error) {
		all, err := db.TunedModels(ctx)
		for _, m := range all {
			if m.ID == id || m.Name == job.Model {
				models = append(models, m)
			}
		}
		if err == nil {
			events, err = db.JobEvents(ctx, id, uuid.Nil, 1000)
		}
		if err == nil {
			audit, err = db.AuditRows(ctx, "fine_tuning.succeeded", uuid.Nil, 1000)
		}
		return err
	})
	if len(models) != 1 {
		b.Fatalf("%d models of one job", len(models))
	}
	ready := 0
	for _, e := range events {
		if strings.HasSuffix(e.Message, "is ready") {
			ready++
		}
	}
	if ready != 1 {
		b.Errorf("the model is told to be ready %d times", ready)
	}
	told := 0
	for _, a := range audit {
		if strings.HasSuffix(a.Subject, id.String()) {
			told++
		}
	}
	if told != 1 {
		b.Errorf("the audit has the job's end %d times", told)
	}
	var left []string
	objects := b.blob.Tenant(b.id)
	b.ok(objects.List(b.Context(), tenantdb.ModelPrefix(id), func(o blob.Object) error {
		if !strings.HasPrefix(o.Key, models[0].Artifact) {
			left = append(left, o.Key)
		}
		return nil
	}))
	if len(left) > 0 {
		b.Errorf("beside the artifact there is %q", left)
	}
	for _, name := range []string{"model.safetensors", "card.json", "manifest.txt"} {
		body, _, err := objects.Get(b.Context(), models[0].Artifact+name)
		b.ok(err)
		_ = body.Close()
	}
	if job.ResultFile == nil {
		b.Fatal("no result file")
	}
	b.tenant(func(ctx context.Context, db *tenantdb.DB) error {
		_, err := db.FileByID(ctx, *job.ResultFile)
		return err
	})
}
