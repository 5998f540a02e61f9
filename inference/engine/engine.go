// Package engine is what the pipeline asks of an inference engine, in OpenAI's
// wire shapes. It knows nothing of tenants.
package engine

import (
	"context"
	"errors"
	"fmt"
)

// Engine answers requests. Implementations are safe for concurrent use, end
// promptly when ctx does, and return *Error for everything that went wrong.
type Engine interface {
	// Chat answers whole.
	Chat(ctx context.Context, req *ChatRequest) (*ChatResponse, error)
	// ChatStream answers in chunks, handed to emit in order; an error of emit
	// ends the stream and is returned, and nothing is emitted once ctx has ended.
	// The last chunk with a non-nil Usage and no choices is always emitted, whether
	// or not the client asked for usage, except by an engine that counts no tokens.
	// Earlier chunks may bear the usage so far: it counts when the stream is broken
	// off.
	ChatStream(ctx context.Context, req *ChatRequest, emit func(*ChatChunk) error) error
	// Embed returns one vector for each input, in order.
	Embed(ctx context.Context, req *EmbedRequest) (*EmbedResponse, error)
}

// Kind says whose fault an engine's error is.
type Kind uint8

// The kinds, and the answer each becomes.
const (
	Failed      Kind = iota // 502 engine_error
	Timeout                 // 504 engine_timeout
	BadRequest              // 400 invalid_request: Param and Message are for the client
	Unsupported             // 400 invalid_request: this engine can't do what was asked
)

func (k Kind) String() string {
	switch k {
	case Timeout:
		return "timeout"
	case BadRequest:
		return "bad request"
	case Unsupported:
		return "unsupported"
	default:
		return "failed"
	}
}

// Error is how an engine fails. Message is for the client who asked: of a
// BadRequest it may quote the request, so Error leaves it out. Err and
// UpstreamStatus are for the log, and must not hold prompts or keys.
type Error struct {
	Kind           Kind
	Param, Message string
	UpstreamStatus int
	Err            error
}

func (e *Error) Error() string {
	text := e.Message
	if text == "" || e.Kind == BadRequest {
		text = e.Kind.String()
	}
	if e.UpstreamStatus != 0 {
		return fmt.Sprintf("engine: %s (upstream status %d)", text, e.UpstreamStatus)
	}
	return "engine: " + text
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of err; what isn't an *Error is Failed, and a context's
// deadline is Timeout.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return Timeout
	}
	return Failed
}
