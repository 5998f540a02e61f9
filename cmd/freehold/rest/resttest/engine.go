package resttest

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"sync/atomic"

	"freehold/inference/engine"
)

// Engine answers with the last message's text in capitals, a word a chunk, and
// embeds each text as (length, 1). A function, when set, takes the answer over.
type Engine struct {
	Calls atomic.Int64

	mu      sync.Mutex // guards instead
	instead func(ctx context.Context, emit func(*engine.ChatChunk) error) error
}

// Instead has fn answer from now on; for a plain answer emit is nil, and a nil
// error means the usual answer. nil restores.
func (e *Engine) Instead(fn func(ctx context.Context, emit func(*engine.ChatChunk) error) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.instead = fn
}

func (e *Engine) begin() func(context.Context, func(*engine.ChatChunk) error) error {
	e.Calls.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.instead
}

func (e *Engine) answer(req *engine.ChatRequest) (string, engine.Usage) {
	asked := req.Messages[len(req.Messages)-1].Text()
	in, out := int64(len(strings.Fields(asked))), int64(len(strings.Fields(asked)))
	return strings.ToUpper(asked), engine.Usage{PromptTokens: in, CompletionTokens: out, TotalTokens: in + out}
}

// Chat answers whole.
func (e *Engine) Chat(ctx context.Context, req *engine.ChatRequest) (*engine.ChatResponse, error) {
	if fn := e.begin(); fn != nil {
		if err := fn(ctx, nil); err != nil {
			return nil, err
		}
	}
	text, usage := e.answer(req)
	return &engine.ChatResponse{
		Choices: []engine.ChatChoice{{Message: engine.AnswerMessage(text), FinishReason: "stop"}}, Usage: usage,
	}, nil
}

// ChatStream answers in chunks.
func (e *Engine) ChatStream(ctx context.Context, req *engine.ChatRequest, emit func(*engine.ChatChunk) error) error {
	if fn := e.begin(); fn != nil {
		return fn(ctx, emit)
	}
	text, usage := e.answer(req)
	role := "assistant"
	for word := range strings.FieldsSeq(text) {
		if err := emit(Word(role, word+" ")); err != nil {
			return err
		}
		role = ""
	}
	stop := "stop"
	if err := emit(&engine.ChatChunk{Choices: []engine.ChunkChoice{{Delta: engine.TextDelta("", ""), FinishReason: &stop}}}); err != nil {
		return err
	}
	return emit(&engine.ChatChunk{Usage: &usage})
}

// Word is a chunk of text.
func Word(role, text string) *engine.ChatChunk {
	return &engine.ChatChunk{Choices: []engine.ChunkChoice{{Delta: engine.TextDelta(role, text)}}}
}

// Embed returns (length, 1) for each input.
func (e *Engine) Embed(ctx context.Context, req *engine.EmbedRequest) (*engine.EmbedResponse, error) {
	if fn := e.begin(); fn != nil {
		if err := fn(ctx, nil); err != nil {
			return nil, err
		}
	}
	resp := &engine.EmbedResponse{}
	for _, s := range req.Input {
		resp.Vectors = append(resp.Vectors, []float32{float32(len(s)), 1})
		resp.Usage.PromptTokens++
		resp.Usage.TotalTokens++
	}
	return resp, nil
}

// Logs keeps what was logged.
type Logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *Logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *Logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
