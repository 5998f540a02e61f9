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
