package finetune

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/tenantdb"
)

// next is what becomes of work that isn't done yet.
type next struct {
	stage string
	in    time.Duration
	why   string
}

// errDone says that nothing is left to do: the work is ended.
var errDone = errors.New("done")

// run is one try at one stage of a job.
type run struct {
	*Worker
	item catalog.WorkItem
	slot int
	dir  string
	drop context.CancelCauseFunc // ends the run

	job   tenantdb.Job
	audit bool // the tenant's audit is on
	made  bool // a trainer has made a model
}

// absentTime is how long a job may be on its way into the tenant's database.
const absentTime = 2 * time.Minute

// stage does the work's stage. Everything in it can be done twice.
func (r *run) stage(ctx context.Context) (next, error) {
	id, err := uuid.Parse(r.item.ID)
	if err != nil {
		return next{}, errDone
	}
	cfg, err := r.cfg.Policy(ctx, r.item.Tenant)
	if err != nil {
		return next{}, fmt.Errorf("read the tenant's policy: %w", err)
	}
	r.audit = cfg.AuditLogEnabled
	err = r.tenant(ctx, func(ctx context.Context, db *tenantdb.DB) (err error) {
		r.job, err = db.ClaimJob(ctx, id, r.item.Token)
		return err
	})
	switch {
	case errors.Is(err, tenantdb.ErrNotFound):
		if time.Since(r.item.CreatedAt) > absentTime {
			return next{}, errDone
		}
		return next{r.item.Stage, time.Second, ""}, nil
	case errors.Is(err, tenantdb.ErrEndedJob):
		return next{}, r.ended(ctx, id)
	case err != nil:
		return next{}, lost(err)
	}
	r.cfg.At("claimed")
	if r.item.Attempts > r.cfg.Tries {
		r.abandon(ctx)
		return next{}, r.fail(ctx, &Failure{Code: CodeInternal, Message: "The job was tried several times and could not be done. Create it again, or ask whoever runs the platform."})
	}
	switch {
	case r.item.Stage == catalog.WorkTrain:
		err = r.train(ctx)
	case r.job.State != tenantdb.JobValidating: // a worker that was killed came so far
		return next{stage: catalog.WorkTrain}, nil
	default:
		err = r.validate(ctx)
		if err == nil {
			return next{stage: catalog.WorkTrain}, nil
		}
	}
	return next{}, r.outcome(ctx, err)
}

// ended clears up after a job that ended while nobody had it.
func (r *run) ended(ctx context.Context, id uuid.UUID) error {
	err := r.tenant(ctx, func(ctx context.Context, db *tenantdb.DB) (err error) {
		r.job, err = db.Job(ctx, id)
		return err
	})
	if err != nil {
		return lost(err)
	}
	if r.item.Stage == catalog.WorkTrain && r.job.State != tenantdb.JobSucceeded {
		r.abandon(ctx)
	}
	return r.end(ctx)
}

// abandonTime bounds the taking away of what a job has left elsewhere.
const abandonTime = 30 * time.Second

// abandon has a trainer take away what earlier tries began elsewhere.
func (r *run) abandon(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTime)
	defer cancel()
	base, err := r.cfg.Model(ctx, r.job.Base)
	if err != nil {
		return // nobody knows where it was
	}
	trainer, err := r.cfg.Trainer(ctx, r.job.Trainer, base)
	if err != nil {
		return
	}
	ctx, end := context.WithCancelCause(ctx)
	end(ErrCancelled)
	t := r.plan(base)
	t.Report = func(context.Context, Event) error { return ErrCancelled }
	_, _ = trainer.Train(ctx, t) // it logs what it can't take away
}

// outcome turns how a stage went wrong into what becomes of the job.
func (r *run) outcome(ctx context.Context, err error) error {
	if failure, ok := errors.AsType[*Failure](err); ok {
		return r.fail(ctx, failure)
	}
	if err == nil {
		return r.end(ctx)
	}
	if errors.Is(err, tenantdb.ErrEndedJob) || errors.Is(context.Cause(ctx), ErrCancelled) {
		if r.made && !succeeded(err) { // just too late: its trainer doesn't know
			r.abandon(ctx)
		}
		return r.end(ctx)
	}
	if r.item.Attempts >= r.cfg.Tries && ctx.Err() == nil && !waits(err) {
		r.abandon(ctx)
		r.cfg.Logger.WarnContext(ctx, "fine-tuning job failed", "job", JobPrefix+r.item.ID, "tenant", r.item.Tenant.String(), "error", err)
		return r.fail(ctx, &Failure{Code: CodeTrainer, Message: "Training failed several times. Whoever runs the platform finds the reason in its log."})
	}
	return lost(err)
}

