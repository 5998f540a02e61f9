package inference_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/inference"
	"freehold/inference/engine"
	"freehold/tenantdb"
)

func TestChat(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.engine.chat = func(_ context.Context, r *engine.ChatRequest) (*engine.ChatResponse, error) {
		if n := b.lender.leased.Load(); n != 0 {
			t.Errorf("%d leases held while the engine works", n)
		}
		if r.Model != "up/talk" || r.Scope != b.call.Scope || r.Stream {
			t.Errorf("the engine got %+v", r)
		}
		return answers("hello"), nil
	}
	req := b.parse(`{"model":"talk","messages":[{"role":"user","content":"hi"}],"temperature":0.5,"user":"u1","max_tokens":9}`)
	resp, err := b.Chat(t.Context(), b.call, req)
	if err != nil {
		t.Fatal(err)
	}
	p := b.wantEnd("succeeded", "", 3, 2)
	if resp.ID != "chatcmpl-"+strings.TrimPrefix(p.ID, "pred_") || resp.Created != p.CreatedAt || resp.Model != "talk" || resp.Object != "chat.completion" {
		t.Errorf("answer %+v of prediction %+v", resp, p)
	}
	if since := time.Now().Unix() - resp.Created; since < 0 || since > 60 {
		t.Errorf("created %d s ago", since)
	}
	same(t, "inputs", p.Inputs, `{"messages":[{"role":"user","content":"hi"}],"temperature":0.5,"user":"u1","max_tokens":9}`)
	same(t, "output", p.Output, `{"text":"hello","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"hello","refusal":null}}]}`)

	id := uuid.MustParse(strings.TrimPrefix(p.ID, "pred_"))
	got, err := b.Prediction(t.Context(), b.call, id)
	if err != nil || got.ID != p.ID {
		t.Errorf("read alone: %+v, %v", got, err)
	}
	if _, err := b.Prediction(t.Context(), b.call, uuid.Must(uuid.NewV7())); !errors.Is(err, tenantdb.ErrNotFound) {
		t.Errorf("a stranger's id: %v", err)
	}
	if req.Model != "talk" || req.Scope != "" {
		t.Error("the caller's request was changed")
	}
}

