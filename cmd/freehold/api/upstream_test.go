package api_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/rest/resttest"
	"freehold/inference/engine"
	"freehold/inference/engine/builtin"
	"freehold/inference/engine/enginetest"
	"freehold/inference/engine/openai"
)

// Through the engine for OpenAI-compatible servers: an answer comes through, the
// upstream's own words on a failure don't, and it is let go when the client goes.
func TestUpstream(t *testing.T) {
	t.Parallel()
	b := setup(t)
	silent := make(chan struct{}, 1)
	left := make(chan time.Time, 1)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case strings.Contains(string(body), "fail"):
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":{"message":"bad key sk-upstream","type":"x","param":null,"code":"x"}}`)
		case strings.Contains(string(body), "hang"):
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			silent <- struct{}{}
			<-r.Context().Done()
			left <- time.Now()
		default:
			w.Header().Set("Content-Type", "text/event-stream")
			for _, word := range []string{"a", "b"} {
				_, _ = fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":%q},\"finish_reason\":null}]}\n\n", word)
			}
			_, _ = io.WriteString(w, "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
		}
	}))
	t.Cleanup(upstream.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	eng, err := openai.New(openai.Config{BaseURL: upstream.URL + "/v1", Transport: transport, Logger: b.Logger})
	b.OK(err)
	b.Use(eng)
	body := func(text string) string {
		return `{"stream":true,"model":"chat-1","messages":[{"role":"user","content":"` + text + `"}]}`
	}

	list := events(t, b.client.Do("POST", "/v1/chat/completions", body("go")))
	if n := len(list); n != 4 || list[n-1] != "[DONE]" || !strings.Contains(list[0], `"content":"a"`) {
		t.Errorf("got %q", list)
	}
	a := b.client.Do("POST", "/v1/chat/completions", body("fail"))
	a.Refused(502, "engine_error", "")
	if strings.Contains(a.Body, "sk-upstream") || strings.Contains(a.Body, "401") {
		t.Errorf("the upstream's words: %s", a.Body)
	}

	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/v1/chat/completions", strings.NewReader(body("hang")))
	b.OK(err)
	req.Header.Set("Authorization", "Bearer "+b.client.Token)
	gave := make(chan struct{})
	go func() {
		defer close(gave)
		if resp, err := transport.RoundTrip(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-silent
	at := time.Now()
	leave()
	<-gave
	if took := (<-left).Sub(at); took > time.Second {
		t.Errorf("the upstream was held for %v", took)
	}
}

// A Freehold is an engine for another: through its tenants' door, with a tenant's
// key, all holds that holds of any engine.
func TestFreeholdBehindFreehold(t *testing.T) {
	t.Parallel()
	b := setup(t)
	real, err := builtin.New()
	b.OK(err)
	b.Use(real)
	for name, kind := range map[string]string{builtin.AnswerModel: "chat", builtin.EmbedModel: "embedding"} {
		_, err := b.Catalog.AddModel(t.Context(), catalog.Model{Name: name, Engine: resttest.EngineName, Upstream: name, Kind: kind})
		b.OK(err)
		b.Until("the node knows the model", func() bool {
			_, err := b.Cache.Model(t.Context(), name)
			return err == nil
		})
	}
	through := func(t *testing.T, key string) engine.Engine {
		t.Helper()
		eng, err := openai.New(openai.Config{BaseURL: b.url + "/v1", Key: key, Logger: b.Logger})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = eng.(io.Closer).Close() })
		return eng
	}
	noKey := b.client.Token + "x"
	enginetest.Run(t, func(t *testing.T) enginetest.Subject {
		return enginetest.Subject{
			Engine: through(t, b.client.Token), Model: builtin.AnswerModel, EmbedModel: builtin.EmbedModel, Deterministic: true,
			Failing: through(t, noKey), Secrets: []string{b.client.Token, noKey},
			Messages: func(canary string) []engine.Message {
				return []engine.Message{
					{Role: "system", Content: engine.TextContent("Our shop opens at nine. The warehouse of " + canary + " stands in Lisbon. We ship on Fridays.")},
					{Role: "user", Content: engine.TextContent("Where is the warehouse of " + canary + "?")},
				}
			},
			Refused: func(canary string) *engine.ChatRequest {
				return &engine.ChatRequest{
					Model:    builtin.AnswerModel,
					Messages: []engine.Message{{Role: "system", Content: engine.TextContent(canary)}},
				}
			},
		}
	})
}
