package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"freehold/inference/engine"
)

func TestMessageRoundTrip(t *testing.T) {
	t.Parallel()
	for in, text := range map[string]string{
		`{"content":"hi","role":"user"}`:                                                                         "hi",
		`{"content":null,"role":"assistant","tool_calls":[{"id":"c"}]}`:                                          "",
		`{"content":[{"type":"text","text":"a"},{"type":"image_url"},{"type":"text","text":"b"}],"role":"user"}`: "a\nb",
	} {
		var m engine.Message
		if err := json.Unmarshal([]byte(in), &m); err != nil {
			t.Fatal(err)
		}
		out, err := json.Marshal(m)
		if err != nil || string(out) != in || m.Text() != text {
			t.Errorf("%s became %s (%v), text %q", in, out, err, m.Text())
		}
	}
	var m engine.Message
	for _, bad := range []string{`{}`, `{"role":7}`, `{"role":""}`, `[]`, `"x"`} {
		if err := json.Unmarshal([]byte(bad), &m); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

func TestChunkShapes(t *testing.T) {
	t.Parallel()
	stop := "stop"
	usage := &engine.Usage{PromptTokens: 1, CompletionTokens: 2, TotalTokens: 3}
	choice := []engine.ChunkChoice{{Delta: engine.TextDelta("", ""), FinishReason: &stop}}
	const head = `{"id":"","object":"","created":0,"model":"","choices":`
	const counts = `{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}`
	for want, c := range map[string]engine.ChatChunk{
		head + `[{"index":0,"delta":{},"finish_reason":"stop"}]}`:              {Choices: choice},
		head + `[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}`: {Choices: choice, UsageAsked: true},
		head + `[],"usage":` + counts + `}`:                                    {Usage: usage, UsageAsked: true},
	} {
		for _, v := range []any{c, &c} {
			if got, err := json.Marshal(v); err != nil || string(got) != want {
				t.Errorf("got %s, %v\nwant %s", got, err, want)
			}
		}
	}
}

func TestKindsAndTexts(t *testing.T) {
	t.Parallel()
	inner := errors.New("inner")
	e := &engine.Error{Kind: engine.BadRequest, Message: "quotes the prompt", UpstreamStatus: 400, Err: inner}
	if strings.Contains(e.Error(), "quotes") || !strings.Contains(e.Error(), "400") || !errors.Is(e, inner) {
		t.Errorf("got %q", e.Error())
	}
	for err, want := range map[error]engine.Kind{
		e: engine.BadRequest, fmt.Errorf("x: %w", &engine.Error{Kind: engine.Timeout}): engine.Timeout,
		context.DeadlineExceeded: engine.Timeout, inner: engine.Failed,
	} {
		if got := engine.KindOf(err); got != want {
			t.Errorf("%v is %v, want %v", err, got, want)
		}
	}
}
