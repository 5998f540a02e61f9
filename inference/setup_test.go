package inference_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/inference"
	"freehold/inference/engine"
	"freehold/migrations/pgtest"
	"freehold/tenantdb"
)

func TestMain(m *testing.M) { pgtest.MainLeak(m) }

// lender lends one connection to a tenant's real database.
type lender struct {
	mu    sync.Mutex // guards conn
	conn  *pgx.Conn
	epoch int64

	leased atomic.Int32
	lent   [3]atomic.Int32 // by class
	fail   func(class tenantdb.Class, nth int32) error
}

func (l *lender) Borrow(ctx context.Context, class tenantdb.Class, fn func(context.Context, *tenantdb.DB) error) error {
	n := l.lent[class].Add(1)
	if l.fail != nil {
		if err := l.fail(class, n); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leased.Add(1)
	defer l.leased.Add(-1)
	return fn(ctx, tenantdb.On(l.conn, l.epoch))
}

// fake is an engine made of functions.
type fake struct {
	chat   func(context.Context, *engine.ChatRequest) (*engine.ChatResponse, error)
	stream func(context.Context, *engine.ChatRequest, func(*engine.ChatChunk) error) error
	embed  func(context.Context, *engine.EmbedRequest) (*engine.EmbedResponse, error)
}

func (f *fake) Chat(ctx context.Context, r *engine.ChatRequest) (*engine.ChatResponse, error) {
	return f.chat(ctx, r)
}

func (f *fake) ChatStream(ctx context.Context, r *engine.ChatRequest, emit func(*engine.ChatChunk) error) error {
	return f.stream(ctx, r, emit)
}

func (f *fake) Embed(ctx context.Context, r *engine.EmbedRequest) (*engine.EmbedResponse, error) {
	return f.embed(ctx, r)
}

// bench is a service over one tenant.
type bench struct {
	*inference.Service
	t      *testing.T
	call   inference.Call
	lender *lender
	engine *fake
	logs   *logs
	owner  string

	spooled  []tenantdb.Settlement
	spoolErr func() error // nil: none
	models   []catalog.Model
	live     inference.Live
}

// logs keeps what was logged.
type logs struct {
	mu sync.Mutex // guards b
	b  strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func setup(t *testing.T) *bench {
	t.Helper()
	db := pgtest.Tenant(t)
	conn, err := pgx.Connect(t.Context(), db.TenantURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	b := bare(t)
	b.lender, b.owner = &lender{conn: conn}, db.OwnerURL
	b.call.Tenant, b.call.Scope = b.lender, db.ID.String()
	return b
}

// bare is a service without a database.
func bare(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, engine: &fake{}, logs: &logs{}}
	b.models = []catalog.Model{
		{Name: "talk", Engine: "e", Upstream: "up/talk", Kind: "chat"},
		{Name: "embed", Engine: "e", Kind: "embedding"},
		{Name: "orphan", Engine: "gone", Kind: "chat"},
		{Name: "secret", Engine: "e", Kind: "chat"},
	}
	svc, err := inference.New(inference.Config{
		Model: func(_ context.Context, name string) (catalog.Model, error) {
			for _, m := range b.models {
				if m.Name == name {
					return m, nil
				}
			}
			return catalog.Model{}, catalog.ErrNotFound
		},
		Models: func(context.Context) ([]catalog.Model, error) { return b.models, nil },
		Engine: func(_ context.Context, name string) (engine.Engine, error) {
			if name != "e" {
				return nil, catalog.ErrNotFound
			}
			return b.engine, nil
		},
		Node: uuid.Must(uuid.NewV7()),
		Spool: func(_ context.Context, _ string, set tenantdb.Settlement) error {
			if b.spoolErr != nil {
				return b.spoolErr()
			}
			b.spooled = append(b.spooled, set)
			return nil
		},
		Live:   func(context.Context) (inference.Live, error) { return b.live, nil },
		Seal:   func(_ string, plain []byte) ([]byte, error) { return append([]byte("sealed"), plain...), nil },
		Open:   func(_ string, sealed []byte) ([]byte, error) { return sealed[len("sealed"):], nil },
		Logger: slog.New(slog.NewTextHandler(b.logs, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Service = svc
	b.call = inference.Call{
		KeyID: "key1", RequestID: "req1",
		Config: catalog.TenantConfig{
			AllowedModels: []string{"talk", "emb*", "orphan"}, MonthlyTokenLimit: 1_000_000, ConcurrentRequestLimit: 10,
			PredictionLogRetentionDays: 90, PIIDetectionEnabled: true, PIIMode: "restore", AuditLogEnabled: true,
		},
	}
	return b
}

// row reads one row of the tenant's database.
func (b *bench) row(sql string, into ...any) {
	b.t.Helper()
	conn, err := pgx.Connect(b.t.Context(), b.owner)
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close(b.t.Context())
	if err := conn.QueryRow(b.t.Context(), sql).Scan(into...); err != nil {
		b.t.Fatal(err)
	}
}

// parse reads a chat's body that must be right.
func (b *bench) parse(body string) *engine.ChatRequest {
	b.t.Helper()
	req, err := inference.ParseChat([]byte(body))
	if err != nil {
		b.t.Fatal(err)
	}
	return req
}

// hi is a plain request.
func (b *bench) hi() *engine.ChatRequest {
	b.t.Helper()
	return b.parse(`{"model":"talk","messages":[{"role":"user","content":"hi"}]}`)
}

// only returns the one prediction that there must be.
func (b *bench) only() inference.Prediction {
	b.t.Helper()
	list, more, err := b.Predictions(b.t.Context(), b.call, [16]byte{}, 10)
	if err != nil {
		b.t.Fatal(err)
	}
	if len(list) != 1 || more {
		b.t.Fatalf("%d predictions, want exactly one", len(list))
	}
	return list[0]
}

// wantEnd checks how the one prediction ended.
func (b *bench) wantEnd(state, code string, prompt, completion int64) inference.Prediction {
	b.t.Helper()
	p := b.only()
	if p.State != state || p.ErrorCode != code {
		b.t.Errorf("prediction is %s %q, want %s %q", p.State, p.ErrorCode, state, code)
	}
	if p.Usage == nil || p.Usage.PromptTokens != prompt || p.Usage.CompletionTokens != completion {
		b.t.Errorf("usage %+v, want %d and %d", p.Usage, prompt, completion)
	}
	if p.SettledAt == nil {
		b.t.Error("not settled")
	}
	return p
}

// answers makes an engine's whole answer.
func answers(text string) *engine.ChatResponse {
	return &engine.ChatResponse{
		Choices: []engine.ChatChoice{{Message: engine.AnswerMessage(text), FinishReason: "stop"}},
		Usage:   engine.Usage{PromptTokens: 3, CompletionTokens: 2, TotalTokens: 5},
	}
}

// delta makes a chunk of one choice.
func delta(index int, raw string, finish ...string) *engine.ChatChunk {
	c := engine.ChunkChoice{Index: index, Delta: json.RawMessage(raw)}
	if len(finish) > 0 {
		c.FinishReason = &finish[0]
	}
	return &engine.ChatChunk{Choices: []engine.ChunkChoice{c}}
}

// used makes the chunk that counts.
func used(prompt, completion int64) *engine.ChatChunk {
	return &engine.ChatChunk{Usage: &engine.Usage{PromptTokens: prompt, CompletionTokens: completion, TotalTokens: prompt + completion}}
}

// plays makes an engine's stream of chunks.
func plays(chunks ...*engine.ChatChunk) func(context.Context, *engine.ChatRequest, func(*engine.ChatChunk) error) error {
	return func(_ context.Context, _ *engine.ChatRequest, emit func(*engine.ChatChunk) error) error {
		for _, c := range chunks {
			if err := emit(c); err != nil {
				return err
			}
		}
		return nil
	}
}

// same compares two JSON texts by value.
func same(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(got, &g); err != nil {
		t.Errorf("%s is no JSON: %s", what, got)
		return
	}
	gb, _ := json.Marshal(g)
	wb, _ := json.Marshal(w)
	if string(gb) != string(wb) {
		t.Errorf("%s:\n got %s\nwant %s", what, gb, wb)
	}
}
