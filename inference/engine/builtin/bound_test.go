package builtin_test

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"

	"freehold/inference/engine"
	"freehold/inference/engine/builtin"
)

// What a request is charged never exceeds what can be told before it is sent: the
// bytes of its text and the model's declared overheads, and what it may answer.
func TestUsageIsBounded(t *testing.T) {
	t.Parallel()
	const ofRequest, ofMessage = 32, 16
	e := newEngine(t)
	// Among them a sign that becomes 18 others, the tokenizer's own mark, and text
	// that no piece covers.
	words := rapid.OneOf(
		rapid.SampledFrom([]string{"where", "warehouse", "ﷺ", "▁", "½", "日本", "ﬃ", " ", "\n", ".", "?", "\u0300", "🏭", "\x00"}),
		rapid.StringN(0, 3, -1),
	)
	text := rapid.Custom(func(t *rapid.T) string {
		s := ""
		for _, w := range rapid.SliceOfN(words, 0, 4).Draw(t, "words") {
			s += w
		}
		return s
	})
	rapid.Check(t, func(t *rapid.T) {
		bytes := 0
		message := func(role, s string) engine.Message {
			bytes += len(s)
			return engine.Message{Role: role, Content: engine.TextContent(s)}
		}
		req := &engine.ChatRequest{Model: builtin.AnswerModel, Scope: "bound", N: rapid.IntRange(0, 4).Draw(t, "n")}
		for range rapid.IntRange(0, 2).Draw(t, "messages") {
			req.Messages = append(req.Messages, message("system", text.Draw(t, "text")))
		}
		var parts []map[string]string
		for range rapid.IntRange(0, 40).Draw(t, "parts") {
			part := rapid.SampledFrom([]string{"", ".", "ﷺ"}).Draw(t, "part")
			bytes += len(part)
			parts = append(parts, map[string]string{"type": "text", "text": part})
		}
		content, err := json.Marshal(parts)
		if err != nil {
			t.Fatal(err)
		}
		req.Messages = append(req.Messages, engine.Message{Role: "user", Content: content}, message("user", "Where?"))
		most := rapid.IntRange(0, 30).Draw(t, "most")
		if rapid.Bool().Draw(t, "limited") {
			req.MaxTokens = &most
		} else {
			most = builtin.MaxAnswerTokens
		}
		resp, err := e.Chat(t.Context(), req)
		if err != nil {
			t.Fatalf("%v", err)
		}
		if u, bound := resp.Usage, int64(bytes+ofRequest+ofMessage*len(req.Messages)); u.PromptTokens > bound {
			t.Errorf("%d prompt tokens, bounded by %d", u.PromptTokens, bound)
		}
		if u, bound := resp.Usage, int64(most*max(req.N, 1)); u.CompletionTokens > bound {
			t.Errorf("%d completion tokens, bounded by %d", u.CompletionTokens, bound)
		}
	})
}

// Embeddings are charged for what is read of each input.
func TestEmbeddingUsageIsBounded(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.OneOf(rapid.StringN(0, 4, -1), rapid.SampledFrom([]string{"ﷺ", "ﷺﷺﷺ", "", "▁▁"})).Draw(t, "input")
		resp, err := e.Embed(t.Context(), &engine.EmbedRequest{Model: builtin.EmbedModel, Input: []string{in}})
		if err != nil {
			t.Fatalf("%v", err)
		}
		if got, bound := resp.Usage.PromptTokens, int64(len(in)+1); got > bound {
			t.Errorf("%d tokens, bounded by %d", got, bound)
		}
	})
}
