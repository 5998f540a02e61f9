package openai_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"freehold/inference/finetune"
	"freehold/inference/finetune/openai"
)

// A tenant's cancellation reaches the upstream, and nothing is left there.
func TestCancelled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		route string // at whose first call it is cancelled; empty: before the start
		quick bool   // the job ends at once all the same
	}{
		"before the start":        {},
		"at the look for it":      {route: "GET /v1/fine_tuning/jobs"},
		"while pushing":           {route: "POST /v1/files"},
		"while it is created":     {route: "POST /v1/fine_tuning/jobs"},
		"while it is at work":     {route: "GET /v1/fine_tuning/jobs/{id}/checkpoints"},
		"when it has just ended":  {route: "GET /v1/fine_tuning/jobs/{id}/checkpoints", quick: true},
		"while events are read":   {route: "GET /v1/fine_tuning/jobs/{id}/events"},
		"while what is left goes": {route: "DELETE /v1/files/{id}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := setup(t)
			g.up.holds = c.route != "DELETE /v1/files/{id}"
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if c.route == "" {
				// An earlier run's job is at work.
				lost, drop := context.WithCancelCause(t.Context())
				g.report = func(finetune.Event) error { drop(finetune.ErrLost); return nil }
				if _, err := g.try(lost); !errors.Is(err, finetune.ErrLost) {
					t.Fatal(err)
				}
				g.upstreamHas(1, 2, 0)
				if g.up.calls["POST /v1/fine_tuning/jobs/{id}/cancel"] != 0 {
					t.Error("a lost run cancelled the job")
				}
				cancel(finetune.ErrCancelled)
			}
			done := false
			g.up.before = func(route string, _ http.ResponseWriter, _ *http.Request) bool {
				g.up.mu.Lock()
				defer g.up.mu.Unlock()
				if route != c.route || done {
					return false
				}
				done = true
				if c.quick {
					g.up.jobs[0].finish()
					g.up.models = append(g.up.models, *g.up.jobs[0].FineTunedModel)
				}
				cancel(finetune.ErrCancelled)
				time.Sleep(5 * time.Millisecond)
				return false
			}
			start := time.Now()
			if res, err := g.try(ctx); !errors.Is(err, finetune.ErrCancelled) {
				t.Errorf("got %+v, %v", res, err)
			}
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("took %v", took)
			}
			jobs := len(g.up.jobs)
			g.upstreamHas(jobs, 0, 0)
			for _, j := range g.up.jobs {
				if j.FinishedAt == nil {
					t.Errorf("a job is left %s", j.Status)
				}
			}
		})
	}
}

