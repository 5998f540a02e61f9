package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"slices"
	"time"

	"freehold/inference/engine"
)

// wireChunk is an upstream's chunk, as far as it is passed on.
type wireChunk struct {
	Choices []struct {
		Index        int             `json:"index"`
		Delta        json.RawMessage `json:"delta"`
		Logprobs     json.RawMessage `json:"logprobs"`
		FinishReason *string         `json:"finish_reason"`
	} `json:"choices"`
	Usage *engine.Usage   `json:"usage"`
	Error json.RawMessage `json:"error"`
}

// ChatStream implements engine.Engine.
func (c *client) ChatStream(ctx context.Context, req *engine.ChatRequest, emit func(*engine.ChatChunk) error) error {
	if req.Tuned != nil {
		return errArtifact
	}
	body := req.Members()
	body["model"], body["stream"] = req.Model, true
	body["stream_options"] = map[string]bool{"include_usage": true}

	ctx, stop := context.WithTimeoutCause(ctx, c.cfg.StreamTime, errLong)
	defer stop()
	ctx, w := newWatch(ctx, c.cfg.Timeout)
	defer w.end()
	resp, err := c.post(ctx, "/chat/completions", body)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // it was read, or given up
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "application/json" {
		return c.unstreamed(ctx, resp.Body)
	}

	alive := &lively{in: io.LimitReader(resp.Body, maxBody), heard: func() { w.set(c.cfg.IdleTimeout) }}
	in := newEvents(alive, maxEventSize)
	s := &stream{c: c, finished: map[int]bool{}, emit: func(chunk *engine.ChatChunk) error {
		if ctx.Err() != nil { // what was read already is not said to nobody
			return broken(ctx, ctx.Err(), "")
		}
		w.pause() // a slow client is no fault of the engine
		defer w.set(c.cfg.IdleTimeout)
		return emit(chunk)
	}}
	for {
		ev, err := in.next()
		switch {
		case errors.Is(err, errTooLarge) || errors.Is(err, io.EOF) && alive.n >= maxBody:
			return &engine.Error{Kind: engine.Failed, Message: "the engine's answer is too large", Err: errTooLarge}
		case errors.Is(err, io.EOF):
			return s.end(false)
		case err != nil:
			return broken(ctx, err, "the engine broke off its answer")
		}
		data := bytes.TrimSpace(ev.data)
		if string(data) == "[DONE]" {
			err := s.end(true)
			drain(w, resp.Body)
			return err
		}
		if ev.name == "error" {
			return c.inBand(data)
		}
		if len(data) == 0 {
			continue
		}
		if err := s.chunk(data); err != nil {
			return err
		}
	}
}

// unstreamed is the error of a 200 that isn't a stream.
func (c *client) unstreamed(ctx context.Context, body io.ReadCloser) error {
	b, err := read(ctx, body, maxBody)
	if err != nil {
		return err
	}
	var got wireChunk
	if json.Unmarshal(b, &got) == nil && reported(got.Error) {
		return c.inBand(b)
	}
	return malformed("the engine does not stream")
}

// drain reads the little that stands behind the last event, so that the
// connection can serve again.
func drain(w *watch, body io.Reader) {
	w.set(50 * time.Millisecond)
	_, _ = io.CopyN(io.Discard, body, 4<<10) // the connection's fate alone hangs on it
}

// lively tells of each byte that arrives: a comment is a sign of life too.
type lively struct {
	in    io.Reader
	heard func()
	n     int64
}

func (l *lively) Read(p []byte) (int, error) {
	n, err := l.in.Read(p)
	if n > 0 {
		l.n += int64(n)
		l.heard()
	}
	return n, err
}

// stream turns an upstream's chunks into the engine's.
type stream struct {
	c        *client
	emit     func(*engine.ChatChunk) error
	finished map[int]bool // by choice seen
	usage    *engine.Usage
}

func (s *stream) chunk(data []byte) error {
	var got wireChunk
	if json.Unmarshal(data, &got) != nil {
		return malformed("the engine sent a malformed event")
	}
	if reported(got.Error) {
		return s.c.inBand(data)
	}
	out := &engine.ChatChunk{}
	if got.Usage != nil {
		u := counted(got.Usage)
		s.usage, out.Usage = &u, &u
	}
	for _, choice := range got.Choices {
		delta := bytes.TrimSpace(choice.Delta)
		if len(delta) == 0 || string(delta) == "null" {
			delta = []byte("{}")
		}
		if delta[0] != '{' || choice.Index < 0 || choice.Index >= maxChoices {
			return malformed("the engine sent a malformed event")
		}
		if choice.FinishReason != nil && *choice.FinishReason == "" {
			choice.FinishReason = nil
		}
		if string(choice.Logprobs) == "null" {
			choice.Logprobs = nil
		}
		s.finished[choice.Index] = s.finished[choice.Index] || choice.FinishReason != nil
		out.Choices = append(out.Choices, engine.ChunkChoice{
			Index: choice.Index, Delta: delta, Logprobs: choice.Logprobs, FinishReason: choice.FinishReason,
		})
	}
	if len(out.Choices) == 0 {
		return nil // usage goes out once, at the end; some upstreams announce filters this way
	}
	return s.emit(out)
}

// end checks that the answer was whole, and hands usage on. A [DONE] makes whole
// what was left without a reason.
func (s *stream) end(done bool) error {
	if len(s.finished) == 0 {
		return malformed("the engine gave no answer")
	}
	var last []engine.ChunkChoice
	for i, finished := range s.finished {
		if !finished {
			stop := "stop"
			last = append(last, engine.ChunkChoice{Index: i, Delta: json.RawMessage("{}"), FinishReason: &stop})
		}
	}
	if len(last) > 0 {
		if !done {
			return malformed("the engine broke off its answer")
		}
		slices.SortFunc(last, func(a, b engine.ChunkChoice) int { return a.Index - b.Index })
		if err := s.emit(&engine.ChatChunk{Choices: last}); err != nil {
			return err
		}
	}
	if s.usage == nil {
		return nil
	}
	return s.emit(&engine.ChatChunk{Usage: s.usage})
}
