package inference_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"freehold/inference"
	"freehold/inference/engine"
	"freehold/tenantdb"
)

// hears has the engine answer and keeps what it was sent.
func (b *bench) hears(text string) *engine.ChatRequest {
	sent := &engine.ChatRequest{}
	b.engine.chat = func(_ context.Context, r *engine.ChatRequest) (*engine.ChatResponse, error) {
		*sent = *r
		return answers(text), nil
	}
	return sent
}

func TestLimits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sent := b.hears("hello")
	var told inference.Standing
	b.call.Told = func(st inference.Standing) { told = st }
	b.call.Config.MonthlyTokenLimit = 500
	if _, err := b.Chat(t.Context(), b.call, b.hi()); err != nil {
		t.Fatal(err)
	}
	// The prompt's four bytes in quotes; the model declares no overhead in this test.
	if *sent.MaxTokens != 496 || told.MaxTokens != 496 || told.TokensLeft != 0 || told.TokenLimit != 500 || told.SlotsLeft != 9 ||
		told.Reset <= 0 || told.Reset > 31*24*time.Hour {
		t.Errorf("sent %d, told %+v", *sent.MaxTokens, told)
	}
	if _, err := b.Chat(t.Context(), b.call, b.parse(`{"model":"talk","messages":[{"role":"user","content":"hi"}],"max_tokens":5,"n":2}`)); err != nil {
		t.Fatal(err)
	}
	if *sent.MaxTokens != 5 || sent.MaxTokensName != "max_tokens" || told.MaxTokens != 0 || told.TokensLeft != 495-14 {
		t.Errorf("sent %d, told %+v", *sent.MaxTokens, told)
	}
	b.call.Config.MonthlyTokenLimit = 10 // used: twice five
	var refused *inference.Refusal
	if _, err := b.Chat(t.Context(), b.call, b.hi()); !errors.Is(err, inference.ErrQuota) || !errors.As(err, &refused) ||
		refused.ByKey || refused.Standing.TokensLeft != 0 || refused.Standing.TokenLimit != 10 {
		t.Errorf("%v, %+v", err, refused)
	}
	b.call.Config.MonthlyTokenLimit = 1000
	own := int64(10)
	b.call.Limits.MonthlyTokenLimit = &own
	if _, err := b.Embed(t.Context(), b.call, &engine.EmbedRequest{Model: "embed", Input: []string{"a"}}, inference.Float); !errors.As(err, &refused) || !refused.ByKey {
		t.Errorf("%v, %+v", err, refused)
	}
}

func TestSlots(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.call.Config.ConcurrentRequestLimit = 1
	working, end := make(chan struct{}), make(chan struct{})
	b.engine.chat = func(context.Context, *engine.ChatRequest) (*engine.ChatResponse, error) {
		close(working)
		<-end
		return answers("done"), nil
	}
	first := make(chan error, 1)
	go func() {
		_, err := b.Chat(t.Context(), b.call, b.hi())
		first <- err
	}()
	<-working
	if _, err := b.Chat(t.Context(), b.call, b.hi()); !errors.Is(err, inference.ErrConcurrency) {
		t.Errorf("%v", err)
	}
	close(end)
	if err := <-first; err != nil {
		t.Error(err)
	}
	b.hears("again")
	if _, err := b.Chat(t.Context(), b.call, b.hi()); err != nil {
		t.Errorf("the slot did not come back: %v", err)
	}
}

// Requests that meet go in one flush, and what one of them can't store is its error alone.
func TestTogether(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.engine.chat = func(context.Context, *engine.ChatRequest) (*engine.ChatResponse, error) { return answers("hello"), nil }
	b.call.Config.ConcurrentRequestLimit = 100
	b.lender.mu.Lock() // the first flush waits, so that the others meet
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := b.Chat(t.Context(), b.call, b.hi()); err != nil {
				t.Error(err)
			}
		})
	}
	for b.lender.lent[tenantdb.Interactive].Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond)
	b.lender.mu.Unlock()
	wg.Wait()
	if n := b.lender.lent[tenantdb.Interactive].Load(); n > 4 {
		t.Errorf("%d flushes for twenty that wait", n)
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		days int
		body string
	}{
		"store is false": {90, `,"store":false`},
		"retention is 0": {0, ``},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.call.Config.PredictionLogRetentionDays = c.days
			b.hears("hello")
			p, err := b.Predict(t.Context(), b.call, []byte(`{"model":"talk","inputs":"hi"`+c.body+`}`))
			if err != nil || p.Inputs != nil || !strings.Contains(string(p.Output), "hello") {
				t.Fatalf("%+v, %v", p, err)
			}
			if p := b.wantEnd("succeeded", "", 3, 2); p.Inputs != nil || string(p.Output) != "" && string(p.Output) != "null" {
				t.Errorf("kept %s and %s", p.Inputs, p.Output)
			}
		})
	}
}

