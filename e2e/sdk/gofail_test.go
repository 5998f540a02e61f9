//go:build e2e

package sdk_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// refused checks that an error is the SDK's own, with all that it can tell.
func (c goClient) refused(t *testing.T, err error, status int, code, param string) *openai.Error {
	t.Helper()
	e, ok := errors.AsType[*openai.Error](err)
	if !ok {
		t.Fatalf("%T: %v", err, err)
	}
	if e.StatusCode != status || e.Code != code || e.Param != param || e.Message == "" || e.Type == "" {
		t.Errorf("got %d %q %q %q %q, want %d %q %q", e.StatusCode, e.Code, e.Param, e.Type, e.Message, status, code, param)
	}
	if e.Response == nil || e.Response.Header.Get("X-Request-Id") == "" {
		t.Error("no x-request-id")
	}
	return e
}

// once checks that a failure was one attempt.
func (c goClient) once(t *testing.T) {
	t.Helper()
	if got := c.door.counted(); len(got) != 1 {
		t.Errorf("%d attempts, want 1: %+v", len(got), got)
	}
	c.door.reset()
}

func goErrors(t *testing.T, c goClient) {
	ctx := t.Context()
	_, err := c.Chat.Completions.New(ctx, c.ask("/none", "x"))
	c.refused(t, err, 404, "model_not_found", "model")
	c.once(t)
	stream := c.Chat.Completions.NewStreaming(ctx, c.ask("/none", "x"))
	if stream.Next() {
		t.Error("a refused stream gave a chunk")
	}
	c.refused(t, stream.Err(), 404, "model_not_found", "model")
	c.once(t)
	_, err = c.Chat.Completions.New(ctx, c.ask(echoModel, "x"), option.WithAPIKey("fh_nobody_nothing"))
	c.refused(t, err, 401, "invalid_api_key", "")
	c.once(t)
	bad := c.ask(echoModel, "x")
	bad.Temperature = openai.Float(9)
	_, err = c.Chat.Completions.New(ctx, bad)
	c.refused(t, err, 400, "invalid_request", "temperature")
	c.once(t)
	loud := c.ask(echoModel, "x")
	loud.Audio = openai.ChatCompletionAudioParam{Format: "wav"}
	_, err = c.Chat.Completions.New(ctx, loud)
	c.refused(t, err, 400, "invalid_request", "audio")
	c.once(t)
	_, err = c.Models.Get(ctx, "another/model")
	c.refused(t, err, 404, "model_not_found", "model")
	c.once(t)
	_, err = c.Chat.Completions.New(ctx, c.ask(downModel, "x"), option.WithMaxRetries(0))
	if e := c.refused(t, err, 502, "engine_error", ""); strings.Contains(e.RawJSON(), "secret words") {
		t.Errorf("the upstream's own words: %s", e.RawJSON())
	}
	c.once(t)
}

// A stream that breaks off ends in an error, after what had come.
func goBrokenStream(t *testing.T, c goClient) {
	stream := c.Chat.Completions.NewStreaming(t.Context(), c.ask(cutModel, "x"))
	text := ""
	for stream.Next() {
		for _, choice := range stream.Current().Choices {
			text += choice.Delta.Content
		}
	}
	if stream.Err() == nil || text != "so far" {
		t.Errorf("got %q, then %v", text, stream.Err())
	}
	c.once(t)
}

// A failure that may pass is tried again, no sooner than Retry-After says.
func goRetries(t *testing.T, c goClient) {
	_, err := c.Chat.Completions.New(t.Context(), c.ask(downModel, "x"), option.WithMaxRetries(1))
	c.refused(t, err, 502, "engine_error", "")
	if n := len(c.door.counted()); n != 2 {
		t.Errorf("an engine's failure: %d attempts, want 2", n)
	}
	c.door.reset()

	c.fence("+ 1000000")
	c.workers.Go(func() {
		c.door.refusedFirst(503)
		c.fence("- 1000000")
	})
	got, err := c.Chat.Completions.New(t.Context(), c.ask(echoModel, "hello"))
	c.workers.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if got.Choices[0].Message.Content != "hello" {
		t.Errorf("got %s", got.RawJSON())
	}
	c.patient(t, 503)
}

