package api_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"freehold/cmd/freehold/rest/resttest"
	"freehold/inference/engine"
)

// sdk is the official client, set up as its two environment variables would.
func (b *bench) sdk(token string) openai.Client {
	transport := &http.Transport{}
	b.Cleanup(transport.CloseIdleConnections)
	return openai.NewClient(
		option.WithBaseURL(b.url+"/v1"), option.WithAPIKey(token),
		option.WithHTTPClient(&http.Client{Transport: transport}),
	)
}

func ask(model, text string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model: model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)},
	}
}

// The official Go SDK works unchanged.
func TestSDK(t *testing.T) {
	t.Parallel()
	b := setup(t)
	client := b.sdk(b.client.Token)
	ctx := t.Context()

	t.Run("chat", func(t *testing.T) {
		got, err := client.Chat.Completions.New(ctx, ask("chat-1", "hello there"))
		if err != nil {
			t.Fatal(err)
		}
		if got.Choices[0].Message.Content != "HELLO THERE" || got.Usage.TotalTokens != 4 || got.Choices[0].FinishReason != "stop" {
			t.Errorf("got %s", got.RawJSON())
		}
	})
	t.Run("stream", func(t *testing.T) {
		params := ask("chat-1", "one two three")
		params.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
		stream := client.Chat.Completions.NewStreaming(ctx, params)
		acc := openai.ChatCompletionAccumulator{}
		for stream.Next() {
			if !acc.AddChunk(stream.Current()) {
				t.Errorf("chunk doesn't fit: %s", stream.Current().RawJSON())
			}
		}
		if err := stream.Err(); err != nil {
			t.Fatal(err)
		}
		if acc.Choices[0].Message.Content != "ONE TWO THREE " || acc.Usage.TotalTokens != 6 {
			t.Errorf("got %q, usage %+v", acc.Choices[0].Message.Content, acc.Usage)
		}
	})
	t.Run("silence", func(t *testing.T) {
		b.Engine.Instead(func(_ context.Context, emit func(*engine.ChatChunk) error) error {
			stop := "stop"
			_ = emit(resttest.Word("assistant", "a"))
			time.Sleep(1200 * time.Millisecond) // a ping goes between
			c := resttest.Word("", "b")
			c.Choices[0].FinishReason = &stop
			return errors.Join(emit(c), emit(&engine.ChatChunk{Usage: &engine.Usage{}}))
		})
		defer b.Engine.Instead(nil)
		stream := client.Chat.Completions.NewStreaming(ctx, ask("chat-1", "x"))
		text := ""
		for stream.Next() {
			for _, c := range stream.Current().Choices {
				text += c.Delta.Content
			}
		}
		if stream.Err() != nil || text != "ab" {
			t.Errorf("got %q, %v", text, stream.Err())
		}
	})
	t.Run("broken stream", func(t *testing.T) {
		b.Engine.Instead(func(_ context.Context, emit func(*engine.ChatChunk) error) error {
			_ = emit(resttest.Word("assistant", "a"))
			return &engine.Error{Kind: engine.Failed, Message: "gone"}
		})
		defer b.Engine.Instead(nil)
		stream := client.Chat.Completions.NewStreaming(ctx, ask("chat-1", "x"))
		n := 0
		for stream.Next() {
			n++
		}
		if stream.Err() == nil || n != 1 {
			t.Errorf("%d chunks, then %v", n, stream.Err())
		}
	})
	t.Run("embeddings", func(t *testing.T) {
		got, err := client.Embeddings.New(ctx, openai.EmbeddingNewParams{
			Model: "embed-1", Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"four", "seven77"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Data) != 2 || !slices.Equal(got.Data[1].Embedding, []float64{7, 1}) {
			t.Errorf("got %+v", got.Data)
		}
	})
	t.Run("models", func(t *testing.T) {
		page, err := client.Models.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range page.Data {
			names = append(names, m.ID)
		}
		if strings.Join(names, " ") != "chat-1 embed-1 meta-llama/Llama-3" {
			t.Errorf("got %v", names)
		}
		m, err := client.Models.Get(ctx, "meta-llama/Llama-3")
		if err != nil || m.ID != "meta-llama/Llama-3" {
			t.Errorf("got %+v, %v", m, err)
		}
	})
}

// Errors come as the SDK's own, and are tried again only where that can help.
func TestSDKErrors(t *testing.T) {
	t.Parallel()
	b := setup(t)
	client := b.sdk(b.client.Token)
	failed := func(t *testing.T, err error, status int, code, param string) {
		t.Helper()
		var e *openai.Error
		if !errors.As(err, &e) {
			t.Fatalf("%T: %v", err, err)
		}
		if e.StatusCode != status || e.Code != code || e.Param != param || e.Message == "" {
			t.Errorf("got %d %q %q %q, want %d %q %q", e.StatusCode, e.Code, e.Param, e.Message, status, code, param)
		}
		if e.Response.Header.Get("X-Request-Id") == "" {
			t.Error("no x-request-id")
		}
	}
	ctx := t.Context()
	_, err := client.Chat.Completions.New(ctx, ask("gpt-99", "x"))
	failed(t, err, 404, "model_not_found", "model")
	stranger := b.sdk("fh_nobody_nothing")
	_, err = stranger.Chat.Completions.New(ctx, ask("chat-1", "x"))
	failed(t, err, 401, "invalid_api_key", "")
	stream := client.Chat.Completions.NewStreaming(ctx, ask("gpt-99", "x"))
	if stream.Next() {
		t.Error("a refused stream gave a chunk")
	}
	failed(t, stream.Err(), 404, "model_not_found", "model")
	_, err = client.Chat.Completions.New(ctx, ask("chat-1", strings.Repeat("x", 10<<20)))
	failed(t, err, 413, "request_too_large", "")

	tries := func(kind engine.Kind) int64 {
		b.Engine.Instead(func(context.Context, func(*engine.ChatChunk) error) error {
			return &engine.Error{Kind: kind, Message: "no"}
		})
		before := b.Engine.Calls.Load()
		_, err = client.Chat.Completions.New(ctx, ask("chat-1", "x"), option.WithMaxRetries(1))
		return b.Engine.Calls.Load() - before
	}
	if n := tries(engine.Failed); n != 2 {
		t.Errorf("an engine's failure was tried %d times, want 2", n)
	}
	failed(t, err, 502, "engine_error", "")
	if n := tries(engine.BadRequest); n != 1 {
		t.Errorf("a bad request was tried %d times", n)
	}
	failed(t, err, 400, "invalid_request", "")
}
