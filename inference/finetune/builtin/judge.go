package builtin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"freehold/inference/engine/builtin"
	"freehold/inference/engine/builtin/head"
	"freehold/inference/finetune"
	"freehold/inference/finetune/evaluate"
)

// maxQuoted bounds how many bytes of prompts the base model looks for an answer in:
// it encodes each of their sentences.
const maxQuoted = 32 << 10

// judge says what the model is worth beside its base: by the validation file when
// there is one, else by held-out parts of the training file.
func (t *task) judge(ctx context.Context, h *head.Head, r head.Report, train, validation []lesson, vectorOf func(string) []float32) (evaluate.Report, error) {
	var (
		items   []evaluate.Item
		prompts []string
		out     = evaluate.Report{Data: "training file, cross-validated"}
	)
	if len(validation) > 0 {
		out.Data = "validation file"
		for _, e := range validation {
			v := h.Predict(e.text, vectorOf(e.text))
			items = append(items, evaluate.Item{Want: e.answer, Got: v.Answer, Abstained: v.Abstained,
				Scored: true, Probability: h.Probability(e.text, vectorOf(e.text), e.answer), Confidence: v.Confidence})
			prompts = append(prompts, e.prompt)
		}
	} else {
		// What is held out is known by its normalised text.
		written := make(map[string]string, len(train))
		for _, e := range train {
			written[e.text] = e.prompt
		}
		for _, held := range r.Held {
			items = append(items, evaluate.Item{Want: held.Want, Got: held.Got, Abstained: held.Abstained,
				Scored: true, Probability: held.Probable, Confidence: held.Confidence})
			prompts = append(prompts, written[held.Text])
		}
	}
	out.Items = len(items)
	after := evaluate.Evaluate(items)
	out.After = &after
	before, err := t.base(ctx, items, prompts)
	if err != nil {
		return out, err
	}
	out.Before = before
	return out, nil
}

// base asks the base model the same questions, without a context; nil when that
// would take too long.
func (t *task) base(ctx context.Context, items []evaluate.Item, prompts []string) (*evaluate.Result, error) {
	size := 0
	for _, p := range prompts {
		if len(builtin.Sentences(p)) > 1 {
			size += len(p)
		}
	}
	if size > maxQuoted || len(items) == 0 {
		return nil, nil //nolint:nilnil // a result that wasn't measured is no error
	}
	e, err := builtin.New()
	if err != nil {
		return nil, err
	}
	out := make([]evaluate.Item, 0, len(items))
	for i, p := range prompts {
		item := evaluate.Item{Want: items[i].Want, Abstained: true}
		if a, err := e.Answer(ctx, "", []builtin.Turn{{Role: "user", Text: p}}); err == nil && a.Found() {
			item.Got, item.Abstained = a.Text(), false
		} else if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		out = append(out, item)
	}
	result := evaluate.Evaluate(out)
	return &result, nil
}

// write leaves the artifact, the last checkpoint line and the result line.
func (t *task) write(h *head.Head, r head.Report, judged evaluate.Report, train, validation []lesson) error {
	f, err := os.OpenFile(filepath.Join(t.out, builtin.HeadFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write model: %w", err)
	}
	err = h.Write(f)
	info, unknown := f.Stat()
	if err = errors.Join(err, unknown, f.Close()); err != nil {
		return fmt.Errorf("write model: %w", err)
	}
	if info.Size() > head.MaxBytes { // nobody could load it
		return &finetune.Failure{Code: finetune.CodeInvalidTraining, Param: "training_file",
			Message: fmt.Sprintf("The questions and answers of the training file make a model of more than %d MB, the most that the built-in model can have.", head.MaxBytes>>20)}
	}
	sum, err := t.dataSum()
	if err != nil {
		return err
	}
	card := cardOf(t, r, judged, sum, len(train), len(validation))
	text, err := json.MarshalIndent(card, "", "  ")
	if err != nil {
		return fmt.Errorf("write card: %w", err)
	}
	if err := os.WriteFile(filepath.Join(t.out, CardFile), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write card: %w", err)
	}
	m := metrics{Type: "checkpoint", Step: r.Epochs, TrainLoss: r.TrainLoss, TrainAccuracy: r.TrainAccuracy}
	if judged.Items > 0 {
		m.FullLoss, m.FullAccuracy = judged.After.Loss, &judged.After.Accuracy
	}
	if err := t.say(m); err != nil {
		return err
	}
	report, err := json.Marshal(judged)
	if err != nil {
		return fmt.Errorf("write evaluation: %w", err)
	}
	var tokens int64
	for _, e := range train {
		tokens += int64(t.encoder.Tokens(e.text) + t.encoder.Tokens(e.answer))
	}
	return t.say(line{Type: "result", Tokens: tokens, Card: card, Evaluation: report})
}

// cardOf is the model card. Nothing in it depends on when, where or how often a
// training was begun.
func cardOf(t *task, r head.Report, judged evaluate.Report, sum string, train, validation int) map[string]any {
	asked := map[string]any{"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
	if t.method.Epochs > 0 {
		asked["n_epochs"] = t.method.Epochs
	}
	if t.method.BatchSize > 0 {
		asked["batch_size"] = t.method.BatchSize
	}
	if t.method.LearningRateMultiplier > 0 {
		asked["learning_rate_multiplier"] = t.method.LearningRateMultiplier
	}
	return map[string]any{
		"format":          "freehold-head-" + head.Format,
		"engine":          "builtin",
		"base":            builtin.AnswerModel,
		"encoder_sha256":  builtin.EncoderSum(),
		"data":            map[string]any{"sha256": sum, "examples": train, "different_examples": r.Examples, "answers": r.Classes, "answers_with_one_example": r.Singles, "validation_examples": validation},
		"seed":            t.seed,
		"hyperparameters": map[string]any{"asked": asked, "used": map[string]any{"n_epochs": r.Epochs, "batch_size": r.BatchSize, "learning_rate": r.LearningRate, "l2": r.Decay, "folds": r.Folds, "weights": r.Weights}},
		"metrics":         r,
		"threshold":       map[string]any{"value": r.Threshold, "chosen_by": r.Chosen},
		"evaluated_on":    judged.Data,
		"limits":          "It says one of the answers that it was trained on, or that it doesn't know. English only.",
	}
}

// dataSum is the SHA-256 of the files that were trained and validated on.
func (t *task) dataSum() (string, error) {
	sum := sha256.New()
	for _, path := range []string{t.train, t.validation} {
		if path == "" {
			continue
		}
		f, err := os.Open(filepath.Clean(path))
		if err != nil {
			return "", fmt.Errorf("sum data: %w", err)
		}
		one := sha256.New()
		_, err = io.Copy(one, f)
		_ = f.Close()
		if err != nil {
			return "", fmt.Errorf("sum data: %w", err)
		}
		sum.Write(one.Sum(nil))
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
