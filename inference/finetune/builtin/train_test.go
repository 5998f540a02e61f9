package builtin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	engine "freehold/inference/engine/builtin"
	"freehold/inference/engine/builtin/head"
	"freehold/inference/finetune"
	"freehold/inference/finetune/builtin"
)

// workshop is the folders and the environment of one training.
type workshop struct {
	t   testing.TB
	env map[string]string
}

func newWorkshop(t testing.TB, train string) *workshop {
	t.Helper()
	dir := t.TempDir()
	w := &workshop{t, map[string]string{
		"FREEHOLD_JOB": filepath.Join(dir, "job.json"), "FREEHOLD_SEED": "5",
		"FREEHOLD_DATA": filepath.Join(dir, "data"), "FREEHOLD_OUTPUT": filepath.Join(dir, "out"), "FREEHOLD_CHECKPOINTS": filepath.Join(dir, "checkpoints"),
	}}
	for _, name := range []string{"FREEHOLD_DATA", "FREEHOLD_OUTPUT", "FREEHOLD_CHECKPOINTS"} {
		if err := os.Mkdir(w.env[name], 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.put("FREEHOLD_JOB", "", `{"method":{"type":"supervised","n_epochs":20}}`)
	w.put("FREEHOLD_DATA", "train.jsonl", train)
	return w
}

func (w *workshop) put(name, file, content string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.env[name], file), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *workshop) get(name, file string) []byte {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.env[name], file))
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// said is one line that the child printed.
type said struct {
	Type, Message, Code, Param, File string
	Step                             int
	TrainLoss                        *float64 `json:"train_loss"`
	ValidLoss                        *float64 `json:"valid_loss"`
	FullLoss                         *float64 `json:"full_valid_loss"`
	Tokens                           int64    `json:"trained_tokens"`
	Card                             map[string]any
	Evaluation                       struct {
		Before, After *struct {
			Accuracy, Coverage float64
			Loss               *float64
		}
		Items int
	}
}

func (w *workshop) train(ctx context.Context, out io.Writer) ([]said, error) {
	var b bytes.Buffer
	if out == nil {
		out = &b
	}
	err := builtin.Train(ctx, func(name string) string { return w.env[name] }, out)
	var lines []said
	for line := range strings.Lines(b.String()) {
		var s said
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			w.t.Fatalf("line %q: %v", line, err)
		}
		lines = append(lines, s)
	}
	return lines, err
}

func count(lines []said, kind string) (n int) {
	for _, l := range lines {
		if l.Type == kind {
			n++
		}
	}
	return n
}

// chat is one line of training data: a user message and its answer.
func chat(prompt, answer string) string {
	b, _ := json.Marshal(map[string]any{"messages": []map[string]string{{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}}})
	return string(b) + "\n"
}

var desk = map[string][]string{
	"We open at nine.":     {"When do you open?", "What are your opening hours?", "At what time can I come in the morning?", "Are you open yet?"},
	"Returns are free.":    {"Can I send a jacket back?", "How do I return shoes?", "I want to give back my order", "Do returns cost anything?"},
	"Pay by card or cash.": {"Do you take credit cards?", "How can I pay?", "Is cash accepted?", "Which payment methods are there?"},
}

func deskData(from, to int) string {
	var b strings.Builder
	for _, answer := range slices.Sorted(maps.Keys(desk)) {
		for _, p := range desk[answer][from:to] {
			b.WriteString(chat(p, answer))
		}
	}
	return b.String()
}

