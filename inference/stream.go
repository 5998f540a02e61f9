package inference

import (
	"context"
	"errors"
	"sync/atomic"

	"freehold/inference/engine"
)

// ChatStream admits a chat whose answer is streamed. Its errors are Chat's; an
// engine's come from Stream.Run.
func (s *Service) ChatStream(ctx context.Context, c Call, req *engine.ChatRequest) (*Stream, error) {
	m, sent, r, err := s.admitChat(ctx, c, kindChat, req, true)
	if err != nil {
		return nil, err
	}
	return &Stream{record: r, engine: m.engine, sent: sent, model: req.Model}, nil
}

// Stream is an admitted chat. Whoever has one must call Run, once.
type Stream struct {
	record *record
	engine engine.Engine
	sent   *engine.ChatRequest
	model  string
	run    atomic.Bool
}

// ID is the answer's id, the same on every chunk.
func (st *Stream) ID() string { return st.record.chatID() }

// Run has the engine answer and hands each chunk to emit, in order. It settles on
// every path, before it returns. When emit fails or ctx ends the engine is
// cancelled, and what was generated until then is settled as cancelled. Errors:
// emit's own, ctx's cause, *BadRequest, and *engine.Error of the kinds Failed and
// Timeout; a panic in the engine or in emit is one of them.
func (st *Stream) Run(ctx context.Context, emit func(*engine.ChatChunk) error) error {
	if !st.run.CompareAndSwap(false, true) {
		return errTwice
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out := &outlet{st: st, ctx: ctx, cancel: cancel, emit: emit}
	err := st.record.guard(ctx, func() error {
		if err := st.engine.ChatStream(ctx, st.sent, out.chunk); err != nil {
			return err
		}
		return out.end()
	})
	end := ending{err: err, gone: out.lost}
	if out.usage != nil {
		end.usage = *out.usage
	}
	end.output = st.record.log(ctx, out.heard.choices(), out.usage != nil)
	end, err = outcome(ctx, end)
	st.record.settle(ctx, end)
	return err
}

// outlet is where an engine's chunks leave.
type outlet struct {
	st     *Stream
	ctx    context.Context // lives as long as Run, whose ctx it is
	cancel context.CancelCauseFunc
	emit   func(*engine.ChatChunk) error
	heard  hearing
	usage  *engine.Usage
	lost   bool // a chunk could not be passed on: the client left
}

// chunk passes one of the engine's chunks on, without its usage.
func (o *outlet) chunk(c *engine.ChatChunk) error {
	if c.Usage != nil {
		o.usage = c.Usage
	}
	o.heard.add(c.Choices)
	if err := context.Cause(o.ctx); err != nil {
		o.lost = o.lost || !errors.Is(err, context.DeadlineExceeded)
		return err
	}
	if len(c.Choices) == 0 {
		return nil
	}
	return o.send(c.Choices, nil)
}

// end makes sure that all was well, and sends the usage that was asked for.
func (o *outlet) end() error {
	// An engine may take its context's end for a reason to end well.
	if err := context.Cause(o.ctx); err != nil && (o.lost || !o.heard.finished()) {
		return err
	}
	if o.heard.empty() {
		return &engine.Error{Kind: engine.Failed, Message: "the engine gave no answer"}
	}
	if o.usage == nil || !o.st.sent.IncludeUsage {
		return nil
	}
	return o.send([]engine.ChunkChoice{}, o.usage)
}

func (o *outlet) send(choices []engine.ChunkChoice, usage *engine.Usage) error {
	err := o.emit(&engine.ChatChunk{
		ID: o.st.ID(), Object: "chat.completion.chunk", Created: o.st.record.created.Unix(), Model: o.st.model,
		Choices: choices, Usage: usage, UsageAsked: o.st.sent.IncludeUsage,
	})
	if err != nil {
		o.lost = true
		o.cancel(err)
	}
	return err
}
