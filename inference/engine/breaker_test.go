package engine_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"freehold/inference/engine"
)

// fake answers with err, after as many chunks.
type fake struct {
	calls  atomic.Int32
	models []string
	err    error
	chunks int
	closed bool
	during func()
}

func (f *fake) asked(model string) error {
	f.calls.Add(1)
	f.models = append(f.models, model)
	if f.during != nil {
		f.during()
	}
	return f.err
}

func (f *fake) Chat(_ context.Context, req *engine.ChatRequest) (*engine.ChatResponse, error) {
	if err := f.asked(req.Model); err != nil {
		return nil, err
	}
	return &engine.ChatResponse{Model: req.Model}, nil
}

func (f *fake) ChatStream(_ context.Context, req *engine.ChatRequest, emit func(*engine.ChatChunk) error) error {
	err := f.asked(req.Model)
	for range f.chunks {
		if err := emit(&engine.ChatChunk{Model: req.Model}); err != nil {
			return err
		}
	}
	return err
}

func (f *fake) Embed(_ context.Context, req *engine.EmbedRequest) (*engine.EmbedResponse, error) {
	if err := f.asked(req.Model); err != nil {
		return nil, err
	}
	return &engine.EmbedResponse{}, nil
}

func (f *fake) Close() error {
	f.closed = true
	return nil
}

func failed(status int) error {
	return &engine.Error{Kind: engine.Failed, UpstreamStatus: status}
}

func ask(ctx context.Context, e engine.Engine) error {
	_, err := e.Chat(ctx, &engine.ChatRequest{Model: "m"})
	return err
}

func TestBreakerCountsTheEnginesFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err   error
		state string
	}{
		"not reached":     {failed(0), "open"},
		"500":             {failed(500), "open"},
		"silent":          {&engine.Error{Kind: engine.Timeout}, "open"},
		"no engine error": {errors.New("x"), "open"},
		"busy":            {failed(429), "closed"},
		"our key":         {failed(401), "closed"},
		"no such model":   {failed(404), "closed"},
		"a bad request":   {&engine.Error{Kind: engine.BadRequest, UpstreamStatus: 400}, "closed"},
		"unsupported":     {&engine.Error{Kind: engine.Unsupported}, "closed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fake{err: c.err}
			b := engine.Break(f, engine.BreakerConfig{})
			for range 5 {
				if err := ask(t.Context(), b); !errors.Is(err, c.err) {
					t.Fatalf("got %v, want the engine's own error", err)
				}
			}
			if got := b.State(); got != c.state {
				t.Errorf("the breaker is %s, want %s", got, c.state)
			}
			err := ask(t.Context(), b)
			if open := errors.Is(err, engine.ErrOpen); open != (c.state == "open") || open != (f.calls.Load() == 5) {
				t.Errorf("then %v, after %d calls", err, f.calls.Load())
			}
			if engine.KindOf(err) != engine.Failed && c.state == "open" {
				t.Errorf("an open breaker's error is %v", engine.KindOf(err))
			}
		})
	}
}

func TestBreakerIgnoresWhoLeaves(t *testing.T) {
	t.Parallel()
	f := &fake{}
	b := engine.Break(f, engine.BreakerConfig{Trips: 2})
	for range 4 {
		ctx, leave := context.WithCancel(t.Context())
		f.during, f.err = leave, failed(0)
		_ = ask(ctx, b)
	}
	if b.State() != "closed" {
		t.Error("clients that left opened the breaker")
	}
	// What tells nothing doesn't part failures from one another either; an answer does.
	f.during = nil
	for _, err := range []error{failed(500), failed(429), nil, failed(500), failed(429)} {
		f.err = err
		_ = ask(t.Context(), b)
	}
	if b.State() != "closed" {
		t.Error("an answer between two failures did not count")
	}
	f.err = failed(500)
	_ = ask(t.Context(), b)
	if b.State() != "open" {
		t.Error("two failures in a row did not open it")
	}
}

func TestBreakerRecovers(t *testing.T) {
	t.Parallel()
	var states []string
	f := &fake{err: failed(500)}
	b := engine.Break(f, engine.BreakerConfig{
		Trips: 1, Rest: 20 * time.Millisecond, Changed: func(s string) { states = append(states, s) },
	})
	rest := func() { time.Sleep(25 * time.Millisecond) }
	_ = ask(t.Context(), b)
	rest()
	_ = ask(t.Context(), b) // a probe that fails
	if err := ask(t.Context(), b); !errors.Is(err, engine.ErrOpen) {
		t.Errorf("after a failed probe: %v", err)
	}
	rest()
	f.err = nil

	// A probe that panics, or tells nothing, is no probe that is waited for.
	f.during = func() { panic("engine") }
	for range 4 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			_ = ask(t.Context(), b)
		}()
	}
	f.during = nil
	for range 3 {
		if err := ask(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.State(); got != "closed" {
		t.Errorf("after good probes it is %s", got)
	}
	want := []string{"open", "half-open", "open", "half-open", "closed"}
	if len(states) != len(want) {
		t.Fatalf("went %v, want %v", states, want)
	}
	for i := range want {
		if states[i] != want[i] {
			t.Fatalf("went %v, want %v", states, want)
		}
	}
}

// A stream's first chunk closes the breaker: nobody waits for its last.
func TestBreakerHearsTheFirstChunk(t *testing.T) {
	t.Parallel()
	f := &fake{chunks: 1, err: failed(500)}
	b := engine.Break(f, engine.BreakerConfig{Trips: 1})
	err := b.ChatStream(t.Context(), &engine.ChatRequest{}, func(*engine.ChatChunk) error { return nil })
	if err == nil || b.State() != "closed" {
		t.Errorf("%v, then %s", err, b.State())
	}
	f.chunks = 0
	_ = b.ChatStream(t.Context(), &engine.ChatRequest{}, nil)
	if b.State() != "open" {
		t.Error("a stream that failed before its first chunk did not count")
	}
	if _, err := b.Embed(t.Context(), &engine.EmbedRequest{}); !errors.Is(err, engine.ErrOpen) {
		t.Errorf("embeddings while it is open: %v", err)
	}
	if err := b.Close(); err != nil || !f.closed {
		t.Errorf("close: %v", err)
	}
}
