package inference_test

import (
	"context"
	"strings"
	"testing"

	"freehold/catalog"
	"freehold/inference/engine"
)

// An engine that fails while another one answers is seen by no client: the log says
// which it was, and nothing that the engine said.
func TestFallback_logged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.models[0].Fallbacks = []catalog.Fallback{{Engine: "e", Upstream: "second"}}
	b.engine.chat = func(_ context.Context, r *engine.ChatRequest) (*engine.ChatResponse, error) {
		if r.Model != "second" {
			return nil, &engine.Error{Kind: engine.Failed, UpstreamStatus: 503, Message: "told of ann@example.com"}
		}
		return answers("fine"), nil
	}
	if _, err := b.Chat(t.Context(), b.call, b.hi()); err != nil {
		t.Fatal(err)
	}
	told := b.logs.String()
	for _, want := range []string{"one of a model's engines failed", "engine=e", "model=talk", "request_id=req1", "upstream_status=503"} {
		if !strings.Contains(told, want) {
			t.Errorf("the log lacks %q:\n%s", want, told)
		}
	}
	if strings.Contains(told, "ann@") {
		t.Errorf("the engine's text is in the log:\n%s", told)
	}

	// What a model has no second engine for is told once, where the request ends.
	b.models[0].Fallbacks = nil
	if _, err := b.Chat(t.Context(), b.call, b.hi()); err == nil {
		t.Fatal("answered")
	}
	if n := strings.Count(b.logs.String(), "one of a model's engines failed"); n != 1 {
		t.Errorf("told %d times, want 1", n)
	}
}