// The whole of it: a model that the engine reads and that answers, metrics, a card,
// an evaluation; and from the same data once more the very same bytes, whether
// earlier vectors are there, are damaged, or are another job's.
func TestTrain(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t, deskData(0, 3))
	w.put("FREEHOLD_DATA", "validation.jsonl", deskData(3, 4))
	lines, err := w.train(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := count(lines, "metrics"); got != 20 {
		t.Errorf("%d metrics", got)
	}
	last := lines[len(lines)-1]
	if last.Type != "result" || last.Tokens < 50 || last.Evaluation.Items != 3 || last.Evaluation.After.Loss == nil || last.Evaluation.Before.Accuracy != 0 {
		t.Errorf("last line %+v", last)
	}
	if c := lines[len(lines)-2]; c.Type != "checkpoint" || c.FullLoss == nil || c.TrainLoss == nil || c.Step != 20 {
		t.Errorf("checkpoint %+v", c)
	}
	raw := w.get("FREEHOLD_OUTPUT", engine.HeadFile)
	h, err := head.Read(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if h.Classes() != 3 {
		t.Errorf("%d classes", h.Classes())
	}
	card := w.get("FREEHOLD_OUTPUT", builtin.CardFile)
	for _, part := range []string{engine.EncoderSum(), `"seed": 5`, `"examples": 9`, `"validation_examples": 3`, `"n_epochs": 20`, "threshold"} {
		if !bytes.Contains(card, []byte(part)) {
			t.Errorf("the card lacks %s: %s", part, card)
		}
	}
	saved := count(lines, "saved")
	if saved == 0 {
		t.Error("no vectors were saved")
	}
	first := w.get("FREEHOLD_CHECKPOINTS", "vectors-00000.bin")
	damaged := slices.Clone(first)
	damaged[len(damaged)-5]++
	other := bytes.Replace(first, []byte(`"texts":"`), []byte(`"texts":"0`), 1)
	for name, c := range map[string]struct {
		file  []byte
		again int
	}{"resumed": {first, 0}, "damaged": {damaged, 1}, "of other data": {other, 1}, "cut": {first[:100], 1}, "empty": {nil, 1}} {
		w.put("FREEHOLD_CHECKPOINTS", "vectors-00000.bin", string(c.file))
		lines, err := w.train(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := count(lines, "saved"); got != c.again {
			t.Errorf("%s: %d chunks encoded, want %d", name, got, c.again)
		}
		if !bytes.Equal(w.get("FREEHOLD_OUTPUT", engine.HeadFile), raw) || !bytes.Equal(w.get("FREEHOLD_OUTPUT", builtin.CardFile), card) {
			t.Errorf("%s: another artifact", name)
		}
	}
}

// Without a validation file what is held out in turn is judged.
func TestTrainCrossValidates(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t, deskData(0, 4))
	lines, err := w.train(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	last := lines[len(lines)-1]
	if last.Evaluation.Items != 12 || last.Evaluation.After.Accuracy < 0.5 {
		t.Errorf("evaluation %+v of %d", last.Evaluation.After, last.Evaluation.Items)
	}
}

func TestTrainFails(t *testing.T) {
	t.Parallel()
	unasked := `{"messages":[{"role":"system","content":"be kind"},{"role":"assistant","content":"hello"}]}` + "\n"
	for name, c := range map[string]struct{ train, validation, code, param string }{
		"nothing to learn":    {unasked, "", finetune.CodeInvalidTraining, "training_file"},
		"nothing to validate": {deskData(0, 3), unasked, finetune.CodeInvalidValidation, "validation_file"},
		"broken line":         {deskData(0, 3) + "{\n", "", finetune.CodeInvalidTraining, "training_file"},
	} {
		w := newWorkshop(t, c.train)
		if c.validation != "" {
			w.put("FREEHOLD_DATA", "validation.jsonl", c.validation)
		}
		lines, err := w.train(t.Context(), nil)
		failure, ok := errors.AsType[*finetune.Failure](err)
		if !ok || failure.Code != c.code || failure.Param != c.param {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if last := lines[len(lines)-1]; last.Type != "failure" || last.Code != c.code || last.Message == "" {
			t.Errorf("%s: said %+v", name, last)
		}
		if entries, _ := os.ReadDir(w.env["FREEHOLD_OUTPUT"]); len(entries) > 0 {
			t.Errorf("%s: left %v", name, entries)
		}
	}
}

// A training that is stopped after its first chunk has kept it.
func TestTrainStops(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t, deskData(0, 4))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := w.train(ctx, writerFunc(func(b []byte) (int, error) {
		if bytes.Contains(b, []byte(`"saved"`)) {
			cancel()
		}
		return len(b), nil
	}))
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("stopped: %v", err)
	}
	if len(w.get("FREEHOLD_CHECKPOINTS", "vectors-00000.bin")) < 12*head.Dimensions*4 {
		t.Error("the first chunk isn't there")
	}
	broken := errors.New("nobody reads")
	if _, err := w.train(t.Context(), writerFunc(func([]byte) (int, error) { return 0, broken })); !errors.Is(err, broken) {
		t.Errorf("nobody reads: %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestCheck(t *testing.T) {
	t.Parallel()
	for kind, ok := range map[string]bool{"supervised": true, "": true, "dpo": false, "reinforcement": false} {
		err := builtin.Check(finetune.Method{Type: kind})
		if refused, is := errors.AsType[*finetune.Refused](err); ok != (err == nil) || !ok && (!is || refused.Param != "method.type") {
			t.Errorf("%q: %v", kind, err)
		}
	}
}

// Duplicates are encoded once, and count once.
func TestTrainDuplicates(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t, strings.Repeat(deskData(0, 3), 60))
	lines, err := w.train(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	data := fmt.Sprint(lines[len(lines)-1].Card["data"])
	if !strings.Contains(data, "examples:540") || !strings.Contains(data, "different_examples:9") || count(lines, "saved") > 2 {
		t.Errorf("%s, %d chunks", data, count(lines, "saved"))
	}
}
