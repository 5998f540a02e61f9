package inference

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"

	"freehold/inference/engine"
)

// ChatStream admits a chat whose answer is streamed. Its errors are Chat's; an
// engine's come from Stream.Run.
func (s *Service) ChatStream(ctx context.Context, c Call, req *engine.ChatRequest) (*Stream, error) {
	st := &Stream{s: s, call: c, model: req.Model, asked: req.IncludeUsage}
	kept, err := s.first(ctx, c, func() (err error) {
		st.sent, st.record, err = s.admitChat(ctx, c, kindChat, req, true)
		return err
	})
	if err != nil {
		return nil, err
	}
	if kept != nil {
		if err := json.Unmarshal(kept, &st.kept); err != nil || len(st.kept) == 0 {
			return nil, errors.New("read kept answer: not as it was written")
		}
	}
	return st, nil
}

// Stream is an admitted chat. Whoever has one must call Run, once.
type Stream struct {
	s      *Service
	call   Call
	model  string
	asked  bool // for usage
	record *record
	sent   *engine.ChatRequest
	kept   []*engine.ChatChunk // of an answer that is given again
	run    atomic.Bool
}

// ID is the answer's id, the same on every chunk.
func (st *Stream) ID() string {
	if st.kept != nil {
		return st.kept[0].ID
	}
	return st.record.chatID()
}

// Run has the engine answer and hands each chunk to emit, in order. It settles on
// every path, before it returns. When emit fails or ctx ends the engine is
// cancelled, and what was generated until then is settled as cancelled; with an
// Idempotency-Key, the engine goes on when the client has left. Errors: emit's own,
// ctx's cause, *BadRequest, and *engine.Error of the kinds Failed and Timeout; a
// panic in the engine or in emit is one of them.
func (st *Stream) Run(ctx context.Context, emit func(*engine.ChatChunk) error) error {
	if !st.run.CompareAndSwap(false, true) {
		return errTwice
	}
	if st.kept != nil {
		return st.replay(emit)
	}
	r := st.record
	lasting, done := st.s.outlive(ctx, st.call)
	defer done()
	lasting, cancel := context.WithCancelCause(lasting)
	defer cancel(nil)
	out := &outlet{st: st, ctx: lasting, cancel: cancel, emit: emit, restorer: newRestorer(r.privacy), keyed: st.call.keyed(st.s)}
	begun, err := r.guard(lasting, func() error {
		if err := r.model.engine.ChatStream(lasting, st.sent, out.chunk); err != nil {
			return err
		}
		return out.end()
	})
	end := ending{err: err, gone: out.lost, unasked: !begun}
	if out.usage != nil {
		end.usage, end.counted = *out.usage, true
	}
	// Each piece is a token at least.
	end.usage.CompletionTokens = max(end.usage.CompletionTokens, out.pieces(end.counted))
	end.output = r.log(lasting, out.heard.choices(), out.usage != nil)
	if out.size <= maxAnswer {
		end.answer = merged(out.said)
	}
	end, err = outcome(lasting, end)
	r.settle(lasting, end)
	return err
}

// replay gives an earlier answer again.
func (st *Stream) replay(emit func(*engine.ChatChunk) error) error {
	for _, c := range st.kept {
		c.UsageAsked = st.asked
		if err := emit(c); err != nil {
			return err
		}
	}
	return nil
}

// outlet is where an engine's chunks leave.
type outlet struct {
	st       *Stream
	ctx      context.Context // lives as long as Run, whose ctx it is
	cancel   context.CancelCauseFunc
	emit     func(*engine.ChatChunk) error
	restorer *restorer // nil: nothing to bring back
	heard    hearing
	spoke    int64 // pieces that said something
	usage    *engine.Usage
	lost     bool // a chunk could not be passed on: the client left
	keyed    bool // then it may leave
	away     bool // and has
	said     []*engine.ChatChunk
	size     int // of said, about, in bytes
}

// chunk passes one of the engine's chunks on, without its usage.
func (o *outlet) chunk(c *engine.ChatChunk) error {
	if c.Usage != nil {
		o.usage = c.Usage
	}
	o.heard.add(c.Choices)
	for _, choice := range c.Choices {
		if len(choice.Delta) > len(`{}`) {
			o.spoke++
		}
	}
	if err := context.Cause(o.ctx); err != nil {
		o.lost = o.lost || !errors.Is(err, context.DeadlineExceeded)
		return err
	}
	choices := c.Choices
	if o.restorer != nil {
		choices = o.restorer.choices(choices)
	}
	if len(choices) == 0 {
		return nil
	}
	return o.send(choices, nil)
}

// pieces is the least number of tokens that were generated, for an engine that was
// cut off before it counted them.
func (o *outlet) pieces(counted bool) int64 {
	if counted {
		return 0
	}
	return o.spoke
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
	if o.restorer != nil {
		if rest := o.restorer.rest(); rest != nil {
			if err := o.send(rest, nil); err != nil {
				return err
			}
		}
	}
	if o.usage == nil || !o.st.asked {
		return nil
	}
	return o.send([]engine.ChunkChoice{}, o.usage)
}

func (o *outlet) send(choices []engine.ChunkChoice, usage *engine.Usage) error {
	c := &engine.ChatChunk{
		ID: o.st.ID(), Object: "chat.completion.chunk", Created: o.st.record.created.Unix(), Model: o.st.model,
		Choices: choices, Usage: usage, UsageAsked: o.st.asked,
	}
	if o.keyed {
		o.keep(c)
		if o.away {
			return nil
		}
	}
	err := o.emit(c)
	if err != nil && o.keyed && o.st.call.Gone != nil && context.Cause(o.ctx) == nil {
		o.away = true
		return nil
	}
	if err != nil {
		o.lost = true
		o.cancel(err)
	}
	return err
}

// keep remembers a chunk for a retry, as long as all of them may be kept.
func (o *outlet) keep(c *engine.ChatChunk) {
	for _, choice := range c.Choices {
		o.size += len(choice.Delta) + len(choice.Logprobs)
	}
	if o.size <= maxAnswer {
		o.said = append(o.said, c)
	}
}