// patient checks that the first attempt was refused with the status, and the next
// one came after the second that Retry-After asked for.
func (c goClient) patient(t *testing.T, status int) {
	t.Helper()
	all := c.door.counted()
	if len(all) < 2 || all[0].Status != status || all[len(all)-1].Status != 200 {
		t.Fatalf("attempts: %+v", all)
	}
	for i, a := range all {
		if a.Retry != strconv.Itoa(i) {
			t.Errorf("attempt %d says it is retry %q", i, a.Retry)
		}
	}
	if pause := all[1].At.Sub(all[0].At); pause < time.Second || pause > 5*time.Second {
		t.Errorf("tried again after %v, want the second of Retry-After", pause)
	}
}

// With every slot taken a request waits as it is told to, and gets one.
func goSlots(t *testing.T, c goClient) {
	c.set("concurrent_request_limit=1")
	defer c.set("concurrent_request_limit=10")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	holder := c.Chat.Completions.NewStreaming(ctx, c.ask(echoModel, "slow"))
	if !holder.Next() {
		t.Fatal(holder.Err())
	}
	c.door.reset()
	c.workers.Go(func() {
		c.door.refusedFirst(429)
		cancel()
	})
	_, err := c.Chat.Completions.New(t.Context(), c.ask(echoModel, "hello"))
	c.workers.Wait()
	_ = holder.Close()
	<-c.upstream.left
	if err != nil {
		t.Fatal(err)
	}
	c.patient(t, 429)
}

// The same key gets the same answer, and the engine works once.
func goIdempotency(t *testing.T, c goClient) {
	key := option.WithHeader("Idempotency-Key", "go-small")
	_, before := c.upstream.seen()
	var ids []string
	for range 2 {
		got, err := c.Chat.Completions.New(t.Context(), c.ask(echoModel, "once"), key)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, got.ID)
	}
	if _, after := c.upstream.seen(); ids[0] != ids[1] || after != before+1 {
		t.Errorf("answers %v, the engine worked %d times", ids, after-before)
	}
	c.door.reset()
	_, err := c.Chat.Completions.New(t.Context(), c.ask(echoModel, "another"), key)
	c.refused(t, err, 422, "idempotency_mismatch", "Idempotency-Key")
	c.once(t)

	// An answer too large to be kept can't be given again, however often one asks.
	large := option.WithHeader("Idempotency-Key", "go-large")
	if _, err := c.Chat.Completions.New(t.Context(), c.ask(echoModel, "huge"), large); err != nil {
		t.Fatal(err)
	}
	c.door.reset()
	_, err = c.Chat.Completions.New(t.Context(), c.ask(echoModel, "huge"), large)
	c.refused(t, err, 409, "conflict", "Idempotency-Key")
	c.once(t)
}

// An exhausted month is one attempt: nothing that an SDK does by itself helps.
func goExhausted(t *testing.T, c goClient) {
	c.set("monthly_token_limit=10")
	defer c.set("monthly_token_limit=1000000")
	_, before := c.upstream.seen()
	params := c.ask(echoModel, strings.Repeat("many words ", 50))
	_, err := c.Chat.Completions.New(t.Context(), params)
	e := c.refused(t, err, 429, "insufficient_quota", "")
	if h := e.Response.Header; h.Get("X-Should-Retry") != "false" || h.Get("Retry-After") != "" || h.Get("X-Ratelimit-Remaining-Tokens") != "0" {
		t.Errorf("headers %v", h)
	}
	c.once(t)
	stream := c.Chat.Completions.NewStreaming(t.Context(), params)
	if stream.Next() {
		t.Error("a refused stream gave a chunk")
	}
	c.refused(t, stream.Err(), 429, "insufficient_quota", "")
	c.once(t)
	_, err = c.Embeddings.New(t.Context(), openai.EmbeddingNewParams{
		Model: "freehold-embed-1", Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String(strings.Repeat("many words ", 50))},
	})
	c.refused(t, err, 429, "insufficient_quota", "")
	c.once(t)
	if _, after := c.upstream.seen(); after != before {
		t.Error("the engine worked for nothing")
	}
}
