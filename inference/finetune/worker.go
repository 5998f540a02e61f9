package finetune

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/tenantdb"
	"freehold/tenantdb/blob"
)

// WorkerConfig of a Worker. Zero means the default named beside a field; what has
// none is required.
type WorkerConfig struct {
	// The catalog's work queue.
	Take    func(ctx context.Context, by catalog.Taker, trainers []string) (catalog.WorkItem, bool, error)
	Keep    func(ctx context.Context, item catalog.WorkItem, lease time.Duration) error
	Release func(ctx context.Context, item catalog.WorkItem, stage string, in time.Duration, why string) error
	End     func(ctx context.Context, item catalog.WorkItem) error

	// InTenant opens a tenant's database for a moment; catalog.ErrConflict while the
	// tenant isn't active.
	InTenant func(ctx context.Context, id catalog.TenantID, fn func(ctx context.Context, t catalog.Tenant, db *tenantdb.DB) error) error
	Policy   func(ctx context.Context, id catalog.TenantID) (catalog.TenantConfig, error)
	Model    func(ctx context.Context, name string) (catalog.Model, error)
	Objects  func(id catalog.TenantID) *blob.Objects

	// Trainers names those that this process has; Trainer makes one for a base model.
	Trainers func() []string
	Trainer  func(ctx context.Context, name string, base catalog.Model) (Trainer, error)

	Worker string // this process, as it is listed
	Dir    string // where runs have their folders; what is there from before is removed
	Slots  int    // jobs at a time; 1
	Logger *slog.Logger

	Poll  time.Duration // 1 s
	Lease time.Duration // without a sign of life; 12.5 s
	Retry time.Duration // before the second try, doubled for each one after; 5 s
	Tries int           // of a stage, before the job fails; 4

	// At is called at the points of a job, by name. For tests that kill the process
	// there; nil: nobody.
	At func(point string)
}

func (c WorkerConfig) withDefaults() WorkerConfig {
	c.Slots = cmp.Or(c.Slots, 1)
	c.Poll = cmp.Or(c.Poll, time.Second)
	c.Lease = cmp.Or(c.Lease, 12500*time.Millisecond)
	c.Retry = cmp.Or(c.Retry, 5*time.Second)
	c.Tries = cmp.Or(c.Tries, 4)
	if c.At == nil {
		c.At = func(string) {}
	}
	return c
}

func (c WorkerConfig) validate() error {
	var errs []error
	for _, f := range []struct {
		missing bool
		name    string
	}{
		{c.Take == nil, "Take"}, {c.Keep == nil, "Keep"}, {c.Release == nil, "Release"}, {c.End == nil, "End"},
		{c.InTenant == nil, "InTenant"}, {c.Policy == nil, "Policy"}, {c.Model == nil, "Model"}, {c.Objects == nil, "Objects"},
		{c.Trainers == nil, "Trainers"}, {c.Trainer == nil, "Trainer"}, {c.Worker == "", "Worker"}, {c.Dir == "", "Dir"},
		{c.Logger == nil, "Logger"},
	} {
		if f.missing {
			errs = append(errs, errors.New("finetune: WorkerConfig."+f.name+" is required"))
		}
	}
	if c.Slots < 0 || c.Tries < 0 || c.Poll < 0 || c.Lease < 0 || c.Retry < 0 {
		errs = append(errs, errors.New("finetune: WorkerConfig: Slots, Tries, Poll, Lease and Retry can't be below 0"))
	}
	return errors.Join(errs...)
}

// Worker does jobs, of all tenants, as their turn comes.
type Worker struct{ cfg WorkerConfig }

// NewWorker checks cfg.
func NewWorker(cfg WorkerConfig) (*Worker, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Worker{cfg.withDefaults()}, nil
}

// Run works until ctx ends; jobs that it has then go back to the queue at once.
// Folders of one worker's runs must not be another's: Dir is locked meanwhile by
// who calls.
func (w *Worker) Run(ctx context.Context) error {
	// What a killed process has left: personal data is hidden in it, but it is the
	// tenants' all the same.
	if err := os.RemoveAll(w.cfg.Dir); err != nil {
		return fmt.Errorf("empty the trainers' folder: %w", err)
	}
	if err := os.MkdirAll(w.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("make the trainers' folder: %w", err)
	}
	var group errgroup.Group
	for slot := range w.cfg.Slots {
		group.Go(func() error {
			w.work(ctx, slot)
			return nil
		})
	}
	return group.Wait()
}

