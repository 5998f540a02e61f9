package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"

	"freehold/inference/engine"
)

func TestFallback(t *testing.T) {
	t.Parallel()
	timeout := &engine.Error{Kind: engine.Timeout}
	bad := &engine.Error{Kind: engine.BadRequest}
	unable := &engine.Error{Kind: engine.Unsupported}
	away, busy := failed(0), failed(429)
	open := &engine.Error{Kind: engine.Failed, Err: engine.ErrOpen}
	odd := errors.New("odd")
	for name, c := range map[string]struct {
		first, second error
		asked         []string
		err           error
	}{
		"the first answers":      {nil, odd, []string{"one"}, nil},
		"it is away":             {away, nil, []string{"one", "two"}, nil},
		"it is busy":             {busy, nil, []string{"one", "two"}, nil},
		"it is slow":             {timeout, nil, []string{"one", "two"}, nil},
		"its breaker is open":    {open, nil, []string{"one", "two"}, nil},
		"it breaks its word":     {odd, nil, []string{"one", "two"}, nil},
		"it refuses":             {bad, nil, []string{"one"}, bad},
		"it can't":               {unable, nil, []string{"one"}, unable},
		"both fail":              {away, timeout, []string{"one", "two"}, timeout},
		"the second one refuses": {away, bad, []string{"one", "two"}, bad},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for call, fn := range map[string]func(context.Context, engine.Engine) error{
				"chat": ask,
				"stream": func(ctx context.Context, e engine.Engine) error {
					return e.ChatStream(ctx, &engine.ChatRequest{Model: "m"}, nil)
				},
				"embed": func(ctx context.Context, e engine.Engine) error {
					_, err := e.Embed(ctx, &engine.EmbedRequest{Model: "m"})
					return err
				},
			} {
				first, second := &fake{err: c.first}, &fake{err: c.second}
				list := engine.Fallback(engine.Choice{first, "up/1", "one"}, engine.Choice{second, "up/2", "two"})
				var asked []string
				var last error
				list.Tried = func(c engine.Choice, err error) { asked, last = append(asked, c.Name), err }
				if err := fn(t.Context(), list); !errors.Is(err, c.err) || !errors.Is(last, c.err) {
					t.Errorf("%s: got %v, last told %v, want %v", call, err, last, c.err)
				}
				if !reflect.DeepEqual(asked, c.asked) {
					t.Errorf("%s: asked %v, want %v", call, asked, c.asked)
				}
				models := slices.Concat(first.models, second.models)
				if want := []string{"up/1", "up/2"}[:len(c.asked)]; !reflect.DeepEqual(models, want) {
					t.Errorf("%s: asked for %v, want %v", call, models, want)
				}
			}
		})
	}
}

func TestFallbackStopsWhereItMust(t *testing.T) {
	t.Parallel()
	second := &fake{}
	two := func(first *fake) engine.Engine {
		return engine.Fallback(engine.Choice{Engine: first}, engine.Choice{Engine: second})
	}
	chunks := 0
	err := two(&fake{chunks: 1, err: failed(500)}).ChatStream(t.Context(), &engine.ChatRequest{}, func(*engine.ChatChunk) error {
		chunks++
		return nil
	})
	if err == nil || chunks != 1 {
		t.Errorf("a stream that broke off: %v after %d chunks", err, chunks)
	}
	lost := errors.New("client lost")
	err = two(&fake{chunks: 1}).ChatStream(t.Context(), &engine.ChatRequest{}, func(*engine.ChatChunk) error { return lost })
	if !errors.Is(err, lost) {
		t.Errorf("emit's error became %v", err)
	}
	ctx, leave := context.WithCancel(t.Context())
	if err := ask(ctx, two(&fake{err: failed(500), during: leave})); err == nil {
		t.Error("answered to nobody")
	}
	if n := second.calls.Load(); n != 0 {
		t.Errorf("the second engine was asked %d times", n)
	}
	if err := ask(t.Context(), engine.Fallback()); engine.KindOf(err) != engine.Failed {
		t.Errorf("no engine at all: %v", err)
	}
}

// The request is the caller's: it may be asked again elsewhere.
func TestFallbackLeavesTheRequest(t *testing.T) {
	t.Parallel()
	req := &engine.ChatRequest{Model: "m"}
	list := engine.Fallback(engine.Choice{Engine: &fake{err: failed(0)}, Model: "a"}, engine.Choice{Engine: &fake{}, Model: "b"})
	if resp, err := list.Chat(t.Context(), req); err != nil || resp.Model != "b" || req.Model != "m" {
		t.Errorf("%v, %+v, asked for %s", err, resp, req.Model)
	}
}

func TestMembersNameTheLimitOnce(t *testing.T) {
	t.Parallel()
	most := 5
	for name, want := range map[string]string{"": "max_completion_tokens", "max_tokens": "max_tokens", "max_completion_tokens": "max_completion_tokens"} {
		req := &engine.ChatRequest{MaxTokens: &most, MaxTokensName: name, Params: map[string]json.RawMessage{
			"max_tokens": json.RawMessage("900"), "max_completion_tokens": json.RawMessage("900"),
		}}
		all := req.Members()
		if all[want] != most || len(all) != 2 {
			t.Errorf("name %q: sent %v", name, all)
		}
	}
}
