package builtin_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"freehold/inference/engine"
	"freehold/inference/engine/builtin"
)

const warehouse = "Our warehouse stands in Rotterdam."

// chat is a request about tenFacts, changed by edit.
func chat(q string, edit func(*engine.ChatRequest)) *engine.ChatRequest {
	req := &engine.ChatRequest{
		Model: builtin.AnswerModel,
		Messages: []engine.Message{
			{Role: "system", Content: engine.TextContent(tenFacts)},
			{Role: "user", Content: engine.TextContent(q)},
		},
		Scope: "chat",
	}
	if edit != nil {
		edit(req)
	}
	return req
}

func content(t *testing.T, raw json.RawMessage) string {
	t.Helper()
	var m struct {
		Role, Content string
		Refusal       any
	}
	if err := json.Unmarshal(raw, &m); err != nil || m.Role != "assistant" {
		t.Fatalf("message %s: %v", raw, err)
	}
	return m.Content
}

func TestChat(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	limit := func(n int) func(*engine.ChatRequest) {
		return func(r *engine.ChatRequest) { r.MaxTokens = &n }
	}
	for name, c := range map[string]struct {
		edit         func(*engine.ChatRequest)
		text, finish string
	}{
		"plain":       {nil, warehouse, "stop"},
		"three":       {func(r *engine.ChatRequest) { r.N = 3 }, warehouse, "stop"},
		"stop":        {func(r *engine.ChatRequest) { r.Stop = []string{"zzz", " in", "Rotter"} }, "Our warehouse stands", "stop"},
		"stop first":  {func(r *engine.ChatRequest) { r.Stop = []string{"Our"} }, "", "stop"},
		"cut":         {limit(encoder(t).Tokens("Our warehouse")), "Our warehouse", "length"},
		"just enough": {limit(encoder(t).Tokens(warehouse)), warehouse, "stop"},
		"zero":        {limit(0), "", "length"},
		"no effect": {func(r *engine.ChatRequest) {
			r.Params = map[string]json.RawMessage{
				"temperature": json.RawMessage("2"), "seed": json.RawMessage("7"), "tools": json.RawMessage("[]"),
				"logprobs": json.RawMessage("false"), "response_format": json.RawMessage(`{"type":"text"}`),
			}
		}, warehouse, "stop"},
		"parts": {func(r *engine.ChatRequest) {
			r.Messages[1].Content = json.RawMessage(`[{"type":"text","text":"Where is"},{"type":"text","text":"the warehouse?"}]`)
		}, warehouse, "stop"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := chat("Where is the warehouse?", c.edit)
			res, err := e.Chat(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if len(res.Choices) != max(req.N, 1) {
				t.Fatalf("%d choices", len(res.Choices))
			}
			for i, choice := range res.Choices {
				if got := content(t, choice.Message); got != c.text || choice.FinishReason != c.finish || choice.Index != i {
					t.Errorf("choice %d: %q, %s; want %q, %s", choice.Index, got, choice.FinishReason, c.text, c.finish)
				}
			}
			u := res.Usage
			if u.PromptTokens < 80 || u.TotalTokens != u.PromptTokens+u.CompletionTokens || u.CompletionTokens%int64(max(req.N, 1)) != 0 {
				t.Errorf("usage %+v", u)
			}
			if req.MaxTokens != nil && u.CompletionTokens > int64(*req.MaxTokens) {
				t.Errorf("%d tokens, more than asked for", u.CompletionTokens)
			}
			streamed(t, e, req, c.text, c.finish, u)
		})
	}
}

