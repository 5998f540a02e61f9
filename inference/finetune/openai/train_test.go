package openai_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"freehold/inference/finetune"
	"freehold/inference/finetune/openai"
)

func TestNew(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]openai.Config{
		"no URL":      {Engine: "e"},
		"no engine":   {BaseURL: "http://up/v1"},
		"a password":  {BaseURL: "http://a:b@up/v1", Engine: "e"},
		"another way": {BaseURL: "ftp://up/v1", Engine: "e"},
		"a bad key":   {BaseURL: "http://up/v1", Engine: "e", Key: "a\nb"},
		"a bad wait":  {BaseURL: "http://up/v1", Engine: "e", PollMin: time.Minute},
	} {
		if _, err := openai.New(cfg); err == nil || strings.Contains(err.Error(), "a:b") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	tr, err := openai.New(openai.Config{BaseURL: "http://up/v1/", Engine: "e"})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Check(finetune.Method{Type: "supervised"}); err != nil {
		t.Error(err)
	}
	if r, ok := errors.AsType[*finetune.Refused](tr.Check(finetune.Method{Type: "dpo"})); !ok || r.Param != "method.type" {
		t.Errorf("dpo: %v", r)
	}
}

func TestTrains(t *testing.T) {
	t.Parallel()
	g := setup(t)
	var pushed, body []byte
	g.up.before = func(route string, _ http.ResponseWriter, r *http.Request) bool {
		if route == "POST /v1/fine_tuning/jobs" {
			var b bytes.Buffer
			_, _ = b.ReadFrom(r.Body)
			body = b.Bytes()
			r.Body = readCloser{bytes.NewReader(body)}
			g.up.mu.Lock()
			pushed = g.up.files[0].content
			g.up.mu.Unlock()
		}
		return false
	}
	res, err := g.try(t.Context())
	g.made(res, err)
	g.upstreamHas(1, 0, 1)
	want, err := os.ReadFile(filepath.Join(g.dir, "train.jsonl"))
	if err != nil || !bytes.Equal(pushed, want) {
		t.Errorf("the file arrived as %q, %v", pushed, err)
	}
	for _, part := range []string{
		`"model":"gpt-up"`, `"suffix":"s"`, `"seed":7`, `"metadata":{"freehold_job":"` + g.job.ID + `"}`, `"n_epochs":2`, `"batch_size":"auto"`,
	} {
		if !bytes.Contains(body, []byte(part)) {
			t.Errorf("the job lacks %s: %s", part, body)
		}
	}
	j := g.up.jobs[0]
	if j.key != g.job.ID || j.ValidationFile == nil || g.noted != j.ID {
		t.Errorf("job %+v, noted %s", j, g.noted)
	}
	if hyper := res.Card["hyperparameters"]; !reflect.DeepEqual(hyper, map[string]any{"n_epochs": 3.0, "batch_size": 1.0, "learning_rate_multiplier": 1.8}) {
		t.Errorf("card %v", res.Card)
	}

	g.toldOnce()
	var lines []string
	for _, e := range g.events {
		line := e.Level + " " + e.Message
		if e.Metrics != nil {
			line += fmt.Sprintf(" %d %v %v", e.Step, e.Metrics, e.Checkpoint)
		}
		lines = append(lines, line)
	}
	told := strings.Join(lines, "\n")
	for _, part := range []string{
		"info Created fine-tuning job: " + g.job.ID + "\ninfo Validating training file: train.jsonl\nwarn Files validated, moving job to queued state",
		"info Step 2/3: training loss=0.50 2 map[total_steps:3 train_loss:0.5 train_mean_token_accuracy:0.75] false",
		" Checkpoint at step 3 3 map[full_valid_loss:0.25 train_loss:0.5] true",
		"info New fine-tuned model created: ft:answer:acme:s:12345678\ninfo The job has successfully completed",
	} {
		if !strings.Contains(told, part) {
			t.Errorf("the tenant wasn't told\n%s\nbut\n%s", part, told)
		}
	}
	if strings.Contains(told, "org-ours") || strings.Contains(told, j.ID) {
		t.Errorf("the upstream's names are told:\n%s", told)
	}
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

// An answer that is lost, at any call, makes nothing twice.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	for _, route := range []string{
		"GET /v1/files", "POST /v1/files", "GET /v1/fine_tuning/jobs", "POST /v1/fine_tuning/jobs", "GET /v1/fine_tuning/jobs/{id}",
		"GET /v1/fine_tuning/jobs/{id}/events", "GET /v1/fine_tuning/jobs/{id}/checkpoints", "DELETE /v1/files/{id}",
	} {
		t.Run(route, func(t *testing.T) {
			t.Parallel()
			g := setup(t)
			g.up.lose[route] = 2
			g.made(g.try(t.Context()))
			g.upstreamHas(1, 0, 1)
			g.toldOnce()
			if g.up.uploads != size(g, "train.jsonl")+size(g, "validation.jsonl") {
				t.Errorf("%d bytes were pushed", g.up.uploads)
			}
		})
	}
}

