package builtin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"freehold/inference/engine/builtin"
	"freehold/inference/engine/builtin/head"
	"freehold/inference/finetune"
	"freehold/inference/finetune/dataset"
)

// CardFile is the model card's name in an artifact.
const CardFile = "card.json"

// task is one training, as its environment describes it.
type task struct {
	out, checkpoints  string
	train, validation string // files; validation may be empty
	seed              int64
	method            finetune.Method
	encoder           *builtin.Encoder
	say               func(line any) error
}

// lesson is an example, normalised.
type lesson struct {
	prompt string // as it stands
	text   string // as it is compared
	answer string
}

// Train is the child process: it trains a model as its environment asks, and tells
// on standard output how it goes, in the protocol of inference/finetune/command. When
// ctx ends it stops, and what has been encoded is kept in FREEHOLD_CHECKPOINTS. An
// error that trying again won't mend is a *finetune.Failure, and has been told.
func Train(ctx context.Context, env func(string) string, stdout io.Writer) error {
	t := &task{say: speaker(stdout)}
	err := t.setUp(env)
	if err == nil {
		err = t.do(ctx)
	}
	if failure, ok := errors.AsType[*finetune.Failure](err); ok {
		err = errors.Join(err, t.say(line{Type: "failure", Code: failure.Code, Message: failure.Message, Param: failure.Param}))
	}
	return err
}

func (t *task) setUp(env func(string) string) error {
	t.out, t.checkpoints = env("FREEHOLD_OUTPUT"), env("FREEHOLD_CHECKPOINTS")
	data := env("FREEHOLD_DATA")
	if t.out == "" || t.checkpoints == "" || data == "" {
		return errors.New("read environment: FREEHOLD_DATA, FREEHOLD_OUTPUT and FREEHOLD_CHECKPOINTS name folders")
	}
	t.train = filepath.Join(data, "train.jsonl")
	if path := filepath.Join(data, "validation.jsonl"); exists(path) {
		t.validation = path
	}
	var job struct {
		Seed   int64           `json:"seed"`
		Method finetune.Method `json:"method"`
	}
	raw, err := os.ReadFile(env("FREEHOLD_JOB"))
	if err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	if err := json.Unmarshal(raw, &job); err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	t.method, t.seed = job.Method, job.Seed
	if s := env("FREEHOLD_SEED"); s != "" {
		if t.seed, err = strconv.ParseInt(s, 10, 64); err != nil {
			return fmt.Errorf("read environment: FREEHOLD_SEED: %w", err)
		}
	}
	t.encoder, err = builtin.Load()
	return err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// do reads, encodes, fits, judges and writes.
func (t *task) do(ctx context.Context) error {
	train, err := t.read(ctx, t.train, finetune.CodeInvalidTraining, "training_file")
	if err != nil {
		return err
	}
	var validation []lesson
	if t.validation != "" {
		if validation, err = t.read(ctx, t.validation, finetune.CodeInvalidValidation, "validation_file"); err != nil {
			return err
		}
	}
	l := t.list(train, validation)
	vectors, err := t.encode(ctx, l.texts)
	if err != nil {
		return err
	}
	vectorOf := func(text string) []float32 { return vectors[l.at[text]] }
	o := head.Options{
		Seed: t.seed, Epochs: t.method.Epochs, BatchSize: t.method.BatchSize,
		LearningRateMultiplier: t.method.LearningRateMultiplier,
		Step:                   t.progress,
	}
	if l.answers {
		o.Answers = map[string][]float32{}
		for _, e := range train {
			o.Answers[e.answer] = vectorOf(head.Normalize(e.answer))
		}
	}
	examples := func(lessons []lesson) (out []head.Example) {
		for _, e := range lessons {
			out = append(out, head.Example{Text: e.text, Vector: vectorOf(e.text), Answer: e.answer})
		}
		return out
	}
	h, report, err := head.Fit(ctx, examples(train), examples(validation), o)
	switch {
	case errors.Is(err, head.ErrTooManyClasses):
		return &finetune.Failure{Code: finetune.CodeInvalidTraining, Param: "training_file",
			Message: fmt.Sprintf("The training file has more than %d different answers, the most that the built-in model learns.", head.MaxClasses)}
	case err != nil:
		return fmt.Errorf("fit: %w", err)
	}
	judged, err := t.judge(ctx, h, report, train, validation, vectorOf)
	if err != nil {
		return err
	}
	return t.write(h, report, judged, train, validation)
}

// read reads a file's examples.
func (t *task) read(ctx context.Context, path, code, param string) ([]lesson, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, fmt.Errorf("read examples: %w", err)
	}
	defer func() { _ = f.Close() }()
	var out []lesson
	for e, err := range dataset.Examples(ctx, f) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if bad, ok := errors.AsType[*dataset.LineError](err); ok {
			return nil, &finetune.Failure{Code: code, Param: param, Message: bad.Error()}
		}
		if err != nil {
			return nil, fmt.Errorf("read examples: %w", err)
		}
		out = append(out, lesson{e.Prompt, head.Normalize(e.Prompt), e.Answer})
	}
	if len(out) == 0 {
		return nil, &finetune.Failure{Code: code, Param: param,
			Message: "The file has no answer to learn: none of its assistant messages with a weight other than 0 follows a user message."}
	}
	return out, nil
}

// progress tells of an epoch.
func (t *task) progress(p head.Progress) error {
	m := metrics{Type: "metrics", Step: p.Step, TrainLoss: p.TrainLoss, TrainAccuracy: p.TrainAccuracy}
	if p.Validated > 0 {
		m.ValidLoss, m.ValidAccuracy = &p.ValidLoss, &p.ValidAccuracy
	}
	return t.say(m)
}

// line is a message of the protocol other than metrics.
type line struct {
	Type       string          `json:"type"`
	Level      string          `json:"level,omitempty"`
	Message    string          `json:"message,omitempty"`
	Code       string          `json:"code,omitempty"`
	Param      string          `json:"param,omitempty"`
	File       string          `json:"file,omitempty"`
	Tokens     int64           `json:"trained_tokens,omitempty"`
	Card       map[string]any  `json:"card,omitempty"`
	Evaluation json.RawMessage `json:"evaluation,omitempty"`
}

// metrics are of an epoch, or of a checkpoint.
type metrics struct {
	Type          string   `json:"type"`
	Step          int      `json:"step"`
	TrainLoss     float64  `json:"train_loss"`
	TrainAccuracy float64  `json:"train_mean_token_accuracy"`
	ValidLoss     *float64 `json:"valid_loss,omitempty"`
	ValidAccuracy *float64 `json:"valid_mean_token_accuracy,omitempty"`
	FullLoss      *float64 `json:"full_valid_loss,omitempty"`
	FullAccuracy  *float64 `json:"full_valid_mean_token_accuracy,omitempty"`
}

// speaker writes JSON lines.
func speaker(w io.Writer) func(line any) error {
	to := json.NewEncoder(w)
	return func(line any) error {
		if err := to.Encode(line); err != nil {
			return fmt.Errorf("tell: %w", err)
		}
		return nil
	}
}
