package api_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/cmd/freehold/rest/resttest"
	"freehold/inference/engine"
	"freehold/migrations/pgtest"
)

// Whatever is sent gets its row of the error table, and the process lives on.
func TestBadInput(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client
	globex, stranger := b.Platform.Tenant("globex")
	_, err := b.Fleet.PatchConfig(t.Context(), globex.ID, catalog.ConfigPatch{AllowedModels: &[]string{"embed-*"}})
	b.OK(err)

	t.Run("body", func(t *testing.T) {
		c := c
		c.T = t
		for _, path := range []string{"/v1/chat/completions", "/v1/embeddings", "/v1/predictions"} {
			for _, body := range []string{`{"model":`, `[]`, `"x"`, `null`, `{} {}`, "\x00", `{"model":"chat-1"`, strings.Repeat("[", 100000)} {
				c.Do("POST", path, body).Refused(400, "invalid_request", "")
			}
			c.Do("POST", path, "").Refused(400, "invalid_request", "")
			c.Do("POST", path, `{"model":7}`).Refused(400, "invalid_request", param(path))
			c.Do("POST", path, "model=x", "Content-Type", "application/x-www-form-urlencoded").Refused(415, "unsupported_media_type", "")
			c.Do("POST", path, "{}", "Content-Type", "multipart/form-data; boundary=x").Refused(415, "unsupported_media_type", "")
		}
		for param, body := range map[string]string{
			"messages":       `{"model":"chat-1"}`,
			"model":          `{"messages":[{"role":"user","content":"x"}]}`,
			"temperature":    `{"model":"chat-1","messages":[{"role":"user","content":"x"}],"temperature":"hot"}`,
			"stream":         `{"model":"chat-1","messages":[{"role":"user","content":"x"}],"stream":"yes"}`,
			"n":              `{"model":"chat-1","messages":[{"role":"user","content":"x"}],"n":0}`,
			"unheard_of":     `{"model":"chat-1","messages":[{"role":"user","content":"x"}],"unheard_of":1}`,
			"stream_options": `{"model":"chat-1","messages":[{"role":"user","content":"x"}],"stream_options":{"include_usage":true}}`,
		} {
			c.Do("POST", "/v1/chat/completions", body).Refused(400, "invalid_request", param)
		}
		c.Do("POST", "/v1/embeddings", `{"model":"embed-1","input":{}}`).Refused(400, "invalid_request", "input")
		c.Do("POST", "/v1/chat/completions", strings.Replace(hello, "chat-1", "embed-1", 1)).Refused(400, "invalid_request", "model")
	})
	t.Run("model", func(t *testing.T) {
		c := c
		c.T = t
		c.Do("POST", "/v1/chat/completions", strings.Replace(hello, "chat-1", "gpt-99", 1)).Refused(404, "model_not_found", "model")
		c.With(stranger).Do("POST", "/v1/chat/completions", hello).Refused(403, "model_not_allowed", "model")
		c.Do("GET", "/v1/models/gpt-99", "").Refused(404, "model_not_found", "model")
		missing, hidden := c.With(stranger).Do("GET", "/v1/models/gpt-99", ""), c.With(stranger).Do("GET", "/v1/models/chat-1", "")
		if missing.Body != hidden.Body {
			t.Errorf("a model that may not be used shows: %s", hidden.Body)
		}
	})
	t.Run("route", func(t *testing.T) {
		c := c
		c.T = t
		for _, path := range []string{"/", "/v1", "/v1/nope", "/v1/models/", "/admin/v1/tenants", "/v1/chat/completions/", "/v1/%2e%2e/x"} {
			c.Do("GET", path, "").Refused(404, "not_found", "")
			c.With("").Do("POST", path, "{}").Refused(404, "not_found", "")
		}
		c.Do("GET", "/v1/chat/completions", "").Refused(405, "method_not_allowed", "")
		c.Do("DELETE", "/v1/embeddings", "").Refused(405, "method_not_allowed", "")
	})
	t.Run("size", func(t *testing.T) {
		c := c
		c.T = t
		big := strings.Replace(hello, "hello there", strings.Repeat("x", 10<<20), 1)
		c.Do("POST", "/v1/chat/completions", big).Refused(413, "request_too_large", "")
	})
	t.Run("id", func(t *testing.T) {
		c := c
		c.T = t
		var made struct{ ID string }
		c.Do("POST", "/v1/predictions", `{"model":"chat-1","inputs":"secret"}`).Into(200, &made)
		var mine map[string]any
		c.Do("GET", "/v1/predictions/"+made.ID, "").Into(200, &mine)
		theirs := c.With(stranger).Do("GET", "/v1/predictions/"+made.ID, "")
		theirs.Refused(404, "not_found", "")
		missing := c.With(stranger).Do("GET", "/v1/predictions/pred_01890000-0000-7000-8000-000000000000", "")
		if theirs.Body != missing.Body {
			t.Errorf("another tenant's id: %s, a missing one: %s", theirs.Body, missing.Body)
		}
		for _, bad := range []string{"x", "pred_", "pred_x", made.ID[5:], "pred_%00", strings.ToUpper(made.ID), "pred_" + strings.Repeat("0", 4000)} {
			c.Do("GET", "/v1/predictions/"+bad, "").Refused(400, "invalid_request", "id")
		}
		c.Do("GET", "/v1/predictions?after=x", "").Refused(400, "invalid_request", "after")
		c.Do("GET", "/v1/predictions?limit=1000", "").Refused(400, "invalid_request", "limit")
	})
	if a := c.Do("POST", "/v1/chat/completions", hello); a.Status != 200 {
		t.Errorf("after all of it: %d %s", a.Status, a.Body)
	}
	if got := b.Logs.String(); strings.Contains(got, "msg=panic") || strings.Contains(got, stranger) || strings.Contains(got, "secret") {
		t.Error("the log holds a panic, a key or a prompt")
	}
}