func size(g *ground, name string) int64 {
	info, err := os.Stat(filepath.Join(g.dir, name))
	if err != nil {
		g.Fatal(err)
	}
	return info.Size()
}

// A run that is killed anywhere is followed by one that goes on: there is one job,
// and nothing is told twice.
func TestKilled(t *testing.T) {
	t.Parallel()
	for server, like := range map[string]func(*upstream){
		"OpenAI's":                    func(*upstream) {},
		"one that knows no filter":    func(u *upstream) { u.ignoresFilter = true },
		"one that refuses the filter": func(u *upstream) { u.refusesFilter = true },
		"one without metadata":        func(u *upstream) { u.keepsNoMetadata, u.ignoresFilter = true, true },
	} {
		for at := range 12 {
			t.Run(fmt.Sprintf("%s at %d", server, at), func(t *testing.T) {
				t.Parallel()
				g := setup(t)
				like(g.up)
				// The kill is the end of a context that nothing outlives, at the nth
				// call: half of them before it has any effect, half after.
				ctx, kill := context.WithCancelCause(t.Context())
				defer kill(nil)
				calls := 0
				g.up.before = func(route string, _ http.ResponseWriter, r *http.Request) bool {
					g.up.mu.Lock()
					calls++
					now := calls == at+1
					g.up.mu.Unlock()
					if now {
						kill(finetune.ErrLost)
						if at%2 == 0 {
							panic(http.ErrAbortHandler)
						}
					}
					return false
				}
				if _, err := g.try(ctx); !errors.Is(err, finetune.ErrLost) {
					t.Fatalf("killed: %v", err)
				}
				// The next worker comes a lease later: what was on its way has arrived.
				for deadline := time.Now().Add(10 * time.Second); g.up.atWork.Load() > 0 && time.Now().Before(deadline); {
					time.Sleep(time.Millisecond)
				}
				g.made(g.try(t.Context()))
				g.upstreamHas(1, 0, 1)
				g.toldOnce()
			})
		}
	}
}

// Between the job's creation and its note, and in the middle of a report.
func TestKilledBetween(t *testing.T) {
	t.Parallel()
	g := setup(t)
	g.setUpstream = func(string) error { return finetune.ErrLost }
	if _, err := g.try(t.Context()); !errors.Is(err, finetune.ErrLost) {
		t.Fatal(err)
	}
	g.upstreamHas(1, 2, 0)
	g.setUpstream = nil
	n := 0
	g.report = func(finetune.Event) error {
		if n++; n == 2 {
			return finetune.ErrLost
		}
		return nil
	}
	if _, err := g.try(t.Context()); !errors.Is(err, finetune.ErrLost) {
		t.Fatal(err)
	}
	g.report = nil
	g.made(g.try(t.Context()))
	g.made(g.try(t.Context())) // killed before its end was recorded
	g.upstreamHas(1, 0, 1)
	g.toldOnce()
}

// Jobs that came of requests thought lost: one counts, the others end.
func TestDuplicates(t *testing.T) {
	t.Parallel()
	g := setup(t)
	tag := map[string]string{"freehold_job": g.job.ID}
	g.up.mu.Lock()
	first := g.up.addJob("file-x", tag)
	first.CreatedAt -= 10
	g.up.addJob("file-x", tag)
	over := g.up.addJob("file-x", tag)
	over.Status = "cancelled"
	foreign := g.up.addJob("file-y", map[string]string{"freehold_job": "ftjob-another"})
	g.up.files = append(g.up.files, &upFile{ID: "file-y", Filename: "freehold-ftjob-another-train.jsonl", Purpose: "fine-tune", CreatedAt: time.Now().Unix()})
	g.up.mu.Unlock()
	g.made(g.try(t.Context()))
	g.upstreamHas(4, 1, 1)
	if g.noted != first.ID || g.up.jobs[1].Status != "cancelled" || foreign.Status != "validating_files" {
		t.Errorf("noted %s; %+v", g.noted, g.up.jobs)
	}
}

// Lists are read as far as need be: pages that hold nothing of ours, and none that
// are older than the job.
func TestBusyUpstream(t *testing.T) {
	t.Parallel()
	g := setup(t)
	g.up.ignoresFilter = true
	old := time.Now().Add(-48 * time.Hour).Unix()
	for i := range 1000 {
		at := old
		if i >= 850 {
			at = time.Now().Unix()
		}
		g.up.files = append(g.up.files, &upFile{ID: id("file-"), Filename: "x", Purpose: "fine-tune", CreatedAt: at})
		j := g.up.addJob("file-x", nil)
		j.CreatedAt = at
	}
	g.setUpstream = func(string) error { return finetune.ErrLost }
	if _, err := g.try(t.Context()); !errors.Is(err, finetune.ErrLost) {
		t.Fatal(err)
	}
	if n := g.up.calls["GET /v1/fine_tuning/jobs"]; n != 2 {
		t.Errorf("%d pages of jobs were read", n)
	}
	g.setUpstream = nil
	g.made(g.try(t.Context()))
	g.upstreamHas(1001, 1000, 1)
}
