package openai_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"freehold/inference/engine"
	"freehold/inference/engine/openai"
)

// Events of a usual answer.
const (
	hel   = `{"choices":[{"index":0,"delta":{"role":"assistant","content":"Hel"},"finish_reason":null}],"usage":null,"error":null}`
	lo    = `{"choices":[{"index":0,"delta":{"content":"lo é"}}]}`
	stop  = `{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	usage = `{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}`
)

// lines joins events in the usual framing.
func lines(events ...string) string {
	var b strings.Builder
	for _, e := range events {
		b.WriteString("data: " + e + "\n\n")
	}
	return b.String()
}

func TestStreamDialects(t *testing.T) {
	t.Parallel()
	usual := lines(hel, lo, stop, usage, "[DONE]")
	for name, body := range map[string]string{
		"usual":                 usual,
		"CRLF":                  strings.ReplaceAll(usual, "\n", "\r\n"),
		"CR":                    strings.ReplaceAll(usual, "\n", "\r"),
		"byte order mark":       "\xEF\xBB\xBF" + usual,
		"comments":              ": ping\n\n:\n" + strings.ReplaceAll(usual, "\n\n", "\n: ping\n\n: x\n\n"),
		"no space":              strings.ReplaceAll(usual, "data: ", "data:"),
		"many lines of data":    "data: {\"choices\":[{\"index\":0,\ndata:\"delta\":{\"role\":\"assistant\",\"content\":\"Hel\"}}]}\n\n" + lines(lo, stop, usage, "[DONE]"),
		"[DONE] and a space":    lines(hel, lo, stop, usage) + "data: [DONE] \n\n",
		"no [DONE]":             lines(hel, lo, stop, usage),
		"no last blank line":    lines(hel, lo, stop) + "data: " + usage + "\n",
		"no last line end":      lines(hel, lo, stop) + "data: " + usage,
		"other fields":          "retry: 10\nid: 7\nfoo\nevent: message\n" + usual,
		"empty data":            "data:\n\n" + usual,
		"what comes after":      usual + "data: {\"error\":{\"message\":\"x\"}}\n\n",
		"usage on the last one": lines(hel, lo, `{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}`, "[DONE]"),
		"usage that grows":      lines(`{"choices":[{"index":0,"delta":{"content":"Hel"}}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`, lo, stop, usage, "[DONE]"),
		"no finish reason":      lines(hel, lo, `{"choices":[{"index":0,"delta":null,"finish_reason":""}]}`, usage, "[DONE]"),
		"filter results first":  lines(`{"choices":[],"prompt_filter_results":[{}]}`, hel, lo, stop, usage, "[DONE]"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := listen(t.Context(), serve(t, streams(body)).Engine)
			if got.err != nil {
				t.Fatal(got.err)
			}
			if got.text != "Hello é" || got.finish != "stop" {
				t.Errorf("heard %q, finished %q", got.text, got.finish)
			}
			last := got.chunks[len(got.chunks)-1]
			if last.Usage == nil || len(last.Choices) != 0 || last.Usage.TotalTokens != 5 {
				t.Errorf("the last chunk is %+v, want usage alone", last)
			}
			for _, c := range got.chunks[:len(got.chunks)-1] {
				if len(c.Choices) == 0 {
					t.Errorf("a chunk without choices before the last")
				}
			}
		})
	}
}

func TestStreamIsAskedWithUsage(t *testing.T) {
	t.Parallel()
	var sent map[string]any
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewDecoder(r.Body).Decode(&sent)
		streams(lines(hel, stop, "[DONE]"))(w, r)
	})
	got := listen(t.Context(), u.Engine)
	if got.err != nil || got.usage != nil {
		t.Fatalf("%v, usage %v", got.err, got.usage)
	}
	if fmt.Sprint(sent["stream"], sent["stream_options"]) != "true map[include_usage:true]" {
		t.Errorf("sent %v", sent)
	}
}

func TestStreamsThatFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		text string
	}{
		"an error object":       {streams(lines(hel, `{"error":{"message":"secret","code":"overloaded"}}`)), "Hel"},
		"an error as text":      {streams(lines(hel, `{"error":"secret"}`)), "Hel"},
		"an error event":        {streams(lines(hel) + "event: error\ndata: whatever\n\n"), "Hel"},
		"it ends early":         {streams(lines(hel, lo)), "Hello é"},
		"it breaks within":      {aborts(lines(hel) + "data: {\"choi"), "Hel"},
		"no JSON":               {streams(lines(hel, `nope`)), "Hel"},
		"a wild choice":         {streams(lines(`{"choices":[{"index":-1,"delta":{}}]}`)), ""},
		"a delta that is none":  {streams(lines(`{"choices":[{"delta":"x"}]}`)), ""},
		"nothing":               {streams(""), ""},
		"[DONE] alone":          {streams(lines("[DONE]")), ""},
		"an error as a whole":   {says(200, `{"error":{"message":"secret"}}`), ""},
		"whole where streamed":  {says(200, `{"choices":[{"message":{"content":"a"}}]}`), ""},
		"an endless line":       {streams("data: " + strings.Repeat("x", 9<<20)), ""},
		"an event without end":  {streams(strings.Repeat("data: "+strings.Repeat("x", 1<<20)+"\n", 9)), ""},
		"an answer without end": {streams(strings.Repeat(": "+strings.Repeat("x", 1<<20)+"\n", 33)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, c.h)
			got := listen(t.Context(), u.Engine)
			e := wantFail(t, got.err, engine.Failed, 0)
			if got.text != c.text || strings.Contains(e.Message+e.Error(), "secret") {
				t.Errorf("heard %q, then %v", got.text, e)
			}
			if n := u.calls.Load(); n != 1 {
				t.Errorf("%d calls: output was repeated", n)
			}
		})
	}
}

// aborts streams a body and drops the connection.
func aborts(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		streams(body)(w, r)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// hangs streams a body, then waits for the client to go, and says so.
func hangs(body string, gone chan<- struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		streams(body)(w, r)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		gone <- struct{}{}
	}
}

func TestStreamSilence(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{}, 1)
	quick := func(c *openai.Config) { c.Timeout, c.IdleTimeout = 2*time.Second, 50*time.Millisecond }
	within(t, time.Second, func() {
		got := listen(t.Context(), serve(t, hangs(lines(hel), gone), quick).Engine)
		wantFail(t, got.err, engine.Timeout, 0)
		<-gone
	})
	slowStart := func(c *openai.Config) { c.Timeout = 50 * time.Millisecond }
	within(t, time.Second, func() {
		got := listen(t.Context(), serve(t, hangs("", gone), slowStart).Engine)
		wantFail(t, got.err, engine.Timeout, 0)
		<-gone
	})
}

func TestStreamHasAnEnd(t *testing.T) {
	t.Parallel()
	lively := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			streams(lines(hel))(w, r)
			_ = http.NewResponseController(w).Flush()
			time.Sleep(5 * time.Millisecond)
		}
	}
	within(t, time.Second, func() {
		u := serve(t, lively, func(c *openai.Config) { c.StreamTime = 100 * time.Millisecond })
		got := listen(t.Context(), u.Engine)
		wantFail(t, got.err, engine.Timeout, 0)
		if got.text == "" {
			t.Error("nothing was heard before the end")
		}
	})
}

// What was read already is not handed to a caller that has left.
func TestNothingIsSaidAfterTheEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	chunks := 0
	err := serve(t, streams(lines(hel, lo, stop, usage, "[DONE]"))).ChatStream(ctx, chat(), func(*engine.ChatChunk) error {
		chunks++
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || chunks != 1 {
		t.Errorf("%d chunks, then %v", chunks, err)
	}
}

func TestStreamComesAsItIsSpoken(t *testing.T) {
	t.Parallel()
	next := make(chan string, 4)
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for e := range next {
			// In pieces that end anywhere, also within a character.
			for _, b := range []byte(lines(e)) {
				_, _ = w.Write([]byte{b})
				_ = http.NewResponseController(w).Flush()
			}
		}
	}, func(c *openai.Config) { c.IdleTimeout = 300 * time.Millisecond })
	rest, text := []string{lo, stop, "[DONE]"}, ""
	next <- hel
	err := u.ChatStream(t.Context(), chat(), func(c *engine.ChatChunk) error {
		text += string(c.Choices[0].Delta)
		time.Sleep(100 * time.Millisecond) // a slow client costs the engine nothing
		next <- rest[0]
		if rest = rest[1:]; len(rest) == 0 {
			close(next)
		}
		return nil
	})
	if err != nil || !strings.Contains(text, "lo é") {
		t.Fatalf("%v, heard %s", err, text)
	}
}

func TestStreamCancelReachesUpstream(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{}, 1)
	u := serve(t, hangs(lines(hel), gone))
	within(t, time.Second, func() {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		got := listen(ctx, u.Engine)
		wantFail(t, got.err, engine.Failed, 0)
		if !errors.Is(got.err, context.Canceled) {
			t.Errorf("got %v", got.err)
		}
		<-gone
	})
	lost := errors.New("client lost")
	within(t, time.Second, func() {
		err := u.ChatStream(t.Context(), chat(), func(*engine.ChatChunk) error { return lost })
		if !errors.Is(err, lost) {
			t.Errorf("got %v, want emit's own error", err)
		}
		<-gone
	})
}
