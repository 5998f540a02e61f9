package finetune

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"freehold/inference/finetune/dataset"
	"freehold/tenantdb"
	"freehold/tenantdb/blob"
)

// told is how many lines' errors an answer names; an event has a hundred.
const told = 5

// validate reads the job's files and says what is wrong with them.
func (r *run) validate(ctx context.Context) error {
	policy, err := r.policy(ctx)
	if err != nil {
		return err
	}
	train, err := r.check(ctx, r.job.TrainingFile, dataset.Options{Policy: policy}, CodeInvalidTraining, "training_file")
	if err != nil {
		return err
	}
	events := []Event{{
		Message: fmt.Sprintf("Training file validated: %d examples, about %d tokens", train.Examples, train.Tokens),
		Data:    map[string]any{"examples": train.Examples, "tokens": train.Tokens, "answers": train.Answers},
	}}
	events = append(events, warnings("Training file", train)...)
	if r.job.ValidationFile != nil {
		o := dataset.Options{Policy: policy, MinExamples: 1, Training: train.Prompts}
		validation, err := r.check(ctx, *r.job.ValidationFile, o, CodeInvalidValidation, "validation_file")
		if err != nil {
			return err
		}
		events = append(events, Event{Message: fmt.Sprintf("Validation file validated: %d examples", validation.Examples)})
		events = append(events, warnings("Validation file", validation)...)
	}
	r.cfg.At("validated")
	if err := r.advance(ctx, tenantdb.JobQueued, append(events, Event{Message: "Queued for training"})...); err != nil {
		return err
	}
	r.cfg.At("queued")
	return nil
}

func (r *run) policy(ctx context.Context) (dataset.Policy, error) {
	cfg, err := r.cfg.Policy(ctx, r.item.Tenant)
	if err != nil {
		return dataset.Policy{}, fmt.Errorf("read the tenant's policy: %w", err)
	}
	return dataset.PolicyOf(cfg), nil
}

// check reads one file: *Failure for one that nothing can be learnt from, with its
// first errors in an event.
func (r *run) check(ctx context.Context, file uuid.UUID, o dataset.Options, code, param string) (*dataset.Summary, error) {
	body, err := r.open(ctx, file, code, param)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	s, err := dataset.Validate(ctx, bufio.NewReaderSize(body, 1<<20), o)
	if err != nil {
		return nil, storeErr("read "+param, err)
	}
	if s.Valid() {
		return s, nil
	}
	err = r.report(ctx, Event{
		Level: "error", Message: fmt.Sprintf("%s has %d errors", param, s.ErrorCount),
		Data: map[string]any{"errors": s.Errors, "error_count": s.ErrorCount},
	})
	if err != nil {
		return nil, err
	}
	return nil, &Failure{Code: code, Message: s.Explain(told), Param: param}
}

// open opens one of the job's files; *Failure when it is gone. Its row was looked at
// when the job was made: since then it stays, also when it expires, until the job has
// ended.
func (r *run) open(ctx context.Context, file uuid.UUID, code, param string) (io.ReadCloser, error) {
	body, _, err := r.cfg.Objects(r.item.Tenant).Get(ctx, tenantdb.FileKey(file))
	if errors.Is(err, blob.ErrNotFound) {
		return nil, &Failure{Code: code, Message: "The file does not exist any more.", Param: param}
	}
	return body, storeErr("open "+param, err)
}

func warnings(what string, s *dataset.Summary) (list []Event) {
	for _, w := range s.Warnings {
		list = append(list, Event{
			Level: "warn", Message: what + ": " + w.Message,
			Data: map[string]any{"code": w.Code, "count": w.Count, "lines": w.Lines},
		})
	}
	return list
}

// hide writes the data as trainers get it, and returns what the model's card says
// of it.
func (r *run) hide(ctx context.Context, t *Run, dir string) (map[string]any, error) {
	policy, err := r.policy(ctx)
	if err != nil {
		return nil, err
	}
	t.Train = filepath.Join(dir, "train.jsonl")
	train, err := r.redact(ctx, r.job.TrainingFile, policy, t.Train, CodeInvalidTraining, "training_file")
	if err != nil {
		return nil, err
	}
	t.Examples = train.Examples
	sums := [][]byte{[]byte(train.Sum)}
	data := map[string]any{"training_sha256": train.Sum, "training_examples": train.Examples}
	hidden := train.Personal
	if r.job.ValidationFile != nil {
		t.Validation = filepath.Join(dir, "validation.jsonl")
		validation, err := r.redact(ctx, *r.job.ValidationFile, policy, t.Validation, CodeInvalidValidation, "validation_file")
		if err != nil {
			return nil, err
		}
		sums = append(sums, []byte(validation.Sum))
		data["validation_sha256"], data["validation_examples"] = validation.Sum, validation.Examples
		for entity, n := range validation.Personal {
			hidden[entity] += n
		}
	}
	t.DataSum = sumOf(sums...)
	return map[string]any{
		"format": "freehold-model-card/1", "model": r.job.Model, "base": r.job.Base, "trainer": r.job.Trainer,
		"job": t.Job.ID, "seed": r.job.Seed, "method": t.Job.Method, "data": data, "policy": policy.Describe(hidden),
	}, nil
}

func (r *run) redact(ctx context.Context, file uuid.UUID, policy dataset.Policy, path, code, param string) (dataset.Redacted, error) {
	body, err := r.open(ctx, file, code, param)
	if err != nil {
		return dataset.Redacted{}, err
	}
	defer func() { _ = body.Close() }()
	f, err := os.OpenFile(filepath.Clean(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return dataset.Redacted{}, fmt.Errorf("write training data: %w", err)
	}
	from := &source{Reader: body}
	done, err := dataset.Redact(ctx, bufio.NewReaderSize(from, 1<<20), f, policy)
	if _, bad := errors.AsType[*dataset.LineError](err); bad {
		// It passed: the policy has changed meanwhile, or the object.
		err = &Failure{Code: code, Message: "The file is not the one that was validated.", Param: param}
	} else if from.failed {
		err = storeErr("read "+param, err)
	}
	return done, errors.Join(err, f.Close())
}

// source remembers that it failed, to tell the store's faults from this machine's,
// which count as tries.
type source struct {
	io.Reader
	failed bool
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.failed = s.failed || err != nil && !errors.Is(err, io.EOF)
	return n, err
}
