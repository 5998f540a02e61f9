package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"freehold/inference/finetune"
)

// hearing understands what one command prints. Its methods are called one after the
// other.
type hearing struct {
	run     *finetune.Run
	made    made
	failure *finetune.Failure

	allowed float64 // events that may be told now
	since   time.Time
	left    int // events that were left out
}

// spoken is a line, but for the metrics in it.
type spoken struct {
	Type    string      `json:"type"`
	Step    json.Number `json:"step"`
	Level   string      `json:"level"`
	Message string      `json:"message"`
	File    string      `json:"file"`
	Code    string      `json:"code"`
	Param   string      `json:"param"`
}

// made is a result line.
type made struct {
	Model         string          `json:"model"`
	Engine        string          `json:"engine"`
	TrainedTokens float64         `json:"trained_tokens"`
	Card          map[string]any  `json:"card"`
	Evaluation    json.RawMessage `json:"evaluation"`
}

// Bounds of what is passed on.
const (
	maxMetrics = 32
	maxMessage = 1000 // runes
	maxStep    = 1 << 52
	// burst events are told at once, and rate in a second after that.
	burst = 1000
	rate  = 20
)

var (
	metricName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	codeName   = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
)

// atEngine reports whether s can be how an engine, or a model at one, is called: it
// goes into requests and rows. Empty is none.
func atEngine(s string) bool {
	return len(s) <= 512 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// line hears one line. What isn't of the protocol says nothing.
func (h *hearing) line(ctx context.Context, line []byte) error {
	if len(line) == 0 || line[0] != '{' {
		return nil
	}
	var s spoken
	if json.Unmarshal(line, &s) != nil {
		return nil
	}
	switch s.Type {
	case "metrics", "checkpoint":
		return h.metrics(ctx, s, line)
	case "message":
		if s.Message = plain(s.Message); s.Message == "" || !h.may() {
			return nil
		}
		if !slices.Contains([]string{"warn", "error"}, s.Level) {
			s.Level = "info"
		}
		return h.run.Report(ctx, finetune.Event{Level: s.Level, Message: s.Message})
	case "saved":
		return h.saved(ctx, s.File)
	case "result":
		return h.heardResult(line)
	case "failure":
		h.failure = failureOf(s)
	}
	return nil
}

func (h *hearing) metrics(ctx context.Context, s spoken, line []byte) error {
	var members map[string]any
	step, err := s.Step.Float64()
	if json.Unmarshal(line, &members) != nil || s.Step != "" && (err != nil || step < 0 || step > maxStep) {
		return nil
	}
	e := finetune.Event{Level: "info", Step: int64(step), Metrics: map[string]float64{}, Checkpoint: s.Type == "checkpoint"}
	for name, member := range members {
		value, isNumber := member.(float64)
		if isNumber && name != "step" && metricName.MatchString(name) && len(e.Metrics) < maxMetrics {
			e.Metrics[name] = value
		}
	}
	switch loss, ok := e.Metrics["train_loss"]; {
	case e.Checkpoint:
		e.Message = fmt.Sprintf("Checkpoint created at step %d", e.Step)
	case len(e.Metrics) == 0:
		return nil
	case ok:
		e.Message = fmt.Sprintf("Step %d: training loss=%.2f", e.Step, loss)
	default:
		e.Message = fmt.Sprintf("Step %d", e.Step)
	}
	if !h.may() {
		return nil
	}
	return h.run.Report(ctx, e)
}

// saved keeps a file for the next try. A name that can't be kept is the command's
// mistake, and said at once: a job that starts from nothing each time would hide it.
func (h *hearing) saved(ctx context.Context, name string) error {
	if name == "" || name != filepath.Base(name) || name[0] == '.' || len(name) > 200 || strings.ContainsFunc(name, unicode.IsControl) {
		return errors.New("the command saved a file by a name that isn't one in FREEHOLD_CHECKPOINTS")
	}
	info, err := os.Lstat(filepath.Join(h.run.Checkpoints, name))
	if err != nil || !info.Mode().IsRegular() {
		return errors.New("the command saved a file that isn't in FREEHOLD_CHECKPOINTS")
	}
	return h.run.Saved(ctx, name)
}

func (h *hearing) heardResult(line []byte) error {
	// Into what is there: a member that is missing stays.
	if err := json.Unmarshal(line, &h.made); err != nil {
		return errors.New("the command printed a result with members of other types than the protocol's")
	}
	if !atEngine(h.made.Model) || !atEngine(h.made.Engine) {
		return errors.New("the command printed a result with a name that can't be one")
	}
	return nil
}

// result is what the command has said of its model.
func (h *hearing) result() finetune.Result {
	r := finetune.Result{Upstream: h.made.Model, Engine: h.made.Engine, Card: h.made.Card}
	if t := h.made.TrainedTokens; t > 0 && t < maxStep {
		r.TrainedTokens = int64(math.Round(t))
	}
	if len(h.made.Evaluation) > 0 && string(h.made.Evaluation) != "null" {
		r.Evaluation = h.made.Evaluation
	}
	return r
}

func failureOf(s spoken) *finetune.Failure {
	f := &finetune.Failure{Code: s.Code, Message: plain(s.Message), Param: s.Param}
	if !codeName.MatchString(f.Code) {
		f.Code = finetune.CodeTrainer
	}
	if f.Message == "" {
		f.Message = "The trainer could not make a model of this data."
	}
	if f.Param != "" && !codeName.MatchString(f.Param) {
		f.Param = ""
	}
	return f
}

// may thins out a flood: an event more may be told.
func (h *hearing) may() bool {
	now := time.Now()
	if h.since.IsZero() {
		h.allowed = burst
	} else {
		h.allowed = min(burst, h.allowed+now.Sub(h.since).Seconds()*rate)
	}
	h.since = now
	if h.allowed < 1 {
		h.left++
		return false
	}
	h.allowed--
	return true
}

// over tells, at the end, what wasn't.
func (h *hearing) over(ctx context.Context) error {
	if h.left == 0 {
		return nil
	}
	return h.run.Report(ctx, finetune.Event{Level: "warn", Message: fmt.Sprintf("%d events of the trainer were left out: there were too many", h.left)})
}

// plain is a text of one line and bounded length.
func plain(s string) string {
	var b strings.Builder
	n := 0
	for word := range strings.FieldsFuncSeq(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		if b.Len() > 0 {
			b.WriteByte(' ')
			n++
		}
		for _, r := range word {
			if n++; n > maxMessage {
				return strings.TrimSpace(b.String()) + "…"
			}
			b.WriteRune(r)
		}
	}
	return b.String()
}