// param is what each route misses first in a body whose model is a number.
func param(path string) string {
	return map[string]string{
		"/v1/chat/completions": "messages", "/v1/embeddings": "model", "/v1/predictions": "inputs",
	}[path]
}

// An unreachable tenant database is a 503 for that tenant, and for nobody else.
func TestUnreachableDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, other := b.Platform.Tenant("globex")
	if a := b.client.Do("POST", "/v1/chat/completions", hello); a.Status != 200 {
		t.Fatalf("before: %d %s", a.Status, a.Body)
	}
	super, err := pgx.Connect(t.Context(), pgtest.SuperURL(t))
	b.OK(err)
	defer super.Close(context.WithoutCancel(t.Context()))
	name := pgx.Identifier{b.acme.Database}.Sanitize()
	_, err = super.Exec(t.Context(), "alter database "+name+" allow_connections false")
	b.OK(err)
	_, err = super.Exec(t.Context(), "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", b.acme.Database)
	b.OK(err)
	before := b.Engine.Calls.Load()
	for _, call := range [][3]string{
		{"POST", "/v1/chat/completions", hello},
		{"POST", "/v1/chat/completions", strings.Replace(hello, "{", `{"stream":true,`, 1)},
		{"POST", "/v1/embeddings", `{"model":"embed-1","input":"x"}`},
		{"GET", "/v1/predictions", ""},
	} {
		a := b.client.Do(call[0], call[1], call[2])
		a.Refused(503, "database_unavailable", "")
		if a.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	if b.Engine.Calls.Load() != before {
		t.Error("the engine worked for nothing")
	}
	if a := b.client.With(other).Do("POST", "/v1/chat/completions", hello); a.Status != 200 {
		t.Errorf("globex: %d %s", a.Status, a.Body)
	}
	_, err = super.Exec(t.Context(), "alter database "+name+" allow_connections true")
	b.OK(err)
	b.Until("acme is back", func() bool { return b.client.Do("POST", "/v1/chat/completions", hello).Status == 200 })
}

// An engine's failures have rows of their own, and its panics end nothing.
func TestEngineFails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	streamed := strings.Replace(hello, "{", `{"stream":true,`, 1)
	for _, c := range []struct {
		name   string
		err    error
		status int
		code   string
		param  string
	}{
		{"failed", &engine.Error{Kind: engine.Failed, Message: "down", UpstreamStatus: 500}, 502, "engine_error", ""},
		{"timeout", &engine.Error{Kind: engine.Timeout, Message: "slow"}, 504, "engine_timeout", ""},
		{"refused", &engine.Error{Kind: engine.BadRequest, Param: "messages", Message: "too long"}, 400, "invalid_request", "messages"},
		{"unsupported", &engine.Error{Kind: engine.Unsupported, Param: "tools", Message: "no tools"}, 400, "invalid_request", "tools"},
	} {
		b.Engine.Instead(func(context.Context, func(*engine.ChatChunk) error) error { return c.err })
		b.client.Do("POST", "/v1/chat/completions", hello).Refused(c.status, c.code, c.param)
		b.client.Do("POST", "/v1/chat/completions", streamed).Refused(c.status, c.code, c.param)
	}
	b.Engine.Instead(func(_ context.Context, emit func(*engine.ChatChunk) error) error {
		if emit != nil {
			_ = emit(resttest.Word("assistant", "so far "))
		}
		panic("a prompt")
	})
	if a := b.client.Do("POST", "/v1/chat/completions", hello); a.Status < 500 {
		t.Errorf("panic: %d %s", a.Status, a.Body)
	}
	a := b.client.Do("POST", "/v1/chat/completions", streamed)
	if !strings.Contains(a.Body, "so far") || !strings.Contains(a.Body, `data: {"error":{`) || strings.Contains(a.Body, "[DONE]") {
		t.Errorf("panic in a stream: %d %s", a.Status, a.Body)
	}
	b.Engine.Instead(nil)
	if a := b.client.Do("POST", "/v1/chat/completions", hello); a.Status != 200 {
		t.Errorf("afterwards: %d %s", a.Status, a.Body)
	}
}

// A client that leaves cancels the engine within a second, and the record says so.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ended := make(chan time.Time, 1)
	b.Engine.Instead(func(ctx context.Context, _ func(*engine.ChatChunk) error) error {
		<-ctx.Done()
		ended <- time.Now()
		return ctx.Err()
	})
	for _, body := range []string{hello, strings.Replace(hello, "{", `{"stream":true,`, 1)} {
		ctx, leave := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "POST", b.url+"/v1/chat/completions", strings.NewReader(body))
		b.OK(err)
		req.Header.Set("Authorization", "Bearer "+b.client.Token)
		req.Header.Set("Content-Type", "application/json")
		calls := b.Engine.Calls.Load()
		gave := make(chan struct{})
		go func() {
			defer close(gave)
			tr := &http.Transport{}
			defer tr.CloseIdleConnections()
			if resp, err := (&http.Client{Transport: tr}).Do(req); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}()
		b.Until("the engine works", func() bool { return b.Engine.Calls.Load() > calls })
		left := time.Now()
		leave()
		<-gave
		if took := (<-ended).Sub(left); took > time.Second {
			t.Errorf("the engine went on for %v", took)
		}
	}
	b.Until("both are settled as cancelled", func() bool {
		var page struct{ Data []struct{ State string } }
		b.OK(json.Unmarshal([]byte(b.client.Do("GET", "/v1/predictions", "").Body), &page))
		return len(page.Data) == 2 && page.Data[0].State == "cancelled" && page.Data[1].State == "cancelled"
	})
}
