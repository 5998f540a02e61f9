package builtin

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"

	"freehold/inference/engine"
)

// MaxAnswerTokens is the most that one answer has, whatever was asked for.
const MaxAnswerTokens = 512

// maxChoices is the most that n may be, as OpenAI has it.
const maxChoices = 128

// reply is an answer, cut to what was asked for.
type reply struct {
	words  []string // with the white space before them; together the text
	finish string   // stop or length
	usage  engine.Usage
	class  *engine.Class // a tuned model's verdict
}

// Chat serves freehold-answer-1, and models tuned from it. It is deterministic: the n choices are equal, and
// sampling parameters have no effect.
func (e *Engine) Chat(ctx context.Context, req *engine.ChatRequest) (*engine.ChatResponse, error) {
	r, err := e.reply(ctx, req)
	if err != nil {
		return nil, err
	}
	res := &engine.ChatResponse{Object: "chat.completion", Model: req.Model, Usage: r.usage}
	for i := range max(req.N, 1) {
		res.Choices = append(res.Choices, engine.ChatChoice{
			Index:        i,
			Message:      engine.AnswerMessage(strings.Join(r.words, "")),
			FinishReason: r.finish,
			Class:        r.class,
		})
	}
	return res, nil
}

// ChatStream is Chat, a word at a time. The whole answer is worked out before its
// first word goes out, so every chunk bears the whole usage: a client that leaves
// has caused it.
func (e *Engine) ChatStream(ctx context.Context, req *engine.ChatRequest, emit func(*engine.ChatChunk) error) error {
	r, err := e.reply(ctx, req)
	if err != nil {
		return err
	}
	send := func(choices ...engine.ChunkChoice) error {
		if err := ctx.Err(); err != nil {
			return stopped(context.Cause(ctx))
		}
		if choices == nil {
			choices = []engine.ChunkChoice{}
		}
		return emit(&engine.ChatChunk{Object: "chat.completion.chunk", Model: req.Model, Choices: choices, Usage: &r.usage})
	}
	for i := range max(req.N, 1) {
		if err := send(engine.ChunkChoice{Index: i, Delta: engine.TextDelta("assistant", "")}); err != nil {
			return err
		}
		for _, word := range r.words {
			if err := send(engine.ChunkChoice{Index: i, Delta: engine.TextDelta("", word)}); err != nil {
				return err
			}
		}
		if err := send(engine.ChunkChoice{Index: i, Delta: engine.TextDelta("", ""), FinishReason: &r.finish}); err != nil {
			return err
		}
	}
	return send()
}

// reply checks the request, finds the answer, and cuts and counts it.
func (e *Engine) reply(ctx context.Context, req *engine.ChatRequest) (*reply, error) {
	if err := check(req); err != nil {
		return nil, err
	}
	turns := make([]Turn, 0, len(req.Messages))
	sizes := make([]int, 0, len(req.Messages))
	size := 0
	for _, m := range req.Messages {
		n, ok := plain(m)
		if !ok {
			return nil, unsupported("messages", "the built-in model reads text only")
		}
		turns, sizes = append(turns, Turn{m.Role, m.Text()}), append(sizes, n)
		size += len(turns[len(turns)-1].Text)
	}
	var prompt int64
	if size <= maxPromptBytes {
		for i, t := range turns {
			prompt += e.tokens(t.Text, sizes[i])
		}
	}
	if size > maxPromptBytes || prompt > MaxPromptTokens {
		return nil, refuse("messages", "the conversation is longer than 32000 tokens, the most that this model reads")
	}
	text, class, err := e.say(ctx, req, turns)
	if err != nil {
		return nil, err
	}
	limit := int64(MaxAnswerTokens)
	if req.MaxTokens != nil {
		limit = min(limit, int64(*req.MaxTokens))
	}
	r := &reply{class: class}
	var said int64
	r.words, said, r.finish = e.cut(untilStop(text, req.Stop), limit)
	said *= int64(max(req.N, 1))
	r.usage = engine.Usage{PromptTokens: prompt, CompletionTokens: said, TotalTokens: prompt + said}
	return r, nil
}

// say finds the answer: the tuned model's with its verdict, or the base model's.
func (e *Engine) say(ctx context.Context, req *engine.ChatRequest, turns []Turn) (string, *engine.Class, error) {
	if req.Tuned != nil {
		return e.tunedAnswer(ctx, req, turns)
	}
	a, err := e.Answer(ctx, req.Scope, turns)
	return a.Text(), nil, err
}

// tokens counts a message's text for the bill: never more than the bytes that its
// author wrote and one, which the encoder's normalisation of a few rare signs, and
// the line breaks between many parts, would exceed.
func (e *Engine) tokens(text string, bytes int) int64 {
	return int64(min(e.encoder.Tokens(text), bytes+1))
}

// cut splits a text into words and keeps as many as limit tokens allow.
func (e *Engine) cut(text string, limit int64) (words []string, tokens int64, finish string) {
	for word := range wordsOf(text) {
		n := int64(e.encoder.Tokens(strings.TrimPrefix(word, " ")))
		if tokens+n > limit {
			return words, tokens, "length"
		}
		words = append(words, word)
		tokens += n
	}
	return words, tokens, "stop"
}

// wordsOf yields a text's words, each with the space before it.
func wordsOf(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for text != "" {
			end := strings.IndexByte(text[1:], ' ') + 1
			if end == 0 {
				end = len(text)
			}
			if !yield(text[:end]) {
				return
			}
			text = text[end:]
		}
	}
}

// untilStop returns the text before the first stop sequence in it.
func untilStop(text string, stop []string) string {
	end := len(text)
	for _, s := range stop {
		if i := strings.Index(text, s); s != "" && i >= 0 {
			end = min(end, i)
		}
	}
	return text[:end]
}

// check refuses what the model can't do. Parameters that only steer sampling are
// accepted.
func check(req *engine.ChatRequest) error {
	if req.Tuned == nil && req.Model != AnswerModel {
		return unsupported("model", "the built-in engine chats with "+AnswerModel+" only")
	}
	if req.N > maxChoices {
		return refuse("n", "n is more than 128")
	}
	for _, name := range []string{"tools", "functions", "logprobs", "top_logprobs", "audio", "web_search_options"} {
		if set(req.Params[name]) {
			return unsupported(name, "the built-in model doesn't support "+name)
		}
	}
	if f := req.Params["response_format"]; set(f) {
		var format struct{ Type string }
		if json.Unmarshal(f, &format) != nil || format.Type != "text" {
			return unsupported("response_format", "the built-in model answers in plain text only")
		}
	}
	return nil
}

// set says whether a parameter asks for something: not absent, null, false, 0 or [].
func set(raw json.RawMessage) bool {
	switch string(bytes.TrimSpace(raw)) {
	case "", "null", "false", "0", "[]":
		return false
	}
	return true
}

// plain says whether a message's content is text (null, a string, or text parts),
// and how many bytes of it.
func plain(m engine.Message) (bytes int, ok bool) {
	var parts []struct{ Type, Text string }
	if json.Unmarshal(m.Content, &parts) != nil {
		return len(m.Text()), true // no array: a string, or what the pipeline has let pass
	}
	for _, p := range parts {
		switch p.Type {
		case "text":
			bytes += len(p.Text)
		case "refusal":
		default:
			return 0, false
		}
	}
	return bytes, true
}