// waits reports whether err is about a part of the platform that is away for a
// while: no job fails of that.
func waits(err error) bool {
	return errors.Is(err, tenantdb.ErrUnavailable) || errors.Is(err, catalog.ErrUnavailable) || errors.Is(err, catalog.ErrConflict) ||
		errors.Is(err, tenantdb.ErrFenced) || errors.Is(err, ErrStore)
}

// succeeded reports whether err is that the job has ended well.
func succeeded(err error) bool {
	ended, ok := errors.AsType[*tenantdb.JobEnded](err)
	return ok && ended.Job.State == tenantdb.JobSucceeded
}

// lost is err, as ErrLost where a row said so.
func lost(err error) error {
	if errors.Is(err, tenantdb.ErrLostJob) {
		return ErrLost
	}
	return err
}

// tenant opens the tenant's database.
func (r *run) tenant(ctx context.Context, fn func(ctx context.Context, db *tenantdb.DB) error) error {
	return r.cfg.InTenant(ctx, r.item.Tenant, func(ctx context.Context, _ catalog.Tenant, db *tenantdb.DB) error {
		return fn(ctx, db)
	})
}

// actor is who ends jobs, as the tenant's audit names it.
func (r *run) actor() tenantdb.Actor { return tenantdb.Actor{Actor: "system", Audit: r.audit} }

// fail ends the job for good.
func (r *run) fail(ctx context.Context, f *Failure) error {
	data := map[string]any{"code": f.Code}
	if f.Param != "" {
		data["param"] = f.Param
	}
	err := r.tenant(ctx, func(ctx context.Context, db *tenantdb.DB) error {
		return db.FailJob(ctx, r.actor(), r.job.ID, r.item.Token, f.Code, f.Message, f.Param, []tenantdb.JobEvent{jobEvent(Event{Level: "error", Message: f.Message, Data: data})})
	})
	if err != nil && !errors.Is(err, tenantdb.ErrEndedJob) {
		return lost(err)
	}
	r.cfg.At("failed")
	return r.end(ctx)
}

// end removes what an ended job doesn't need, and says that nothing is left. A
// model's artifact stays, and none but that.
func (r *run) end(ctx context.Context) error {
	// The context may have ended with the job.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	keep := ""
	err := r.tenant(ctx, func(ctx context.Context, db *tenantdb.DB) error {
		job, err := db.Job(ctx, r.job.ID)
		if err != nil {
			return err
		}
		m, err := db.TunedModelByName(ctx, job.Model)
		if errors.Is(err, tenantdb.ErrNotFound) {
			return nil // none was made, or it is removed already
		}
		keep = m.Artifact
		return err
	})
	if err != nil {
		return lost(err)
	}
	if err := r.sweep(ctx, keep); err != nil {
		return err
	}
	r.cfg.At("swept")
	return errDone
}

// report tells the tenant of events.
func (r *run) report(ctx context.Context, events ...Event) error {
	var list []tenantdb.JobEvent
	var checkpoints []tenantdb.JobCheckpoint
	for _, e := range events {
		list = append(list, jobEvent(e))
		if e.Checkpoint {
			metrics, err := json.Marshal(e.Metrics)
			if err != nil {
				return fmt.Errorf("report checkpoint: %w", err)
			}
			checkpoints = append(checkpoints, tenantdb.JobCheckpoint{ID: uuid.Must(uuid.NewV7()), Step: e.Step, Metrics: metrics})
		}
	}
	err := r.tenant(ctx, func(ctx context.Context, db *tenantdb.DB) error {
		return db.AddJobEvents(ctx, r.job.ID, r.item.Token, list, checkpoints)
	})
	if errors.Is(err, tenantdb.ErrEndedJob) {
		// The row knows before the queue does.
		r.drop(ErrCancelled)
		return ErrCancelled
	}
	return lost(err)
}

// jobEvent is the row of an event.
func jobEvent(e Event) tenantdb.JobEvent {
	row := tenantdb.JobEvent{ID: uuid.Must(uuid.NewV7()), Level: e.Level, Kind: "message", Message: e.Message, CreatedAt: time.Now()}
	if row.Level == "" {
		row.Level = "info"
	}
	data := e.Data
	if e.Metrics != nil {
		row.Kind = "metrics"
		data = map[string]any{"step": e.Step}
		for name, value := range e.Metrics {
			data[name] = value
		}
		if row.Message == "" {
			row.Message = fmt.Sprintf("Step %d", e.Step)
		}
	}
	if data != nil {
		row.Data, _ = json.Marshal(data) //nolint:errchkjson // a trainer's own: what can't be written is left out
	}
	return row
}

// plain is an error's text for operators: never what a tenant's data says, since no
// error of ours holds it.
func plain(err error) string {
	const most = 300
	text := err.Error()
	if len(text) > most {
		text = text[:most]
	}
	return text
}
