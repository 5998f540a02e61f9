package openai_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"freehold/inference/engine"
	"freehold/inference/engine/openai"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const key = "sk-upstream-secret"

// upstream is a server on loopback that answers by hand, and an engine for it.
type upstream struct {
	engine.Engine
	URL   string
	calls atomic.Int32
}

// serve starts one; adjust may change the engine's configuration.
func serve(t *testing.T, h http.HandlerFunc, adjust ...func(*openai.Config)) *upstream {
	t.Helper()
	u := &upstream{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.calls.Add(1)
		h(w, r)
	}))
	t.Cleanup(srv.Close)
	u.URL = srv.URL + "/v1"
	cfg := openai.Config{BaseURL: u.URL, Key: key}
	for _, f := range adjust {
		f(&cfg)
	}
	eng, err := openai.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = eng.(io.Closer).Close() })
	u.Engine = eng
	return u
}

// says answers with a status and a body.
func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// streams answers with an event stream, as it stands.
func streams(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, body)
	}
}

func chat() *engine.ChatRequest {
	most := 7
	return &engine.ChatRequest{
		Model: "up", Messages: []engine.Message{{Role: "user", Content: engine.TextContent("hi")}},
		MaxTokens: &most, MaxTokensName: "max_tokens", Stop: []string{"x"}, N: 2, User: "u1",
		Params: map[string]json.RawMessage{"temperature": json.RawMessage("0.5")}, Scope: "never leaves",
	}
}

// heard is a stream's outcome.
type heard struct {
	chunks []*engine.ChatChunk
	text   string
	finish string
	usage  *engine.Usage
	err    error
}

func listen(ctx context.Context, eng engine.Engine) (h heard) {
	h.err = eng.ChatStream(ctx, chat(), func(c *engine.ChatChunk) error {
		h.chunks = append(h.chunks, c)
		if c.Usage != nil {
			h.usage = c.Usage
		}
		for _, choice := range c.Choices {
			var d struct{ Content string }
			if err := json.Unmarshal(choice.Delta, &d); err != nil {
				return err
			}
			h.text += d.Content
			if choice.FinishReason != nil {
				h.finish += *choice.FinishReason
			}
		}
		return nil
	})
	return h
}

func wantFail(t *testing.T, err error, kind engine.Kind, status int) *engine.Error {
	t.Helper()
	var e *engine.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *engine.Error", err)
	}
	if e.Kind != kind || e.UpstreamStatus != status {
		t.Fatalf("got %v status %d, want %v status %d (%v)", e.Kind, e.UpstreamStatus, kind, status, e)
	}
	if strings.Contains(e.Error(), key) || strings.Contains(e.Message, key) {
		t.Fatal("the error holds the key")
	}
	return e
}

// within fails the test when f takes longer.
func within(t *testing.T, d time.Duration, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if took := time.Since(start); took > d {
		t.Fatalf("took %v, want at most %v", took, d)
	}
}