// streamed checks that the stream of req says the same.
func streamed(t *testing.T, e *builtin.Engine, req *engine.ChatRequest, text, finish string, usage engine.Usage) {
	t.Helper()
	texts := make([]string, max(req.N, 1))
	finished := make([]string, len(texts))
	var last *engine.ChatChunk
	err := e.ChatStream(t.Context(), req, func(c *engine.ChatChunk) error {
		if last != nil && len(last.Choices) == 0 {
			t.Error("a chunk after the last")
		}
		if c.Usage == nil || c.Usage.TotalTokens != usage.TotalTokens {
			t.Errorf("a chunk with usage %+v, want %+v", c.Usage, usage)
		}
		last = c
		for _, choice := range c.Choices {
			var d struct{ Role, Content string }
			if err := json.Unmarshal(choice.Delta, &d); err != nil {
				t.Error(err)
			}
			if finished[choice.Index] != "" || (d.Role != "") != (texts[choice.Index] == "" && d.Content == "" && choice.FinishReason == nil) {
				t.Errorf("choice %d: unexpected delta %s", choice.Index, choice.Delta)
			}
			texts[choice.Index] += d.Content
			if choice.FinishReason != nil {
				finished[choice.Index] = *choice.FinishReason
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range texts {
		if texts[i] != text || finished[i] != finish {
			t.Errorf("stream of choice %d: %q, %s; want %q, %s", i, texts[i], finished[i], text, finish)
		}
	}
	if last.Usage == nil || last.Choices == nil || len(last.Choices) != 0 {
		t.Errorf("last chunk %+v", last)
	} else if last.Usage.TotalTokens != usage.TotalTokens || last.Usage.PromptTokens != usage.PromptTokens {
		t.Errorf("stream's usage %+v, want %+v", *last.Usage, usage)
	}
}

func TestChatRefuses(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	param := func(name, value string) func(*engine.ChatRequest) {
		return func(r *engine.ChatRequest) { r.Params = map[string]json.RawMessage{name: json.RawMessage(value)} }
	}
	facts := func(text string) func(*engine.ChatRequest) {
		return func(r *engine.ChatRequest) { r.Messages[0].Content = engine.TextContent(text) }
	}
	for name, c := range map[string]struct {
		edit  func(*engine.ChatRequest)
		kind  engine.Kind
		param string
	}{
		"tools":       {param("tools", `[{"type":"function"}]`), engine.Unsupported, "tools"},
		"json":        {param("response_format", `{"type":"json_object"}`), engine.Unsupported, "response_format"},
		"logprobs":    {param("logprobs", "true"), engine.Unsupported, "logprobs"},
		"model":       {func(r *engine.ChatRequest) { r.Model = builtin.EmbedModel }, engine.Unsupported, "model"},
		"many":        {func(r *engine.ChatRequest) { r.N = 129 }, engine.BadRequest, "n"},
		"no question": {func(r *engine.ChatRequest) { r.Messages = r.Messages[:1] }, engine.BadRequest, "messages"},
		"empty":       {func(r *engine.ChatRequest) { r.Messages[1].Content = nil }, engine.BadRequest, "messages"},
		"none":        {func(r *engine.ChatRequest) { r.Messages = nil }, engine.BadRequest, "messages"},
		"sentences":   {facts(manySentences(builtin.MaxSentences + 1)), engine.BadRequest, "messages"},
		"tokens":      {facts(strings.Repeat("of ", builtin.MaxPromptTokens)), engine.BadRequest, "messages"},
		"bytes":       {facts(strings.Repeat("x", 9*builtin.MaxPromptTokens)), engine.BadRequest, "messages"},
		"picture": {func(r *engine.ChatRequest) {
			r.Messages[1].Content = json.RawMessage(`[{"type":"image_url","image_url":{}}]`)
		}, engine.Unsupported, "messages"},
		"wrong content": {func(r *engine.ChatRequest) { r.Messages[1].Content = json.RawMessage(`{"a":1}`) }, engine.BadRequest, "messages"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := chat("Where is the warehouse?", c.edit)
			_, err := e.Chat(t.Context(), req)
			streamErr := e.ChatStream(t.Context(), req, func(*engine.ChatChunk) error { t.Error("emitted"); return nil })
			for _, err := range []error{err, streamErr} {
				var fault *engine.Error
				if !errors.As(err, &fault) || fault.Kind != c.kind || fault.Param != c.param || fault.Message == "" {
					t.Errorf("error %+v, want kind %d for %s", err, c.kind, c.param)
				}
			}
		})
	}
}

func manySentences(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("No. ")
		b.WriteString(strings.Repeat("a", 1+i%40))
		b.WriteString(strings.Repeat("b", 1+i/40))
		b.WriteString(".\n")
	}
	return b.String()
}

func TestChatEndsWithContext(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	req := chat("Where is the warehouse?", func(r *engine.ChatRequest) { r.Scope = "" })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Chat(ctx, req); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	late, cancelLate := context.WithTimeout(t.Context(), 1)
	defer cancelLate()
	if _, err := e.Chat(late, req); engine.KindOf(err) != engine.Timeout {
		t.Errorf("past its deadline: %v", err)
	}

	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	chunks := 0
	err := e.ChatStream(ctx, req, func(*engine.ChatChunk) error {
		if chunks++; chunks == 2 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || chunks != 2 {
		t.Errorf("cancelled in the stream: %d chunks, %v", chunks, err)
	}

	gone := errors.New("client gone")
	if err := e.ChatStream(t.Context(), req, func(*engine.ChatChunk) error { return gone }); !errors.Is(err, gone) {
		t.Errorf("emit's error: %v", err)
	}
}

func TestEmbed(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	inputs := []string{"How do I reset my password?", "", strings.Repeat("of ", 300)}
	res, err := e.Embed(t.Context(), &engine.EmbedRequest{Model: builtin.EmbedModel, Input: inputs, Dimensions: 512})
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range inputs {
		if !slices.Equal(res.Vectors[i], encode(t, text)) {
			t.Errorf("vector %d is another than the encoder's", i)
		}
	}
	if want := int64(8 + 1 + 128); res.Usage.PromptTokens != want || res.Usage.TotalTokens != want || res.Usage.CompletionTokens != 0 {
		t.Errorf("usage %+v, want %d tokens", res.Usage, want)
	}
	for param, req := range map[string]*engine.EmbedRequest{
		"dimensions": {Model: builtin.EmbedModel, Input: inputs, Dimensions: 256},
		"model":      {Model: builtin.AnswerModel, Input: inputs},
		"input":      {Model: builtin.EmbedModel, Input: make([]string, 2049)},
	} {
		var fault *engine.Error
		if _, err := e.Embed(t.Context(), req); !errors.As(err, &fault) || fault.Param != param {
			t.Errorf("bad %s: %v", param, err)
		}
	}
	late, cancel := context.WithTimeout(t.Context(), 1)
	defer cancel()
	if _, err := e.Embed(late, &engine.EmbedRequest{Model: builtin.EmbedModel, Input: inputs}); engine.KindOf(err) != engine.Timeout {
		t.Errorf("past its deadline: %v", err)
	}
}

func BenchmarkAnswer(b *testing.B) {
	e := newEngine(b)
	for name, scope := range map[string]string{"cold": "", "cached": "bench"} {
		b.Run(name, func(b *testing.B) {
			req := chat("Where is the warehouse?", func(r *engine.ChatRequest) { r.Scope = scope })
			for b.Loop() {
				if _, err := e.Chat(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
