package finetune

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/tenantdb"
)

// train makes the model and registers it.
func (r *run) train(ctx context.Context) error {
	if r.job.State == tenantdb.JobQueued {
		err := r.advance(ctx, tenantdb.JobRunning, Event{Message: "Training started"})
		if err != nil {
			return err
		}
	}
	r.cfg.At("running")
	base, err := r.cfg.Model(ctx, r.job.Base)
	if errors.Is(err, catalog.ErrNotFound) {
		return &Failure{Code: CodeModel, Param: "model", Message: "The base model is not offered any more."}
	}
	if err != nil {
		return err
	}
	trainer, err := r.cfg.Trainer(ctx, r.job.Trainer, base)
	if err != nil {
		return fmt.Errorf("make trainer: %w", err)
	}
	t, card, err := r.prepare(ctx, base)
	if err != nil {
		return err
	}
	r.cfg.At("prepared")
	told := &diary{run: r}
	t.Report = told.report
	result, err := trainer.Train(ctx, t)
	r.made = err == nil
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return errors.Join(err, told.flush(ctx))
	}
	if err := r.insist(ctx, func() error { return told.flush(ctx) }); err != nil {
		return err
	}
	r.cfg.At("trained")
	return r.insist(ctx, func() error { return r.register(ctx, t, result, card) })
}

// insistTime is how long what was trained is held while a part of the platform is away.
const insistTime = 10 * time.Minute

// insist has what follows a training done, which may have taken hours and isn't to be
// done again because a database is away for a moment.
func (r *run) insist(ctx context.Context, fn func() error) error {
	until := time.Now().Add(insistTime)
	for {
		err := fn()
		if err == nil || !waits(err) || time.Now().After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(r.cfg.Retry):
		}
	}
}

// plan is the run as a trainer gets it, before there is data.
func (r *run) plan(base catalog.Model) *Run {
	t := &Run{
		Job:      Job{ID: JobPrefix + r.job.ID.String(), Model: r.job.Model, Base: base, Suffix: r.job.Suffix, Seed: r.job.Seed},
		Out:      filepath.Join(r.dir, "out"),
		Upstream: r.job.Upstream, Slot: r.slot,
		Objects: r.cfg.Objects(r.item.Tenant), Staging: tenantdb.ModelPrefix(r.job.ID) + stagingPrefix,
		Checkpoints: filepath.Join(r.dir, "checkpoints"),
	}
	t.SetUpstream = func(ctx context.Context, id string) error {
		return lost(r.tenant(ctx, func(ctx context.Context, db *tenantdb.DB) error {
			return db.SetJobUpstream(ctx, r.job.ID, r.item.Token, id)
		}))
	}
	t.Saved = func(ctx context.Context, name string) error { return r.save(ctx, t.Checkpoints, name) }
	return t
}

// prepare fetches what a trainer works with into folders of the run's own.
func (r *run) prepare(ctx context.Context, base catalog.Model) (*Run, map[string]any, error) {
	if err := os.RemoveAll(r.dir); err != nil {
		return nil, nil, fmt.Errorf("make run's folder: %w", err)
	}
	t := r.plan(base)
	data := filepath.Join(r.dir, "data")
	for _, dir := range []string{r.dir, data, t.Out, t.Checkpoints} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, nil, fmt.Errorf("make run's folder: %w", err)
		}
	}
	if err := json.Unmarshal(r.job.Method, &t.Job.Method); err != nil {
		return nil, nil, &Failure{Code: CodeInternal, Message: "The job's method can't be read."}
	}
	card, err := r.hide(ctx, t, data)
	if err != nil {
		return nil, nil, err
	}
	return t, card, r.restore(ctx, t.Checkpoints)
}

// byArtifact is the trainer whose models the built-in engine serves by their
// artifact; others name them at an engine.
const byArtifact = "builtin"

