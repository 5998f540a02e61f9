package mockengine

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Config of an Engine. Every zero value is good.
type Config struct {
	// Delay is from the whole request to the first byte of its answer.
	Delay time.Duration
	// Gap is between two chunks of a stream.
	Gap time.Duration
	// Words bounds an answer, by default 16; a request's max_tokens bounds it too.
	Words int
	// ChunkBytes is the text in a chunk of a stream, by default 5: words are cut.
	ChunkBytes int
	// Stubborn engines go on when their caller has hung up.
	Stubborn bool
	// Record keeps each call whole. Otherwise calls are counted.
	Record bool
}

// Usage is what calls used: a token is a word.
type Usage struct {
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
	TotalTokens      int64 `json:"total_tokens"`
}

func (u Usage) plus(more Usage) Usage {
	return Usage{u.PromptTokens + more.PromptTokens, u.CompletionTokens + more.CompletionTokens, u.TotalTokens + more.TotalTokens}
}

// Call is one request as it was received.
type Call struct {
	Path   string
	Header http.Header
	Body   []byte
	Prompt string // text of the last message, or the inputs, joined by line breaks
	Usage  Usage  // of its answer
	Whole  bool   // the answer was written to its end
}

// Engine serves on a loopback port. Close it.
type Engine struct {
	cfg      Config
	listener net.Listener
	server   *http.Server
	hangUp   context.CancelFunc // for all callers
	served   chan error

	mu    sync.Mutex // guards what follows
	calls []Call
	count int
	used  Usage // of whole answers
	busy  int
	most  int
}

// Open starts an engine.
func Open(cfg Config) (*Engine, error) {
	if cfg.Words == 0 {
		cfg.Words = 16
	}
	if cfg.ChunkBytes == 0 {
		cfg.ChunkBytes = 5
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, hangUp := context.WithCancel(context.Background())
	e := &Engine{cfg: cfg, listener: l, hangUp: hangUp, served: make(chan error, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", e.chat)
	mux.HandleFunc("POST /v1/embeddings", e.embed)
	e.server = &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	go func() { e.served <- e.server.Serve(l) }()
	return e, nil
}

// URL is the base URL, as an engine of kind openai has it.
func (e *Engine) URL() string { return "http://" + e.listener.Addr().String() + "/v1" }

// closeTime bounds the wait for calls of which each is short.
const closeTime = 10 * time.Second

// Close ends all calls, and returns when they have ended.
func (e *Engine) Close() error {
	e.hangUp()
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	err := errors.Join(e.server.Shutdown(ctx), e.server.Close())
	if ended := <-e.served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// Calls are those received so far, in the order of their arrival, if Record.
func (e *Engine) Calls() []Call {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.calls)
}

// Count is how many calls were received.
func (e *Engine) Count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.count
}

// Used is the usage of all answers that were written whole.
func (e *Engine) Used() Usage {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.used
}

// Busy returns how many calls are at work, and the most that ever were. A call is
// at work from its arrival until right before the end of its answer is sent.
func (e *Engine) Busy() (now, most int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.busy, e.most
}

// begin notes a call. The index is where its record stands, if any.
func (e *Engine) begin(c Call) (index int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.count++
	e.busy++
	e.most = max(e.most, e.busy)
	if e.cfg.Record {
		e.calls = append(e.calls, c)
	}
	return len(e.calls) - 1
}

// rest notes that the work on a call is over.
func (e *Engine) rest() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.busy--
}

// written notes that an answer went out whole.
func (e *Engine) written(index int, u Usage) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.used = e.used.plus(u)
	if e.cfg.Record {
		e.calls[index].Usage, e.calls[index].Whole = u, true
	}
}
