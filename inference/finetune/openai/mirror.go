package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"freehold/inference/finetune"
)

// progressFile, among the run's checkpoints, says what the tenant has been told.
const progressFile = "upstream.json"

// progress is what was relayed of one upstream job.
type progress struct {
	Job         string `json:"job"`
	Events      seen   `json:"events"`
	Checkpoints seen   `json:"checkpoints"`
}

// seen says how far a list was read that grows at its new end: up to the second At,
// and of that second IDs.
type seen struct {
	At  int64    `json:"at"`
	IDs []string `json:"ids"`
}

func (s *seen) has(i item) bool {
	return i.created() < s.At || i.created() == s.At && slices.Contains(s.IDs, i.key())
}

func (s *seen) add(i item) {
	if i.created() > s.At {
		s.At, s.IDs = i.created(), nil
	}
	s.IDs = append(s.IDs, i.key())
}

// event is a line of the upstream's diary.
type event struct {
	ID        string          `json:"id"`
	CreatedAt int64           `json:"created_at"`
	Level     string          `json:"level"`
	Message   string          `json:"message"`
	Type      string          `json:"type"`
	Data      json.RawMessage `json:"data"`
}

func (e event) key() string    { return e.ID }
func (e event) created() int64 { return e.CreatedAt }

type checkpoint struct {
	ID        string          `json:"id"`
	CreatedAt int64           `json:"created_at"`
	Step      int64           `json:"step_number"`
	Metrics   json.RawMessage `json:"metrics"`
}

func (c checkpoint) key() string    { return c.ID }
func (c checkpoint) created() int64 { return c.CreatedAt }

// mirror tells of the job until it has ended, and returns what became of it.
func (w *work) mirror(ctx context.Context) (job, error) {
	w.told = w.readProgress()
	for wait := w.cfg.PollMin; ; {
		j, err := w.look(ctx, w.up)
		if status(err) == http.StatusNotFound {
			return job{}, &finetune.Failure{
				Code: finetune.CodeTrainer, Message: "The server that fine-tunes this model does not know the job any more.",
			}
		}
		// A refusal of any other kind is the platform's to mend, and the job goes on.
		if err != nil {
			return job{}, err
		}
		w.rename(j.ID, w.run.Job.ID)
		w.rename(j.FineTunedModel, w.run.Job.Model)
		w.rename(j.TrainingFile, filepath.Base(w.run.Train))
		w.rename(j.ValidationFile, filepath.Base(w.run.Validation))
		n, err := w.tell(ctx, j.ended())
		if err != nil {
			return job{}, err
		}
		if j.ended() {
			return j, nil
		}
		if n > 0 {
			wait = w.cfg.PollMin
		}
		if !sleep(ctx, wait) {
			return job{}, ctx.Err()
		}
		wait = min(wait*3/2, w.cfg.PollMax)
	}
}

// rename has what an upstream calls something go by our name for it.
func (w *work) rename(theirs, ours string) {
	if theirs != "" && ours != "" && !slices.Contains(w.names, theirs) {
		w.names = append(w.names, theirs, ours)
	}
}

