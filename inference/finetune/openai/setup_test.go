package openai_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"freehold/catalog"
	"freehold/inference/finetune"
	"freehold/inference/finetune/openai"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ground is an upstream, a trainer for it, and what one job's runs share.
type ground struct {
	testing.TB
	up      *upstream
	trainer *openai.Trainer
	log     *locked
	job     finetune.Job
	dir     string // of the data and of what was saved

	mu     sync.Mutex // guards what follows
	noted  string     // the upstream's id, as the job's row has it
	events []finetune.Event
	// report and setUpstream, when set, take the place of the rows.
	report      func(finetune.Event) error
	setUpstream func(string) error
}

type locked struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.String()
}

func setup(t testing.TB, adjust ...func(*openai.Config)) *ground {
	t.Helper()
	g := &ground{TB: t, up: startUpstream(t), log: &locked{}, dir: t.TempDir()}
	g.trainer = setupAt(t, g.up, g.log, adjust...)
	g.job = finetune.Job{
		ID: finetune.JobPrefix + uuid.Must(uuid.NewV7()).String(), Model: "ft:answer:acme:s:12345678",
		Base: catalog.Model{Name: "answer", Engine: "there", Upstream: "gpt-up"}, Suffix: "s", Seed: 7,
		Method: finetune.Method{Type: "supervised", Epochs: 2},
	}
	for name, n := range map[string]int{"train": 12, "validation": 3} {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `{"messages":[{"role":"user","content":"%s %d"},{"role":"assistant","content":"yes"}]}`+"\n", name, i)
		}
		if err := os.WriteFile(filepath.Join(g.dir, name+".jsonl"), []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// setupAt makes a trainer for an upstream.
func setupAt(t testing.TB, up *upstream, log io.Writer, adjust ...func(*openai.Config)) *openai.Trainer {
	t.Helper()
	cfg := openai.Config{
		BaseURL: up.url, Key: key, Engine: "there", PollMin: time.Millisecond, PollMax: 4 * time.Millisecond,
		Patience: 2 * time.Second, Timeout: 2 * time.Second, Logger: slog.New(slog.NewTextHandler(log, nil)),
	}
	for _, f := range adjust {
		f(&cfg)
	}
	trainer, err := openai.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = trainer.Close() })
	return trainer
}

// try is one run of the job, as a worker makes them: folders are new each time, and
// only what was saved is there again.
func (g *ground) try(ctx context.Context) (finetune.Result, error) {
	g.Helper()
	kept, folder := filepath.Join(g.dir, "kept"), g.TempDir()
	if err := os.MkdirAll(kept, 0o700); err != nil {
		g.Fatal(err)
	}
	if err := os.CopyFS(folder, os.DirFS(kept)); err != nil {
		g.Fatal(err)
	}
	g.mu.Lock()
	run := &finetune.Run{
		Job: g.job, Train: filepath.Join(g.dir, "train.jsonl"), Validation: filepath.Join(g.dir, "validation.jsonl"), Examples: 12,
		DataSum: strings.Repeat("ab", 32), Out: g.TempDir(), Checkpoints: folder, Upstream: g.noted,
		Saved: func(_ context.Context, name string) error {
			b, err := os.ReadFile(filepath.Join(folder, name))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(kept, name), b, 0o600)
		},
		Report: func(ctx context.Context, e finetune.Event) error {
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.report != nil {
				if err := g.report(e); err != nil {
					return err
				}
			}
			g.events = append(g.events, e)
			return context.Cause(ctx)
		},
		SetUpstream: func(ctx context.Context, id string) error {
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.setUpstream != nil {
				if err := g.setUpstream(id); err != nil {
					return err
				}
			}
			if err := context.Cause(ctx); err != nil {
				return err
			}
			g.noted = id
			return nil
		},
	}
	g.mu.Unlock()
	res, err := g.trainer.Train(ctx, run)
	if err != nil {
		g.quiet("an error", fmt.Sprintf("%v %+v", err, err))
		if f, ok := errors.AsType[*finetune.Failure](err); ok {
			g.quiet("a failure", fmt.Sprintf("%+v", *f))
		}
	}
	g.quiet("the log", g.log.String())
	return res, err
}

// quiet checks that a text holds no key.
func (g *ground) quiet(what, text string) {
	g.Helper()
	if strings.Contains(text, key) {
		g.Errorf("%s holds the key: %s", what, text)
	}
}

// made checks a try that made the model.
func (g *ground) made(res finetune.Result, err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
	if res.Engine != "there" || !strings.HasPrefix(res.Upstream, "ft:gpt-up:org-ours:") || res.TrainedTokens != 4321 {
		g.Errorf("made %+v", res)
	}
}

// upstreamHas checks how many jobs, files and models there are.
func (g *ground) upstreamHas(jobs, files, models int) {
	g.Helper()
	g.up.mu.Lock()
	defer g.up.mu.Unlock()
	if len(g.up.jobs) != jobs || len(g.up.files) != files || len(g.up.models) != models {
		g.Errorf("the upstream has %d jobs, %d files, %d models; want %d, %d, %d",
			len(g.up.jobs), len(g.up.files), len(g.up.models), jobs, files, models)
	}
}

// toldOnce checks that no event stands there twice, in the upstream's order.
func (g *ground) toldOnce() {
	g.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	seen := map[string]bool{}
	for _, e := range g.events {
		line := fmt.Sprintf("%s %d %v", e.Message, e.Step, e.Checkpoint)
		if seen[line] {
			g.Errorf("told twice: %s", line)
		}
		seen[line] = true
		g.quiet("an event", line)
	}
}

func wantFailure(t testing.TB, err error, code string) *finetune.Failure {
	t.Helper()
	f, ok := errors.AsType[*finetune.Failure](err)
	if !ok {
		t.Fatalf("got %v, want a *finetune.Failure", err)
	}
	if f.Code != code || f.Message == "" || strings.ContainsAny(f.Message, "\r\n") || len(f.Message) > 2500 {
		t.Errorf("got %+v, want code %s", *f, code)
	}
	return f
}
