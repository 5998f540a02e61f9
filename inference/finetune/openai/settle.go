package openai

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// settleTime bounds what is done upstream after the end of a run.
const settleTime = 10 * time.Second

// settle takes away what this job has left upstream: the files it pushed, and each
// job of ours but the one to keep, with its model if it was quicker than we are.
// "" keeps none. It outlives ctx, whose end may be why; what can't be taken away is
// logged, since nobody comes for it again.
func (w *work) settle(ctx context.Context, keep string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	files, err := w.files(ctx)
	jobs, lost := w.find(ctx, files)
	err = errors.Join(err, lost)
	if w.up != "" && !slices.ContainsFunc(jobs, func(j job) bool { return j.ID == w.up }) {
		jobs = append(jobs, job{ID: w.up})
	}
	for _, j := range jobs {
		if j.ID != keep {
			err = errors.Join(err, w.cancel(ctx, j))
		}
	}
	for _, f := range files {
		err = errors.Join(err, w.drop(ctx, "/files/"+url.PathEscape(f.ID)))
	}
	if err != nil {
		w.cfg.Logger.WarnContext(ctx, "upstream keeps something of a job that has ended", "job", w.run.Job.ID, "upstream", w.up, "error", err)
	}
}

// cancel ends a job upstream, whatever its state.
func (w *work) cancel(ctx context.Context, j job) error {
	if !j.ended() {
		id := j.ID
		err := w.patiently(ctx, func() error { return w.post(ctx, jobPath(id)+"/cancel", "", nil, &j) })
		if status(err) == http.StatusNotFound {
			return nil
		}
		if err != nil { // it has ended meanwhile
			if j, err = w.look(ctx, id); err != nil {
				return err
			}
		}
	}
	if j.Status == "succeeded" && j.FineTunedModel != "" {
		return w.drop(ctx, "/models/"+url.PathEscape(j.FineTunedModel))
	}
	return nil
}

// drop deletes; what isn't there is deleted.
func (w *work) drop(ctx context.Context, path string) error {
	err := w.patiently(ctx, func() error {
		return w.call(ctx, request{method: http.MethodDelete, path: path}, nil)
	})
	if status(err) == http.StatusNotFound {
		return nil
	}
	return err
}