// work takes one job after the other.
func (w *Worker) work(ctx context.Context, slot int) {
	away := false
	for ctx.Err() == nil {
		item, found, err := w.cfg.Take(ctx, catalog.Taker{Worker: w.cfg.Worker, Lease: w.cfg.Lease}, w.cfg.Trainers())
		switch {
		case err != nil && !away && ctx.Err() == nil:
			away = true // said once
			w.cfg.Logger.WarnContext(ctx, "worker can't look for fine-tuning jobs", "error", err)
		case err == nil:
			away = false
		}
		if found {
			w.do(ctx, item, slot)
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(w.cfg.Poll):
		}
	}
}

// do works on what was taken while it is this worker's, and says what becomes of it.
func (w *Worker) do(ctx context.Context, item catalog.WorkItem, slot int) {
	held, drop := context.WithCancelCause(ctx)
	defer drop(nil)
	var keeping errgroup.Group
	keeping.Go(func() error { w.keep(held, item, drop); return nil })
	r := &run{Worker: w, item: item, slot: slot, dir: filepath.Join(w.cfg.Dir, item.ID), drop: drop}
	next, err := r.stage(held)
	cause := context.Cause(held)
	drop(nil)
	_ = keeping.Wait()
	if rerr := os.RemoveAll(r.dir); rerr != nil {
		w.cfg.Logger.WarnContext(ctx, "run's folder not removed", "job", JobPrefix+item.ID, "error", rerr)
	}
	w.settle(ctx, item, next, err, cause)
}

// settleTime bounds what is written when a run is over, also at the process's end.
const settleTime = 5 * time.Second

// settle gives the work back, or ends it.
func (w *Worker) settle(ctx context.Context, item catalog.WorkItem, n next, err, cause error) {
	stopping := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	log := w.cfg.Logger.With("job", JobPrefix+item.ID, "tenant", item.Tenant.String(), "stage", item.Stage)
	switch {
	case errors.Is(err, errDone):
		err = w.cfg.End(ctx, item)
	case err == nil:
		err = w.cfg.Release(ctx, item, n.stage, n.in, n.why)
	case errors.Is(cause, ErrLost), errors.Is(err, ErrLost):
		log.InfoContext(ctx, "fine-tuning job given up: it is another worker's, or its tenant isn't active")
		return
	case stopping:
		err = w.cfg.Release(ctx, item, item.Stage, 0, "")
	case waits(err):
		// A part of the platform is away: that was no try.
		log.WarnContext(ctx, "fine-tuning job waits", "error", err)
		err = w.cfg.Release(ctx, item, item.Stage, w.cfg.Retry, "")
	default:
		log.WarnContext(ctx, "fine-tuning job not done, it is tried again", "attempt", item.Attempts, "error", err)
		err = w.cfg.Release(ctx, item, item.Stage, w.backoff(item.Attempts), plain(err))
	}
	if err != nil && !errors.Is(err, catalog.ErrLost) {
		log.WarnContext(ctx, "fine-tuning job not given back: it goes on when its lease has ended", "error", err)
	}
}

const maxBackoff = 5 * time.Minute

func (w *Worker) backoff(attempts int) time.Duration {
	d := w.cfg.Retry
	for range min(attempts, 10) - 1 {
		d *= 2
	}
	return min(d, maxBackoff)
}

// silence is how long a run goes on while the catalog doesn't answer. Somebody else
// may have its job by then: what that one records, by its token, is what counts.
const silence = 3 * time.Minute

// keep is the sign of life. It ends the run when the job is another worker's, when
// it was cancelled, and when the catalog has been away for long.
func (w *Worker) keep(ctx context.Context, item catalog.WorkItem, drop context.CancelCauseFunc) {
	heard := time.Now()
	tick := time.NewTicker(w.cfg.Lease / 6)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked := time.Now()
		kctx, cancel := context.WithTimeout(ctx, w.cfg.Lease/3)
		err := w.cfg.Keep(kctx, item, w.cfg.Lease)
		cancel()
		switch {
		case err == nil:
			heard = asked
		case errors.Is(err, catalog.ErrLost):
			drop(ErrLost)
		case errors.Is(err, catalog.ErrCancelled):
			drop(ErrCancelled)
		case ctx.Err() == nil && time.Since(heard) > max(w.cfg.Lease, silence):
			drop(ErrLost)
		}
	}
}

// Points lists what WorkerConfig.At is called with, in the order of a job that is
// done at once.
func Points() []string {
	return []string{
		"claimed", "validated", "queued", "running", "prepared", "saved", "trained", "uploading", "uploaded", "results",
		"registered", "swept",
	}
}