func TestCost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.hears("hello")
	b.models[0].InputPrice, b.models[0].OutputPrice = "0.15", "0.6"
	if _, err := b.Chat(t.Context(), b.call, b.hi()); err != nil {
		t.Fatal(err)
	}
	var cost, in, out int64
	b.row(`select cost, input_price, output_price from freehold.usage_ledger`, &cost, &in, &out)
	// 3 × 150 + 2 × 600 nano-units.
	if cost != 1650 || in != 150_000_000 || out != 600_000_000 {
		t.Errorf("%d at %d and %d", cost, in, out)
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.call.IdempotencyKey, b.call.RequestHash = "k", []byte("one")
	calls := 0
	b.engine.chat = func(context.Context, *engine.ChatRequest) (*engine.ChatResponse, error) {
		calls++
		if calls == 1 {
			return nil, &engine.Error{Kind: engine.Failed}
		}
		return answers("hello"), nil
	}
	if _, err := b.Chat(t.Context(), b.call, b.hi()); err == nil {
		t.Error("the engine failed")
	}
	first, err := b.Chat(t.Context(), b.call, b.hi())
	if err != nil {
		t.Fatal(err)
	}
	var told inference.Standing
	b.call.Told = func(st inference.Standing) { told = st }
	again, err := b.Chat(t.Context(), b.call, b.hi())
	if err != nil {
		t.Fatal(err)
	}
	if one, two := text(t, first), text(t, again); one != two || calls != 2 || !told.Replayed {
		t.Errorf("%d calls; %s, then %s", calls, one, two)
	}
	b.call.RequestHash = []byte("two")
	if _, err := b.Chat(t.Context(), b.call, b.hi()); !errors.Is(err, inference.ErrMismatch) {
		t.Errorf("another body: %v", err)
	}
	var n int
	b.row(`select count(*) from freehold.usage_ledger where state = 'succeeded'`, &n)
	if n != 1 {
		t.Errorf("charged %d times", n)
	}
}

// A retry waits for the answer of the first, whose client has left.
func TestIdempotencyKey_clientGone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	left := errors.New("left")
	b.call.IdempotencyKey, b.call.RequestHash = "k", []byte("one")
	b.call.Gone = func(cause error) bool { return errors.Is(cause, left) }
	working, end := make(chan struct{}, 2), make(chan struct{})
	b.engine.stream = func(ctx context.Context, _ *engine.ChatRequest, emit func(*engine.ChatChunk) error) error {
		working <- struct{}{}
		if err := errors.Join(emit(delta(0, `{"role":"assistant"}`)), emit(delta(0, `{"content":"H"}`)), emit(delta(0, `{"content":"el"}`))); err != nil {
			return err
		}
		select {
		case <-end:
		case <-ctx.Done():
			return ctx.Err()
		}
		return errors.Join(emit(delta(0, `{"content":"lo"}`, "stop")), emit(used(3, 2)))
	}
	stream := func(ctx context.Context, fail error) ([]string, error) {
		req := b.hi()
		req.Stream, req.IncludeUsage = true, true
		st, err := b.ChatStream(ctx, b.call, req)
		if err != nil {
			return nil, err
		}
		var out []string
		err = st.Run(ctx, func(c *engine.ChatChunk) error {
			out = append(out, text(t, c))
			return fail
		})
		return out, err
	}
	ctx, leave := context.WithCancelCause(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := stream(ctx, left)
		gone <- err
	}()
	<-working
	leave(left)
	type result struct {
		chunks []string
		err    error
	}
	retried := make(chan result, 1)
	go func() {
		chunks, err := stream(t.Context(), nil)
		retried <- result{chunks, err}
	}()
	time.Sleep(50 * time.Millisecond)
	close(end)
	if err := <-gone; err != nil {
		t.Errorf("the first: %v", err)
	}
	got := <-retried
	if got.err != nil {
		t.Fatal(got.err)
	}
	p := b.wantEnd("succeeded", "", 3, 2)
	if len(got.chunks) != 4 || !strings.Contains(got.chunks[1], `"Hel"`) || !strings.Contains(got.chunks[2], `"lo"`) ||
		!strings.Contains(got.chunks[3], `"completion_tokens":2`) ||
		!strings.Contains(got.chunks[0], strings.TrimPrefix(p.ID, "pred_")) || !strings.Contains(got.chunks[0], `"usage":null`) {
		t.Errorf("the retry got %s", got.chunks)
	}
	if len(working) != 0 {
		t.Error("the engine was asked twice")
	}
}

// text is a value as JSON.
func text(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// Slots of a process that is dead come back when a request would be refused.
func TestSlotsOfTheDead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.call.Config.ConcurrentRequestLimit = 1
	dead := uuid.Must(uuid.NewV7())
	err := b.lender.Borrow(t.Context(), tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) error {
		id := uuid.Must(uuid.NewV7())
		_, err := db.AdmitAll(ctx, dead, "key1", tenantdb.Limits{Tokens: 1000, Slots: 1}, []tenantdb.Admission{{
			ID: id, CreatedAt: time.Now(), Kind: "chat", Least: 1, Most: 100,
		}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b.hears("hello")
	b.live.Nodes = []uuid.UUID{dead}
	if _, err := b.Chat(t.Context(), b.call, b.hi()); !errors.Is(err, inference.ErrConcurrency) {
		t.Errorf("it lives: %v", err)
	}
	b.live.Nodes = []uuid.UUID{uuid.Must(uuid.NewV7())}
	time.Sleep(1100 * time.Millisecond) // it looks once a second
	if _, err := b.Chat(t.Context(), b.call, b.hi()); err != nil {
		t.Errorf("it is dead: %v", err)
	}
}
