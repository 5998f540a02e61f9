package openai

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"freehold/inference/finetune"
	"freehold/tenantdb"
)

// work is one run of a job.
type work struct {
	*Trainer
	run   *finetune.Run
	since time.Time // nothing of ours is older, upstream
	up    string    // the upstream's id of the job, once there is one
	names []string  // the upstream's names and ours, in turn
	told  progress  // of the job up
}

// The kinds of data files.
const (
	training   = "training"
	validation = "validation"
)

// skew is how far an upstream's clock may be behind ours.
const skew = time.Hour

// causeTime is how long the end of a run's context may take once its job has ended:
// more than two of a worker's signs of life.
const causeTime = 6 * time.Second

// Train is finetune.Trainer's. A context that has ended with ErrCancelled before
// Train is called has what an earlier run left upstream cancelled and taken away.
func (t *Trainer) Train(ctx context.Context, run *finetune.Run) (finetune.Result, error) {
	w := &work{Trainer: t, run: run, up: run.Upstream}
	if id, err := uuid.Parse(strings.TrimPrefix(run.Job.ID, finetune.JobPrefix)); err == nil && id.Version() == 7 {
		s, ns := id.Time().UnixTime()
		w.since = time.Unix(s, ns).Add(-skew)
	}
	res, err := w.train(ctx)
	if errors.Is(err, tenantdb.ErrEndedJob) {
		// The row knows already what the context will say in a moment: why.
		sleep(ctx, causeTime)
	}
	_, failed := errors.AsType[*finetune.Failure](err)
	if err == nil || failed {
		w.settle(ctx, w.up)
	}
	// Also while it was settled: nobody will use the model.
	if errors.Is(context.Cause(ctx), finetune.ErrCancelled) || errors.Is(err, finetune.ErrCancelled) {
		w.settle(ctx, "")
		return finetune.Result{}, finetune.ErrCancelled
	}
	if err != nil && !failed && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return res, err
}

func (w *work) train(ctx context.Context) (finetune.Result, error) {
	if err := w.begin(ctx); err != nil {
		return finetune.Result{}, err
	}
	j, err := w.mirror(ctx)
	if err != nil {
		return finetune.Result{}, err
	}
	switch j.Status {
	case "succeeded":
		if j.FineTunedModel == "" || len(j.FineTunedModel) > 512 {
			return finetune.Result{}, errNoModel
		}
		return finetune.Result{
			Engine: w.cfg.Engine, Upstream: j.FineTunedModel, TrainedTokens: max(0, j.TrainedTokens),
			Card: map[string]any{"hyperparameters": j.chosen()},
		}, nil
	case "cancelled":
		return finetune.Result{}, &finetune.Failure{
			Code: finetune.CodeTrainer, Message: "The job was cancelled at the server that fine-tunes this model.",
		}
	}
	f := &finetune.Failure{
		Code: w.word(j.Error.Code), Message: w.clean(j.Error.Message), Param: param(j.Error.Param),
	}
	if f.Code == "" {
		f.Code = finetune.CodeTrainer
	}
	if f.Message == "" {
		f.Message = "The server that fine-tunes this model gave no reason."
	}
	return finetune.Result{}, f
}

var errNoModel = errors.New("the upstream's job has succeeded and names no model")

// begin finds this job's at the upstream, or makes it, and has it noted.
func (w *work) begin(ctx context.Context) error {
	if w.up == "" {
		j, err := w.make(ctx)
		if err != nil {
			return w.failure(err)
		}
		w.up = j.ID
		if err := w.run.SetUpstream(ctx, j.ID); err != nil {
			return err // another worker's by now, which will find it
		}
	}
	return nil
}

func (w *work) make(ctx context.Context) (job, error) {
	files, err := w.files(ctx)
	if err != nil {
		return job{}, err
	}
	found, err := w.find(ctx, files)
	if err != nil {
		return job{}, err
	}
	if len(found) > 0 {
		w.cfg.Logger.InfoContext(ctx, "upstream job found", "job", w.run.Job.ID, "upstream", found[0].ID)
		return found[0], nil
	}
	seed := w.run.Job.Seed
	body := newJob{
		Model: w.run.Job.Base.Upstream, Suffix: w.run.Job.Suffix, Seed: seed & (1<<31 - 1), // all that the wire has room for
		Method: method(w.run.Job.Method), Metadata: map[string]string{tag: w.run.Job.ID},
	}
	for _, data := range []struct {
		path, kind string
		into       *string
	}{{w.run.Train, training, &body.TrainingFile}, {w.run.Validation, validation, &body.ValidationFile}} {
		if data.path == "" {
			continue
		}
		f, err := w.push(ctx, data.path, data.kind, files)
		if err != nil {
			return job{}, err
		}
		*data.into = f.ID
		files = append(files, f)
		w.rename(f.ID, filepath.Base(data.path))
	}
	j, err := w.create(ctx, body, files)
	if err == nil {
		w.cfg.Logger.InfoContext(ctx, "upstream job created", "job", w.run.Job.ID, "upstream", j.ID)
	}
	return j, err
}