// tell relays what is new, and returns how much that was. A diary that can't be read
// just now is read at the next look; at the last one with patience, and then it is
// let go: it isn't worth a model.
func (w *work) tell(ctx context.Context, last bool) (int, error) {
	reader := *w.Trainer
	if !last {
		reader.cfg.Patience = 0
	}
	events, err := news[event](ctx, &reader, jobPath(w.up)+"/events", &w.told.Events)
	if err != nil {
		w.cfg.Logger.InfoContext(ctx, "upstream events can't be read", "job", w.run.Job.ID, "error", err)
	}
	n, err := relay(ctx, w, events, &w.told.Events, func(e event) finetune.Event {
		out := finetune.Event{Level: "info", Message: w.clean(e.Message)}
		if e.Level == "warn" || e.Level == "error" {
			out.Level = e.Level
		}
		if e.Type == "metrics" { // a message's data may have the upstream's own names in it
			out.Step, out.Metrics = metrics(e.Data)
		}
		if out.Message == "" && out.Metrics == nil {
			out.Message = "The upstream notes an event without words"
		}
		return out
	})
	if err != nil || ctx.Err() != nil {
		return n, errors.Join(err, ctx.Err())
	}
	if n == 0 && !last {
		return 0, nil // a checkpoint is an event as well
	}
	checkpoints, err := news[checkpoint](ctx, &reader, jobPath(w.up)+"/checkpoints", &w.told.Checkpoints)
	if err != nil {
		w.cfg.Logger.InfoContext(ctx, "upstream checkpoints can't be read", "job", w.run.Job.ID, "error", err)
	}
	m, err := relay(ctx, w, checkpoints, &w.told.Checkpoints, func(c checkpoint) finetune.Event {
		_, values := metrics(c.Metrics)
		if values == nil {
			values = map[string]float64{}
		}
		return finetune.Event{Message: fmt.Sprintf("Checkpoint at step %d", c.Step), Step: max(0, c.Step), Metrics: values, Checkpoint: true}
	})
	return n + m, err
}

// maxNews bounds what is relayed after one look; older news than that are left out.
const maxNews = 10_000

// news returns what a list has beyond what was seen, oldest first, and what it read
// before an error.
func news[T item](ctx context.Context, t *Trainer, path string, s *seen) ([]T, error) {
	var fresh []T
	err := pages(ctx, t, path, url.Values{"limit": {"100"}}, func(p []T) bool {
		for _, i := range p {
			if i.key() != "" && !s.has(i) {
				fresh = append(fresh, i)
			}
		}
		return p[len(p)-1].created() >= s.At && len(fresh) < maxNews
	})
	if err != nil {
		// Newest first: telling of these would leave out the older ones for good.
		return nil, err
	}
	slices.Reverse(fresh)
	slices.SortStableFunc(fresh, func(a, b T) int { return int(a.created() - b.created()) })
	return fresh, nil
}

// batch is how many reports stand behind one note of progress.
const batch = 50

// relay reports items, each once: it is noted first, so that a kill in between can
// lose a batch of a diary's lines and never doubles one.
func relay[T item](ctx context.Context, w *work, items []T, s *seen, as func(T) finetune.Event) (n int, err error) {
	for part := range slices.Chunk(items, batch) {
		before := seen{s.At, slices.Clone(s.IDs)}
		for _, i := range part {
			s.add(i)
		}
		if err := w.saveProgress(ctx); err != nil {
			*s = before
			return n, err
		}
		for _, i := range part {
			if err := w.run.Report(ctx, as(i)); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

func (w *work) readProgress() progress {
	var p progress
	b, err := os.ReadFile(filepath.Join(w.run.Checkpoints, progressFile))
	if err != nil || json.Unmarshal(b, &p) != nil || p.Job != w.up {
		return progress{Job: w.up} // nothing was told, or of another job
	}
	return p
}

func (w *work) saveProgress(ctx context.Context) error {
	b, err := json.Marshal(w.told)
	if err != nil {
		return err
	}
	path := filepath.Join(w.run.Checkpoints, progressFile)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return w.run.Saved(ctx, progressFile)
}

// maxMetrics is more than any upstream reports of one step.
const maxMetrics = 32

// metrics reads the numbers of an object and, among them, the step.
func metrics(raw json.RawMessage) (step int64, values map[string]float64) {
	var all map[string]any
	if json.Unmarshal(raw, &all) != nil {
		return 0, nil
	}
	values = map[string]float64{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		v, ok := all[name].(float64)
		switch {
		case !ok || !word.MatchString(name) || math.Abs(v) > 1e15:
		case name == "step":
			step = int64(max(0, v))
		case len(values) < maxMetrics:
			values[name] = v
		}
	}
	if len(values) == 0 {
		return step, nil
	}
	return step, values
}
