package engine

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// ErrOpen is in the chain of a Failed that a Breaker returned without asking its
// engine.
var ErrOpen = errors.New("breaker open")

// BreakerConfig of a Breaker; zeros mean the defaults.
type BreakerConfig struct {
	Trips uint32        // failures in a row that open it; 5
	Rest  time.Duration // how long the engine is left alone then; 5 s
	// Changed is called when a call finds another state than the one before: closed,
	// half-open or open. It must not block. nil: nobody is told.
	Changed func(state string)
}

// probes is how many calls a half-open breaker lets through, and how many must go
// well to close it. One alone would have all others wait for a single long answer.
const probes = 3

// Breaker is an engine that isn't asked for a while after it failed several times
// in a row. What clients do wrong, or give up, is no failure of the engine; nor
// that it is busy, or doesn't know a model or our key: it answers.
type Breaker struct {
	inner   Engine
	changed func(state string)
	state   *gobreaker.TwoStepCircuitBreaker[struct{}]
	told    atomic.Int32 // the gobreaker.State that was last told of
}

var _ Engine = (*Breaker)(nil)

// Break puts a breaker before an engine.
func Break(e Engine, cfg BreakerConfig) *Breaker {
	if cfg.Trips == 0 {
		cfg.Trips = 5
	}
	if cfg.Rest == 0 {
		cfg.Rest = 5 * time.Second
	}
	return &Breaker{inner: e, changed: cfg.Changed, state: gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: probes,
		Timeout:     cfg.Rest,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= cfg.Trips },
		IsExcluded:  func(err error) bool { return errors.Is(err, errTellsNothing) },
	})}
}

// State is closed, half-open or open.
func (b *Breaker) State() string { return b.state.State().String() }

// Close closes the engine behind it, if that can be closed.
func (b *Breaker) Close() error {
	if c, ok := b.inner.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Chat implements Engine.
func (b *Breaker) Chat(ctx context.Context, req *ChatRequest) (resp *ChatResponse, err error) {
	err = b.guard(ctx, func(func()) error {
		resp, err = b.inner.Chat(ctx, req)
		return err
	})
	return resp, err
}

// ChatStream implements Engine. Its first chunk shows that the engine is well.
func (b *Breaker) ChatStream(ctx context.Context, req *ChatRequest, emit func(*ChatChunk) error) error {
	return b.guard(ctx, func(well func()) error {
		return b.inner.ChatStream(ctx, req, func(c *ChatChunk) error {
			well()
			return emit(c)
		})
	})
}

// Embed implements Engine.
func (b *Breaker) Embed(ctx context.Context, req *EmbedRequest) (resp *EmbedResponse, err error) {
	err = b.guard(ctx, func(func()) error {
		resp, err = b.inner.Embed(ctx, req)
		return err
	})
	return resp, err
}

// errTellsNothing stands for outcomes that say nothing of the engine's health.
var errTellsNothing = errors.New("tells nothing")

// guard has fn ask the engine, if it may be asked, and reports how that went: by
// well, once fn knows, or by its error.
func (b *Breaker) guard(ctx context.Context, fn func(well func()) error) error {
	report, err := b.state.Allow()
	if err != nil {
		return &Error{Kind: Failed, Message: "the engine failed several times in a row and is given a rest", Err: ErrOpen}
	}
	b.look()
	var once sync.Once
	tell := func(err error) {
		once.Do(func() {
			report(err)
			b.look()
		})
	}
	// A panic is passed on; a probe without a report would be waited for forever.
	defer tell(errTellsNothing)
	err = fn(func() { tell(nil) })
	tell(symptom(ctx, err))
	return err
}

// look tells of a state that is new. gobreaker's own call would come under its lock.
func (b *Breaker) look() {
	s := b.state.State()
	if old := b.told.Swap(int32(s)); old != int32(s) && b.changed != nil {
		b.changed(s.String())
	}
}

// symptom is what an outcome says of the engine: nil that it answers, its error
// that it fails.
func symptom(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return errTellsNothing // the caller left, or gave it too little time
	}
	var e *Error
	switch errors.As(err, &e); {
	case e == nil || e.Kind == Timeout || e.Kind == Failed && (e.UpstreamStatus == 0 || e.UpstreamStatus >= 500):
		return err
	case e.Kind == BadRequest:
		return nil
	default:
		return errTellsNothing
	}
}
