package openai_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"freehold/inference/engine"
	"freehold/inference/engine/openai"
)

// after refuses with a status and headers, names and values in turn.
func after(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		says(status, body)(w, r)
	}
}

func breaks(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func TestRetries(t *testing.T) {
	t.Parallel()
	good := says(200, `{"choices":[{"message":{"content":"a"}}]}`)
	date := func(in time.Duration) string { return time.Now().Add(in).UTC().Format(http.TimeFormat) }
	for name, c := range map[string]struct {
		first http.HandlerFunc
		ok    bool // on a second try
	}{
		"500":                          {says(500, ``), true},
		"502":                          {says(502, ``), true},
		"503":                          {says(503, ``), true},
		"529":                          {says(529, ``), true},
		"429":                          {says(429, ``), true},
		"429 for good":                 {says(429, `{"error":{"message":"m","code":"insufficient_quota"}}`), false},
		"429 of another Freehold":      {after(429, ``, "X-Should-Retry", "false"), false},
		"501":                          {says(501, ``), false},
		"504 has cost the time":        {says(504, ``), false},
		"400":                          {says(400, ``), false},
		"401":                          {says(401, ``), false},
		"409 that says so":             {after(409, ``, "X-Should-Retry", "true"), true},
		"an hour":                      {after(503, ``, "Retry-After", "3600"), false},
		"a moment":                     {after(503, ``, "Retry-After", "0.2"), true},
		"milliseconds go first":        {after(503, ``, "Retry-After-Ms", "50", "Retry-After", "3600"), true},
		"too many milliseconds":        {after(503, ``, "Retry-After-Ms", "3000", "Retry-After", "0"), false},
		"a date":                       {after(503, ``, "Retry-After", date(time.Hour)), false},
		"a date gone by":               {after(503, ``, "Retry-After", date(-time.Hour)), true},
		"words":                        {after(503, ``, "Retry-After", "soon"), true},
		"a number that is none":        {after(503, ``, "Retry-After", "NaN"), true},
		"no number of this world":      {after(503, ``, "Retry-After", "1e300"), false},
		"less than nothing":            {after(503, ``, "Retry-After", "-5"), true},
		"a connection that breaks off": {breaks, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for what, call := range map[string]func(*upstream) error{
				"whole":    func(u *upstream) error { _, err := u.Chat(t.Context(), chat()); return err },
				"streamed": func(u *upstream) error { return listen(t.Context(), u.Engine).err },
			} {
				var u *upstream
				u = serve(t, func(w http.ResponseWriter, r *http.Request) {
					switch {
					case u.calls.Load() == 1:
						c.first(w, r)
					case what == "whole":
						good(w, r)
					default:
						streams(lines(hel, stop, "[DONE]"))(w, r)
					}
				})
				calls := int32(1)
				if c.ok {
					calls = 2
				}
				if err := call(u); (err == nil) != c.ok || u.calls.Load() != calls {
					t.Errorf("%s: %v after %d calls", what, err, u.calls.Load())
				}
			}
		})
	}
}

func TestRetriesHaveAnEnd(t *testing.T) {
	t.Parallel()
	t.Run("in number", func(t *testing.T) {
		t.Parallel()
		u := serve(t, says(503, ``))
		_, err := u.Chat(t.Context(), chat())
		wantFail(t, err, engine.Failed, 503)
		if n := u.calls.Load(); n != 3 {
			t.Errorf("%d calls, want 3", n)
		}
	})
	// The reason is told rather than that time ran out.
	t.Run("in time", func(t *testing.T) {
		t.Parallel()
		slow := after(503, ``, "Retry-After", "1")
		u := serve(t, slow, func(c *openai.Config) { c.Timeout = 500 * time.Millisecond })
		_, err := u.Chat(t.Context(), chat())
		wantFail(t, err, engine.Failed, 503)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err = serve(t, slow).Chat(ctx, chat())
		wantFail(t, err, engine.Failed, 503)
		if n := u.calls.Load(); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
	})
	t.Run("with the caller", func(t *testing.T) {
		t.Parallel()
		var u *upstream
		ctx, cancel := context.WithCancel(t.Context())
		u = serve(t, after(503, ``, "Retry-After", "2"))
		time.AfterFunc(50*time.Millisecond, cancel)
		within(t, time.Second, func() {
			_, err := u.Chat(ctx, chat())
			wantFail(t, err, engine.Failed, 0)
		})
		if n := u.calls.Load(); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
	})
}

// One connection serves call after call, whole, streamed and refused.
func TestConnectionServesAgain(t *testing.T) {
	t.Parallel()
	var accepted, calls atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch calls.Add(1) % 4 {
		case 0:
			says(400, `{"error":{"message":"no"}}`)(w, r)
		case 1:
			streams(lines(hel, stop, "[DONE]"))(w, r)
		case 2:
			streams(lines(hel, stop))(w, r)
		default:
			says(200, `{"choices":[{"message":{"content":"a"}}]}`)(w, r)
		}
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			accepted.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	eng := serve(t, nil, func(c *openai.Config) { c.BaseURL = srv.URL + "/v1" })
	for range 5 {
		for range 2 {
			if got := listen(t.Context(), eng.Engine); got.err != nil {
				t.Fatal(got.err)
			}
		}
		if _, err := eng.Chat(t.Context(), chat()); err != nil {
			t.Fatal(err)
		}
		_, err := eng.Chat(t.Context(), chat())
		wantFail(t, err, engine.BadRequest, 400)
	}
	if n, all := accepted.Load(), calls.Load(); n != 1 || all != 20 {
		t.Errorf("%d connections for %d calls, want 1 for 20", n, all)
	}
}