// The upstream is down or refuses while one is cancelled: that has an end too.
func TestCancelledInVain(t *testing.T) {
	t.Parallel()
	g := setup(t, func(c *openai.Config) { c.Patience = 300 * time.Millisecond })
	ctx, cancel := context.WithCancelCause(t.Context())
	g.up.before = func(_ string, w http.ResponseWriter, _ *http.Request) bool {
		cancel(finetune.ErrCancelled)
		refuse(w, 503, "", "", "down")
		return true
	}
	start := time.Now()
	if _, err := g.try(ctx); !errors.Is(err, finetune.ErrCancelled) {
		t.Error(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if !strings.Contains(g.log.String(), "upstream keeps something") {
		t.Errorf("nobody is told: %s", g.log)
	}
}

// Whose end isn't the tenant's wish leaves all as it is, at once.
func TestStopped(t *testing.T) {
	t.Parallel()
	g := setup(t)
	g.up.holds = true
	ctx, stop := context.WithCancel(t.Context())
	var start time.Time
	g.report = func(e finetune.Event) error {
		if e.Checkpoint && start.IsZero() {
			time.AfterFunc(20*time.Millisecond, stop)
			start = time.Now()
		}
		return nil
	}
	if _, err := g.try(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v", took)
	}
	g.upstreamHas(1, 2, 0)
	if g.up.jobs[0].FinishedAt != nil {
		t.Error("the job was cancelled")
	}
}

func TestFails(t *testing.T) {
	t.Parallel()
	const newJob, look = "POST /v1/fine_tuning/jobs", "GET /v1/fine_tuning/jobs/{id}"
	for name, c := range map[string]struct {
		route   string
		status  int
		body    string // empty: OpenAI's, quoting the key
		failure string // its code; empty: an error that is tried again
		left    int    // files
	}{
		"bad request":             {route: newJob, status: 400, failure: finetune.CodeTrainer},
		"bad credentials":         {route: "GET /v1/files", status: 401, failure: finetune.CodeTrainer},
		"forbidden":               {route: newJob, status: 403, failure: finetune.CodeTrainer},
		"no such model":           {route: newJob, status: 404, failure: finetune.CodeTrainer},
		"no fine-tuning there":    {route: "GET /v1/fine_tuning/jobs", status: 404, failure: finetune.CodeTrainer},
		"file too large":          {route: "POST /v1/files", status: 413, failure: finetune.CodeTrainer},
		"a page of HTML":          {route: newJob, status: 422, body: "<html>" + key, failure: finetune.CodeTrainer},
		"an odd error":            {route: newJob, status: 400, body: `{"error":"text ` + key + `"}`, failure: finetune.CodeTrainer},
		"a redirect":              {route: newJob, status: 307, left: 2},
		"down":                    {route: newJob, status: 500, left: 2},
		"over its limit":          {route: newJob, status: 429, left: 2},
		"a conflict":              {route: newJob, status: 409, left: 2},
		"no JSON":                 {route: newJob, status: 200, body: "ok", left: 2},
		"the job is gone":         {route: look, status: 404, failure: finetune.CodeTrainer},
		"the key was changed":     {route: look, status: 401, left: 2},
		"down while it works":     {route: look, status: 502, left: 2},
		"another job than wanted": {route: look, status: 200, body: `{"id":"ftjob-x","status":"succeeded"}`, left: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := setup(t, func(c *openai.Config) { c.Patience = 100 * time.Millisecond })
			g.up.before = func(route string, w http.ResponseWriter, r *http.Request) bool {
				if route != c.route {
					return false
				}
				if c.body == "" {
					w.Header().Set("Location", "/elsewhere")
					refuse(w, c.status, "some_code", "training_file", "no:\n"+r.Header.Get("Authorization")+strings.Repeat(" words", 1000))
					return true
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
				return true
			}
			_, err := g.try(t.Context())
			switch {
			case err == nil:
				t.Fatal("it was made")
			case c.failure != "":
				wantFailure(t, err, c.failure)
			default:
				if _, ok := errors.AsType[*finetune.Failure](err); ok {
					t.Errorf("got %v, want an error that is tried again", err)
				}
			}
			if len(g.up.files) != c.left {
				t.Errorf("%d files are left", len(g.up.files))
			}
		})
	}
}

// A job that the upstream ends is ended here, with the upstream's reason.
func TestFailsUpstream(t *testing.T) {
	t.Parallel()
	g := setup(t)
	g.up.fails = true
	_, err := g.try(t.Context())
	if f := wantFailure(t, err, "exceeded_quota"); f.Message != "Out of quota, says [key] of "+g.job.ID {
		t.Errorf("message %q", f.Message)
	}
	g.upstreamHas(1, 0, 0)

	g = setup(t)
	g.report = func(finetune.Event) error {
		now := time.Now().Unix()
		g.up.mu.Lock()
		defer g.up.mu.Unlock()
		g.up.jobs[0].Status, g.up.jobs[0].FinishedAt = "cancelled", &now
		return nil
	}
	_, err = g.try(t.Context())
	wantFailure(t, err, finetune.CodeTrainer)
	g.upstreamHas(1, 0, 0)
}

// What passes is waited for; a file that is still being read, too.
func TestPatience(t *testing.T) {
	t.Parallel()
	g := setup(t)
	g.up.reads = true
	refused := map[string]int{}
	g.up.before = func(route string, w http.ResponseWriter, _ *http.Request) bool {
		g.up.mu.Lock()
		defer g.up.mu.Unlock()
		for _, f := range g.up.files {
			if route == "POST /v1/fine_tuning/jobs" && f.Status == "uploaded" {
				t.Error("a file was used before it was read")
			}
		}
		if refused[route]++; refused[route] > 2 {
			return false
		}
		refuse(w, []int{429, 503}[refused[route]%2], "rate_limit_exceeded", "", "later")
		return true
	}
	g.made(g.try(t.Context()))
	g.upstreamHas(1, 0, 1)
	g.toldOnce()
}

func TestUnreadableFile(t *testing.T) {
	t.Parallel()
	g := setup(t)
	g.up.spoils = true
	_, err := g.try(t.Context())
	if f := wantFailure(t, err, finetune.CodeInvalidTraining); f.Param != "training_file" {
		t.Errorf("got %+v", f)
	}
	g.upstreamHas(0, 0, 0)
}
