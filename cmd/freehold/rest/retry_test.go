package rest_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/inference/engine"
	"freehold/router"
)

// A reply's own headers go out with it, and an error's win over the table's.
func TestHeaders(t *testing.T) {
	t.Parallel()
	quota := &rest.Error{
		Status: 429, Code: "insufficient_quota", Type: "insufficient_quota", Message: "spent",
		Header: map[string]string{"X-Ratelimit-Remaining-Tokens": "0", "X-Should-Retry": "perhaps"},
	}
	raw := func(path string, fn func() (*rest.Reply, error)) rest.Route[nobody] {
		return rest.Route[nobody]{Method: http.MethodPost, Path: path, Summary: "test", Endpoint: rest.Raw[thing, thing](
			func(context.Context, nobody, *rest.Request) (*rest.Reply, error) { return fn() })}
	}
	marked := func(r *rest.Reply) (*rest.Reply, error) {
		return r.With("X-Ratelimit-Remaining-Tokens", "8").With("X-Ratelimit-Remaining-Tokens", "7"), nil
	}
	b := setup(t,
		raw("/plain", func() (*rest.Reply, error) { return marked(rest.OK(1)) }),
		raw("/stream", func() (*rest.Reply, error) {
			return marked(rest.Stream(func(_ context.Context, send func(any) error) error { return send(1) }))
		}),
		raw("/broken", func() (*rest.Reply, error) {
			return marked(rest.Stream(func(context.Context, func(any) error) error { return &engine.Error{Message: "x"} }))
		}),
		raw("/split", func() (*rest.Reply, error) { return rest.OK(1).With("X-A", "b\r\nX-Injected: c"), nil }),
		raw("/refused", func() (*rest.Reply, error) { return nil, errors.Join(quota) }),
	)
	for path, status := range map[string]int{"/plain": 200, "/stream": 200, "/broken": 502} {
		a := b.do("POST", path, "{}")
		if got := a.header.Get("X-Ratelimit-Remaining-Tokens"); a.status != status || got != "7" {
			t.Errorf("%s: %d %s, header %q", path, a.status, a.body, got)
		}
		for _, name := range []string{"X-Request-Id", "Openai-Processing-Ms", "Openai-Version"} {
			if a.header.Get(name) == "" {
				t.Errorf("%s: no %s", path, name)
			}
		}
	}
	if a := b.do("POST", "/split", "{}"); a.status != 200 || a.header.Get("X-Injected") != "" {
		t.Errorf("a line break made another header: %v", a.header)
	}
	a := b.do("POST", "/refused", "{}")
	refused(t, a, 429, "insufficient_quota", "")
	if a.header.Get("X-Ratelimit-Remaining-Tokens") != "0" || a.header.Get("X-Should-Retry") != "perhaps" {
		t.Errorf("the refusal's headers: %v", a.header)
	}
}

// How often the official SDK asks, for each kind of failure: never again where
// that can't help, and not before it was told to.
func TestSDKRetries(t *testing.T) {
	t.Parallel()
	var failure atomic.Pointer[error]
	var mu sync.Mutex
	var at []time.Time // guarded by mu
	b := setup(t, rest.Route[nobody]{
		Method: http.MethodPost, Path: "/v1/chat/completions", Summary: "test",
		Endpoint: rest.Raw[thing, thing](func(context.Context, nobody, *rest.Request) (*rest.Reply, error) {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Now())
			return nil, *failure.Load()
		}),
	})
	client := openai.NewClient(option.WithBaseURL("http://"+b.addr+"/v1"), option.WithAPIKey("x"), option.WithHTTPClient(b.http))
	slots := &rest.Error{Status: 429, Code: "rate_limit_exceeded", Type: "requests", Message: "no slot", RetryAfter: time.Second}
	for _, c := range []struct {
		err      error
		attempts int
		pause    time.Duration // at least, between two
	}{
		{rest.Bad("n", "n is wrong"), 1, 0},
		{catalog.ErrInvalidKey, 1, 0},
		{catalog.ErrConflict, 1, 0},
		{catalog.ErrMismatch, 1, 0},
		{&rest.Error{Status: 429, Code: "insufficient_quota", Type: "insufficient_quota", Message: "spent"}, 1, 0},
		{slots, 2, time.Second},
		{router.ErrMoving, 2, time.Second},
		{&engine.Error{Kind: engine.Failed, Message: "down"}, 2, 0},
	} {
		at = nil
		failure.Store(&c.err)
		_, err := client.Chat.Completions.New(t.Context(), openai.ChatCompletionNewParams{
			Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("x")},
		}, option.WithMaxRetries(1))
		e, ok := errors.AsType[*openai.Error](err)
		if want := rest.Describe(c.err); !ok || e.StatusCode != want.Status || e.Code != want.Code || e.Message != want.Message || e.Param != want.Param {
			t.Errorf("%v came as %v", c.err, err)
		}
		if len(at) != c.attempts {
			t.Errorf("%v: %d attempts, want %d", c.err, len(at), c.attempts)
		} else if took := at[len(at)-1].Sub(at[0]); took < c.pause {
			t.Errorf("%v: tried again after %v, want %v", c.err, took, c.pause)
		}
	}
}
