package openai

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"time"

	"freehold/inference/finetune"
)

const (
	jobsPath = "/fine_tuning/jobs"
	// tag is the metadata by which a job upstream is known as ours; its value is our
	// job's id.
	tag = "freehold_job"
)

// job is the upstream's. What an upstream leaves out or says as null is zero.
type job struct {
	ID              string         `json:"id"`
	Status          string         `json:"status"`
	CreatedAt       int64          `json:"created_at"`
	TrainingFile    string         `json:"training_file"`
	ValidationFile  string         `json:"validation_file"`
	FineTunedModel  string         `json:"fine_tuned_model"`
	TrainedTokens   int64          `json:"trained_tokens"`
	Metadata        map[string]any `json:"metadata"`
	Hyperparameters map[string]any `json:"hyperparameters"`
	Error           struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Param   string `json:"param"`
	} `json:"error"`
	Method struct {
		Supervised struct {
			Hyperparameters map[string]any `json:"hyperparameters"`
		} `json:"supervised"`
	} `json:"method"`
}

func (j job) key() string    { return j.ID }
func (j job) created() int64 { return j.CreatedAt }

func (j job) ended() bool {
	return j.Status == "succeeded" || j.Status == "failed" || j.Status == "cancelled"
}

func jobPath(id string) string { return jobsPath + "/" + url.PathEscape(id) }

func (w *work) look(ctx context.Context, id string) (job, error) {
	var j job
	err := w.patiently(ctx, func() error {
		j = job{}
		return w.get(ctx, jobPath(id), nil, &j)
	})
	if err == nil && j.ID != id {
		err = errMalformed
	}
	return j, err
}

// find returns the upstream's jobs that are ours, best first: the one that counts is
// the first, and others come of requests whose answer was lost. A job is ours by its
// tag, or by a training file of ours at servers that keep no metadata.
func (w *work) find(ctx context.Context, files []file) ([]job, error) {
	query := url.Values{"limit": {"100"}, "metadata[" + tag + "]": {w.run.Job.ID}}
	ours, err := w.among(ctx, query, files)
	if s := status(err); s == http.StatusBadRequest || s == http.StatusUnprocessableEntity {
		// A server that refuses the filter may list all the same.
		ours, err = w.among(ctx, url.Values{"limit": {"100"}}, files)
	}
	if err != nil {
		return nil, err
	}
	rank := func(j job) int {
		if i := slices.Index([]string{"succeeded", "failed", "cancelled"}, j.Status); i > 0 {
			return i + 1
		} else if i == 0 {
			return 0
		}
		return 1 // at work
	}
	slices.SortFunc(ours, func(a, b job) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.CreatedAt, b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return ours, nil
}

func (w *work) among(ctx context.Context, query url.Values, files []file) ([]job, error) {
	var ours []job
	err := pages(ctx, w.Trainer, jobsPath, query, func(p []job) bool {
		for _, j := range p {
			byFile := slices.ContainsFunc(files, func(f file) bool { return f.ID == j.TrainingFile })
			if j.ID != "" && (j.Metadata[tag] == w.run.Job.ID || byFile) {
				ours = append(ours, j)
			}
		}
		return !past(p, w.since)
	})
	return ours, err
}

// newJob is the body of a job's creation.
type newJob struct {
	Model          string            `json:"model"`
	TrainingFile   string            `json:"training_file"`
	ValidationFile string            `json:"validation_file,omitempty"`
	Suffix         string            `json:"suffix,omitempty"`
	Seed           int64             `json:"seed"`
	Method         map[string]any    `json:"method"`
	Metadata       map[string]string `json:"metadata"`
}

// method is a method as it goes over the wire.
func method(m finetune.Method) map[string]any {
	hyper := map[string]any{"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
	if m.Epochs > 0 {
		hyper["n_epochs"] = m.Epochs
	}
	if m.BatchSize > 0 {
		hyper["batch_size"] = m.BatchSize
	}
	if m.LearningRateMultiplier > 0 {
		hyper["learning_rate_multiplier"] = m.LearningRateMultiplier
	}
	return map[string]any{"type": "supervised", "supervised": map[string]any{"hyperparameters": hyper}}
}

// create makes the job. When it can't tell whether it did, it looks before it tries
// again; a server that knows Idempotency-Key makes one job even of requests that
// arrive late.
func (w *work) create(ctx context.Context, body newJob, files []file) (job, error) {
	until := time.Now().Add(w.cfg.Patience)
	for try := 1; ; try++ {
		j, err := w.createOnce(ctx, body)
		if err == nil && try == 1 {
			return j, nil
		}
		if err != nil && hopeless(err) {
			return job{}, err
		}
		found, lost := w.find(ctx, files)
		if lost == nil && len(found) > 0 {
			return found[0], nil
		}
		if err == nil { // a list that is behind
			return j, nil
		}
		wait := w.pause(try, err)
		if lost != nil || !passing(err) || time.Now().Add(wait).After(until) || !sleep(ctx, wait) {
			return job{}, err
		}
	}
}

func (w *work) createOnce(ctx context.Context, body newJob) (job, error) {
	ctx, cancel := heardOut(ctx)
	defer cancel()
	var j job
	err := w.post(ctx, jobsPath, w.run.Job.ID, body, &j)
	if err == nil && j.ID == "" {
		err = errMalformed
	}
	return j, err
}

// chosen are the hyperparameters that the upstream says it used.
func (j job) chosen() map[string]any {
	from := j.Method.Supervised.Hyperparameters
	if len(from) == 0 {
		from = j.Hyperparameters
	}
	out := map[string]any{}
	for _, name := range []string{"n_epochs", "batch_size", "learning_rate_multiplier"} {
		switch v := from[name].(type) {
		case float64, json.Number:
			out[name] = v
		case string:
			if v == "auto" {
				out[name] = v
			}
		}
	}
	return out
}