func TestModelsThatCannotServe(t *testing.T) {
	t.Parallel()
	b := bare(t)
	var bad *inference.BadRequest
	for name, want := range map[string]error{
		"nope": inference.ErrModelNotFound, "secret": inference.ErrModelNotAllowed, "embed": &inference.BadRequest{}, "orphan": &engine.Error{},
	} {
		req := b.hi()
		req.Model = name
		_, err := b.Chat(t.Context(), b.call, req)
		_, serr := b.ChatStream(t.Context(), b.call, req)
		for _, err := range []error{err, serr} {
			switch want.(type) { //nolint:errorlint // the wanted error is the table's own
			case *inference.BadRequest:
				if !errors.As(err, &bad) || bad.Param != "model" {
					t.Errorf("%s: %v", name, err)
				}
			case *engine.Error:
				if e := (*engine.Error)(nil); !errors.As(err, &e) || e.Kind != engine.Failed {
					t.Errorf("%s: %v", name, err)
				}
			default:
				if !errors.Is(err, want) {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
	if _, err := b.Embed(t.Context(), b.call, &engine.EmbedRequest{Model: "talk", Input: []string{"a"}}, inference.Float); !errors.As(err, &bad) || bad.Param != "model" {
		t.Errorf("embeddings of a chat model: %v", err)
	}
}

func TestModels(t *testing.T) {
	t.Parallel()
	b := bare(t)
	list, err := b.Models(t.Context(), b.call)
	if err != nil || len(list) != 3 || list[0].Name != "embed" || list[1].Name != "orphan" || list[2].Name != "talk" {
		t.Errorf("%v, %v", list, err)
	}
	if m, err := b.Model(t.Context(), b.call, "talk"); err != nil || m.Name != "talk" {
		t.Errorf("%v, %v", m, err)
	}
	for _, name := range []string{"secret", "nope"} {
		if _, err := b.Model(t.Context(), b.call, name); !errors.Is(err, inference.ErrModelNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSystemPromptOverride(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.call.Config.SystemPromptOverride = "Be kind."
	for body, want := range map[string]string{
		`[{"role":"user","content":"hi"}]`:                                                                  `[{"role":"system","content":"Be kind."},{"role":"user","content":"hi"}]`,
		`[{"role":"user","content":"hi"},{"role":"system","content":"Be brief."}]`:                          `[{"role":"user","content":"hi"},{"role":"system","content":"Be kind.\n\nBe brief."}]`,
		`[{"role":"developer","content":"A"},{"role":"system","content":"B"},{"role":"user","content":""}]`: `[{"role":"developer","content":"Be kind.\n\nA"},{"role":"system","content":"B"},{"role":"user","content":""}]`,
		`[{"role":"system","content":[{"type":"text","text":"A"}]},{"role":"user","content":"x"}]`:          `[{"role":"system","content":[{"type":"text","text":"Be kind.\n\n"},{"type":"text","text":"A"}]},{"role":"user","content":"x"}]`,
	} {
		var sent []byte
		b.engine.chat = func(_ context.Context, r *engine.ChatRequest) (*engine.ChatResponse, error) {
			sent, _ = json.Marshal(r.Messages)
			return answers("ok"), nil
		}
		req := b.parse(`{"model":"talk","messages":` + body + `}`)
		for range 2 { // asked again, as after a fence: put in front once
			if _, err := b.Chat(t.Context(), b.call, req); err != nil {
				t.Fatal(err)
			}
			same(t, "sent", sent, want)
		}
	}
}

func TestEngineErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		code string
		bad  bool
	}{
		"failed":      {&engine.Error{Kind: engine.Failed, Message: "m", UpstreamStatus: 429}, "engine_error", false},
		"timeout":     {&engine.Error{Kind: engine.Timeout, Message: "m"}, "engine_timeout", false},
		"refused":     {&engine.Error{Kind: engine.BadRequest, Param: "messages", Message: "quotes the prompt"}, "invalid_request", true},
		"unsupported": {&engine.Error{Kind: engine.Unsupported, Param: "tools", Message: "m"}, "invalid_request", true},
		"unknown":     {errors.New("x"), "engine_error", false},
		"panic":       {nil, "engine_error", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.engine.chat = func(context.Context, *engine.ChatRequest) (*engine.ChatResponse, error) {
				if c.err == nil {
					panic("quotes the prompt")
				}
				return nil, c.err
			}
			_, err := b.Chat(t.Context(), b.call, b.hi())
			var bad *inference.BadRequest
			if errors.As(err, &bad) != c.bad || c.bad && (bad.Param == "" || bad.Message == "") {
				t.Errorf("got %#v", err)
			}
			if c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("%v isn't the engine's own", err)
			}
			if p := b.wantEnd("failed", c.code, 0, 0); string(p.Output) != "null" && p.Output != nil {
				t.Errorf("output %s", p.Output)
			}
			if strings.Contains(b.logs.String(), "quotes") {
				t.Errorf("content in the log: %s", b.logs)
			}
		})
	}
}

func TestEmptyAnswersFail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.engine.chat = func(context.Context, *engine.ChatRequest) (*engine.ChatResponse, error) {
		return &engine.ChatResponse{}, nil
	}
	if _, err := b.Chat(t.Context(), b.call, b.hi()); engine.KindOf(err) != engine.Failed || err == nil {
		t.Errorf("got %v", err)
	}
	b.wantEnd("failed", "engine_error", 0, 0)
}

func TestClientGone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.engine.chat = func(ctx context.Context, _ *engine.ChatRequest) (*engine.ChatResponse, error) {
		<-ctx.Done()
		return nil, &engine.Error{Message: "given up", Err: ctx.Err()}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	left := errors.New("client left")
	time.AfterFunc(30*time.Millisecond, func() { cancel(left) })
	if _, err := b.Chat(ctx, b.call, b.hi()); !errors.Is(err, left) {
		t.Errorf("got %v", err)
	}
	b.wantEnd("cancelled", "", 0, 0)
}

func TestDeadlineIsATimeout(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.engine.chat = func(ctx context.Context, _ *engine.ChatRequest) (*engine.ChatResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.Chat(ctx, b.call, b.hi()); engine.KindOf(err) != engine.Timeout {
		t.Errorf("got %v", err)
	}
	b.wantEnd("failed", "engine_timeout", 0, 0)
}

func TestFence(t *testing.T) {
	t.Parallel()
	b := setup(t)
	owner, err := pgx.Connect(t.Context(), b.owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = owner.Close(context.Background()) })
	if _, err := owner.Exec(t.Context(), `update freehold.tenant_identity set fence = 7`); err != nil {
		t.Fatal(err)
	}
	b.engine.chat = func(context.Context, *engine.ChatRequest) (*engine.ChatResponse, error) {
		t.Error("the engine was asked")
		return answers("x"), nil
	}
	if _, err := b.Chat(t.Context(), b.call, b.hi()); !errors.Is(err, tenantdb.ErrFenced) {
		t.Errorf("got %v", err)
	}
	if _, err := b.ChatStream(t.Context(), b.call, b.hi()); !errors.Is(err, tenantdb.ErrFenced) {
		t.Errorf("got %v", err)
	}
	b.lender.epoch = 7
	if list, _, err := b.Predictions(t.Context(), b.call, uuid.Nil, 10); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestSettlementIsTriedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.engine.chat = func(context.Context, *engine.ChatRequest) (*engine.ChatResponse, error) { return answers("hello"), nil }
	b.lender.fail = func(class tenantdb.Class, nth int32) error {
		if class == tenantdb.Settle && nth <= 2 {
			return tenantdb.ErrUnavailable
		}
		return nil
	}
	if _, err := b.Chat(t.Context(), b.call, b.hi()); err != nil {
		t.Fatal(err)
	}
	b.wantEnd("succeeded", "", 3, 2)
	if n := b.lender.lent[tenantdb.Settle].Load(); n != 3 {
		t.Errorf("%d tries", n)
	}
}

// What the database can't take is spooled, whole, and the answer goes out.
func TestSettlementThatCannotBe(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.engine.chat = func(context.Context, *engine.ChatRequest) (*engine.ChatResponse, error) {
		return answers("quotes the prompt"), nil
	}
	b.lender.fail = func(class tenantdb.Class, _ int32) error {
		if class == tenantdb.Settle {
			b.Stop() // nobody waits for a database any more
			return tenantdb.ErrUnavailable
		}
		return nil
	}
	if _, err := b.Chat(t.Context(), b.call, b.hi()); err != nil {
		t.Errorf("the answer is there: %v", err)
	}
	if p := b.only(); p.State != "in_progress" || p.Usage != nil {
		t.Errorf("got %+v", p)
	}
	if l := b.logs.String(); !strings.Contains(l, "settlement spooled") || !strings.Contains(l, "req1") || strings.Contains(l, "quotes") {
		t.Errorf("logged %s", l)
	}
	if len(b.spooled) != 1 {
		t.Fatalf("%d spooled", len(b.spooled))
	}
	kept, err := json.Marshal(b.spooled[0])
	if err != nil {
		t.Fatal(err)
	}
	var set tenantdb.Settlement
	if err := json.Unmarshal(kept, &set); err != nil {
		t.Fatal(err)
	}
	b.lender.fail = nil
	err = b.lender.Borrow(t.Context(), tenantdb.Background, func(ctx context.Context, db *tenantdb.DB) error {
		settled, err := db.SettleAll(ctx, []tenantdb.Settlement{set})
		if err == nil && !settled[0] {
			t.Error("not settled")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b.wantEnd("succeeded", "", 3, 2)
}

func TestUsageThatNobodyReported(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.engine.chat = func(context.Context, *engine.ChatRequest) (*engine.ChatResponse, error) {
		a := answers("hello")
		a.Usage = engine.Usage{}
		return a, nil
	}
	if _, err := b.Chat(t.Context(), b.call, b.hi()); err != nil {
		t.Fatal(err)
	}
	if p := b.wantEnd("succeeded", "", 0, 0); !strings.Contains(string(p.Output), `"usage_reported":false`) {
		t.Errorf("output %s", p.Output)
	}
}

// What JSON allows and Postgres' jsonb does not.
func TestWhatPostgresCannotKeep(t *testing.T) {
	t.Parallel()
	b := setup(t)
	nasty := `a\u0000b\ud800c\udc00d\ud83d\ude00e\\u0000f\"`
	b.engine.chat = func(_ context.Context, r *engine.ChatRequest) (*engine.ChatResponse, error) {
		if !strings.Contains(string(r.Messages[0].Content), `\u0000`) {
			t.Error("the engine didn't get what was sent")
		}
		a := answers("")
		a.Choices[0].Message = json.RawMessage(`{"role":"assistant","content":"` + nasty + `"}`)
		return a, nil
	}
	req := b.parse(`{"model":"talk","messages":[{"role":"user","content":"` + nasty + `"}],"tools":[{"type":"function","function":
		{"name":"f","parameters":{"maximum":1e999999,"minimum":-1e-99999,"x":` + strings.Repeat("9", 400) + `,"y":-1.5e+3,"a\u0000":1}}}]}`)
	if _, err := b.Chat(t.Context(), b.call, req); err != nil {
		t.Fatal(err)
	}
	p := b.wantEnd("succeeded", "", 3, 2)
	var out struct{ Text string }
	if err := json.Unmarshal(p.Output, &out); err != nil || out.Text != "a\uFFFDb\uFFFDc\uFFFDd😀e\\u0000f\"" {
		t.Errorf("kept %q, %v", out.Text, err)
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := inference.New(inference.Config{Models: func(context.Context) ([]catalog.Model, error) { return nil, nil }})
	if err == nil || !strings.Contains(err.Error(), "Config.Model is") || !strings.Contains(err.Error(), "Engine") || !strings.Contains(err.Error(), "Logger") {
		t.Errorf("got %v", err)
	}
}
