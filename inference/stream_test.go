package inference_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"freehold/inference"
	"freehold/inference/engine"
	"freehold/tenantdb"
)

// collect runs a stream and returns its chunks as they go over the wire.
func (b *bench) collect(ctx context.Context, req *engine.ChatRequest) (chunks []string, err error) {
	b.t.Helper()
	st, err := b.ChatStream(ctx, b.call, req)
	if err != nil {
		b.t.Fatal(err)
	}
	err = st.Run(ctx, func(c *engine.ChatChunk) error {
		raw, err := json.Marshal(c)
		if err != nil {
			b.t.Error(err)
		}
		chunks = append(chunks, string(raw))
		return nil
	})
	return chunks, err
}

func TestStreamChunks(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]string{"usage asked": `,"stream_options":{"include_usage":true}`, "not asked": ``} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			first := delta(0, `{"role":"assistant","content":"Hel"}`)
			first.Usage = used(3, 1).Usage
			b.engine.stream = func(ctx context.Context, r *engine.ChatRequest, emit func(*engine.ChatChunk) error) error {
				if b.lender.leased.Load() != 0 || !r.Stream || r.Model != "up/talk" {
					t.Errorf("the engine got %+v", r)
				}
				return plays(first, &engine.ChatChunk{}, delta(0, `{"content":"lo"}`), delta(0, `{}`, "stop"), used(3, 2))(ctx, r, emit)
			}
			req := b.parse(`{"model":"talk","stream":true,"messages":[{"role":"user","content":"hi"}]` + options + `}`)
			chunks, err := b.collect(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			p := b.wantEnd("succeeded", "", 3, 2)
			if len(chunks) != 3+min(len(options), 1) {
				t.Fatalf("%d chunks: %v", len(chunks), chunks)
			}
			for i, raw := range chunks {
				var c map[string]json.RawMessage
				if err := json.Unmarshal([]byte(raw), &c); err != nil {
					t.Fatal(err)
				}
				if string(c["id"]) != `"chatcmpl-`+strings.TrimPrefix(p.ID, "pred_")+`"` || string(c["object"]) != `"chat.completion.chunk"` || string(c["model"]) != `"talk"` || c["created"] == nil {
					t.Errorf("chunk %s", raw)
				}
				if _, ok := c["error"]; ok || c["choices"] == nil || string(c["choices"]) == "null" {
					t.Errorf("chunk %s", raw)
				}
				want := ""
				if options != "" {
					want = "null"
				}
				if i == 3 {
					want = `{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}`
					if string(c["choices"]) != "[]" {
						t.Errorf("the usage chunk has choices: %s", raw)
					}
				}
				if string(c["usage"]) != want {
					t.Errorf("chunk %d: usage %s, want %s", i, c["usage"], want)
				}
			}
		})
	}
}

func TestStreamIsKeptAsPlainAnswersAre(t *testing.T) {
	t.Parallel()
	b := setup(t)
	message := `{"role":"assistant","refusal":null,"content":"Hello é","reasoning_content":"hm.","tool_calls":[
		{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},
		{"id":"c2","type":"custom","custom":{"name":"g","input":"xy"}}]}`
	b.engine.chat = func(context.Context, *engine.ChatRequest) (*engine.ChatResponse, error) {
		a := answers("")
		a.Choices = []engine.ChatChoice{
			{Index: 0, Message: json.RawMessage(message), FinishReason: "tool_calls"},
			{Index: 1, Message: json.RawMessage(`{"role":"assistant","content":null,"refusal":"No.","function_call":{"name":"h","arguments":"{}"}}`), FinishReason: "stop"},
		}
		return a, nil
	}
	b.engine.stream = plays(
		delta(0, `{"role":"assistant","content":"Hel","reasoning_content":"h","tool_calls":null}`),
		delta(1, `{"role":"assistant","content":null,"refusal":"N"}`),
		delta(0, `{"content":"lo é","reasoning_content":"m."}`),
		delta(0, `{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":""}}]}`),
		delta(1, `{"refusal":"o.","function_call":{"name":"h","arguments":"{"}}`),
		delta(0, `{"tool_calls":[{"index":1,"id":"c2","custom":{"name":"g","input":"x"}},{"index":0,"function":{"arguments":"{\"a\""}}]}`),
		delta(0, `{"tool_calls":[{"index":0,"function":{"arguments":":1}"}},{"index":1,"type":"custom","custom":{"input":"y"}}]}`),
		delta(1, `{"function_call":{"arguments":"}"}}`, "stop"),
		delta(0, `{}`, "tool_calls"), used(3, 2),
	)
	if _, err := b.Chat(t.Context(), b.call, b.hi()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.collect(t.Context(), b.hi()); err != nil {
		t.Fatal(err)
	}
	list, _, err := b.Predictions(t.Context(), b.call, [16]byte{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the stream's output", list[0].Output, string(list[1].Output))
}

func TestStreamClientGone(t *testing.T) {
	t.Parallel()
	left := errors.New("client left")
	endless := func(ctx context.Context, _ *engine.ChatRequest, emit func(*engine.ChatChunk) error) error {
		first := delta(0, `{"content":"Hel"}`)
		first.Usage = used(3, 1).Usage
		_ = emit(first) // an engine that doesn't look
		<-ctx.Done()
		return &engine.Error{Message: "given up", Err: ctx.Err()}
	}
	t.Run("emit fails", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.engine.stream = endless
		st, err := b.ChatStream(t.Context(), b.call, b.hi())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		err = st.Run(t.Context(), func(*engine.ChatChunk) error { return left })
		if !errors.Is(err, left) || time.Since(start) > time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if p := b.wantEnd("cancelled", "", 3, 1); !strings.Contains(string(p.Output), `"text":"Hel"`) {
			t.Errorf("kept %s", p.Output)
		}
		if err := st.Run(t.Context(), nil); err == nil {
			t.Error("ran twice")
		}
	})
	t.Run("context ends", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		b.engine.stream = func(own context.Context, req *engine.ChatRequest, emit func(*engine.ChatChunk) error) error {
			time.AfterFunc(30*time.Millisecond, func() { cancel(left) })
			return endless(own, req, emit)
		}
		if _, err := b.collect(ctx, b.hi()); !errors.Is(err, left) {
			t.Errorf("got %v", err)
		}
		b.wantEnd("cancelled", "", 3, 1)
	})
	t.Run("the engine takes it for an end", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.engine.stream = func(_ context.Context, _ *engine.ChatRequest, emit func(*engine.ChatChunk) error) error {
			_ = emit(delta(0, `{"content":"Hel"}`))
			return nil
		}
		st, err := b.ChatStream(t.Context(), b.call, b.hi())
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Run(t.Context(), func(*engine.ChatChunk) error { return left }); !errors.Is(err, left) {
			t.Errorf("got %v", err)
		}
		// What went out was a token at least.
		if p := b.wantEnd("cancelled", "", 0, 1); !strings.Contains(string(p.Output), `"usage_reported":false`) {
			t.Errorf("kept %s", p.Output)
		}
	})
}

func TestStreamFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after func() error // what the engine does after its first chunk
		emit  func()
		code  string
	}{
		"engine fails":  {func() error { return &engine.Error{Message: "m"} }, nil, "engine_error"},
		"engine hangs":  {func() error { return &engine.Error{Kind: engine.Timeout, Message: "m"} }, nil, "engine_timeout"},
		"engine panics": {func() error { panic("quotes the prompt") }, nil, "engine_error"},
		"emit panics":   {nil, func() { panic("quotes the prompt") }, "engine_error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.engine.stream = func(_ context.Context, _ *engine.ChatRequest, emit func(*engine.ChatChunk) error) error {
				first := delta(0, `{"content":"Hel"}`)
				first.Usage = used(3, 1).Usage
				if err := emit(first); err != nil {
					return err
				}
				return c.after()
			}
			st, err := b.ChatStream(t.Context(), b.call, b.hi())
			if err != nil {
				t.Fatal(err)
			}
			err = st.Run(t.Context(), func(*engine.ChatChunk) error {
				if c.emit != nil {
					c.emit()
				}
				return nil
			})
			var e *engine.Error
			if !errors.As(err, &e) {
				t.Errorf("got %v", err)
			}
			if p := b.wantEnd("failed", c.code, 3, 1); !strings.Contains(string(p.Output), `"text":"Hel"`) {
				t.Errorf("kept %s", p.Output)
			}
			if strings.Contains(b.logs.String(), "quotes") {
				t.Errorf("content in the log: %s", b.logs)
			}
		})
	}
}

func TestStreamWithoutAnAnswerFails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.engine.stream = plays(used(3, 0))
	if _, err := b.collect(t.Context(), b.hi()); engine.KindOf(err) != engine.Failed || err == nil {
		t.Errorf("got %v", err)
	}
	b.wantEnd("failed", "engine_error", 3, 0)
}

func TestStreamSettlesOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.engine.stream = plays(delta(0, `{"content":"a"}`, "stop"), used(1, 1))
	b.lender.fail = func(class tenantdb.Class, nth int32) error {
		if class == tenantdb.Settle && nth == 1 {
			return tenantdb.ErrUnavailable
		}
		return nil
	}
	if _, err := b.collect(t.Context(), b.hi()); err != nil {
		t.Fatal(err)
	}
	b.wantEnd("succeeded", "", 1, 1)
}

// A stream broken off by an upstream that refuses is told as one.
func TestStreamRefusal(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.engine.stream = func(context.Context, *engine.ChatRequest, func(*engine.ChatChunk) error) error {
		return &engine.Error{Kind: engine.Unsupported, Param: "tools", Message: "no tools here"}
	}
	_, err := b.collect(t.Context(), b.hi())
	var bad *inference.BadRequest
	if !errors.As(err, &bad) || bad.Param != "tools" {
		t.Errorf("got %v", err)
	}
	b.wantEnd("failed", "invalid_request", 0, 0)
}