// register stores what was made, and makes it a model of the tenant's: in one
// transaction with the job's end, which only who still has the job commits.
func (r *run) register(ctx context.Context, t *Run, result Result, card map[string]any) error {
	for name, value := range result.Card {
		if _, ours := card[name]; !ours {
			card[name] = value
		}
	}
	card["trained_tokens"] = result.TrainedTokens
	if result.Upstream == "" && r.job.Trainer != byArtifact {
		return &Failure{Code: CodeTrainer, Message: "The trainer named no model at an engine that could serve it."}
	}
	a, err := r.store(ctx, t.Out, card)
	if err != nil {
		return err
	}
	model := tenantdb.TunedModel{
		Engine: result.Engine, Upstream: result.Upstream, Artifact: a.prefix, Sum: a.sum, Bytes: a.bytes,
	}
	if model.Upstream != "" && model.Engine == "" {
		model.Engine = t.Job.Base.Engine // that its name is of, wherever its base moves
	}
	if model.Card, err = json.Marshal(card); err != nil {
		return fmt.Errorf("write model card: %w", err)
	}
	r.cfg.At("uploaded")
	file, err := r.results(ctx, result, card)
	if err != nil {
		return err
	}
	r.cfg.At("results")
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	err = r.tenant(ctx, func(ctx context.Context, db *tenantdb.DB) error {
		return db.FinishJob(ctx, r.actor(), r.job.ID, r.item.Token, tenantdb.Finish{
			Model: model, Result: &file, TrainedTokens: result.TrainedTokens,
			Events: []tenantdb.JobEvent{jobEvent(Event{Message: "Model " + r.job.Model + " is ready"})},
		})
	})
	if err != nil && !succeeded(err) { // it has, where the answer to an earlier try was lost
		return lost(err)
	}
	r.cfg.At("registered")
	return nil
}

// results stores the job's result file. Its id is the job's own doing: a second try
// writes the same one.
func (r *run) results(ctx context.Context, result Result, card map[string]any) (tenantdb.File, error) {
	content := map[string]any{
		"object": "fine_tuning.result", "job": JobPrefix + r.job.ID.String(), "model": r.job.Model, "card": card,
		"evaluation": result.Evaluation,
	}
	b, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return tenantdb.File{}, fmt.Errorf("write results: %w", err)
	}
	sum := sha256.Sum256(b)
	file := tenantdb.File{
		ID: resultID(r.job.ID), Purpose: tenantdb.PurposeResults, Name: "results.json",
		Bytes: int64(len(b)), Sum: sum[:], CreatedAt: time.Now(),
	}
	// The row first: an object without one would be nobody's.
	err = r.tenant(ctx, func(ctx context.Context, db *tenantdb.DB) error { return db.BeginFile(ctx, file) })
	if err != nil {
		return tenantdb.File{}, err
	}
	return file, storeErr("store results", r.cfg.Objects(r.item.Tenant).Put(ctx, tenantdb.FileKey(file.ID), bytes.NewReader(b)))
}

// resultID is the uuid v7 of a job's result file: of the job's moment.
func resultID(job uuid.UUID) uuid.UUID {
	sum := sha256.Sum256(append([]byte("result "), job[:]...))
	id := job
	copy(id[6:], sum[:10])
	id[6] = 0x70 | id[6]&0x0f
	id[8] = 0x80 | id[8]&0x3f
	return id
}

func (r *run) advance(ctx context.Context, state string, events ...Event) error {
	var list []tenantdb.JobEvent
	for _, e := range events {
		list = append(list, jobEvent(e))
	}
	return lost(r.tenant(ctx, func(ctx context.Context, db *tenantdb.DB) error {
		return db.AdvanceJob(ctx, r.job.ID, r.item.Token, state, list)
	}))
}

const (
	// tellEvery is how often a run's metrics are written down, and tellMost how many
	// wait at most.
	tellEvery = time.Second
	tellMost  = 50
)

// waitMost is how many events wait while the tenant's database is away.
const waitMost = 1000

// diary writes a run's events down, metrics a few at a time. While the database is
// away they wait: that is no reason to stop.
type diary struct {
	run *run

	mu      sync.Mutex // guards what follows
	waiting []Event
	told    time.Time
	away    bool // the database was, the last time
}

func (d *diary) report(ctx context.Context, e Event) error {
	d.mu.Lock()
	d.waiting = append(d.waiting, e)
	now := !d.away && (e.Checkpoint || e.Metrics == nil || len(d.waiting) >= tellMost) || time.Since(d.told) >= tellEvery
	d.mu.Unlock()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if !now {
		return nil
	}
	err := d.flush(ctx)
	if err != nil && waits(err) && context.Cause(ctx) == nil {
		return nil
	}
	return err
}

func (d *diary) flush(ctx context.Context) error {
	d.mu.Lock()
	events := d.waiting
	d.waiting, d.told = nil, time.Now()
	d.mu.Unlock()
	if len(events) == 0 {
		return nil
	}
	err := d.run.report(ctx, events...)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away = err != nil && waits(err); d.away {
		d.waiting, d.told = append(events, d.waiting...), time.Now()
		d.waiting = d.waiting[max(0, len(d.waiting)-waitMost):]
	}
	return err
}

// sumOf is the sum of the sums of a run's files.
func sumOf(sums ...[]byte) string {
	h := sha256.New()
	for _, s := range sums {
		h.Write(s)
	}
	return hex.EncodeToString(h.Sum(nil))
}
