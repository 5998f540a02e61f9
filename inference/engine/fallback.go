package engine

import "context"

// Choice is one way to have a request answered: an engine, and the model's name
// there. Name is the engine's, for logs.
type Choice struct {
	Engine Engine
	Model  string
	Name   string
}

// List is an engine made of others, for one model.
type List struct {
	// Tried is called after each choice that was asked, with its error; nil for the
	// one that answered. It must not block, and may be called concurrently when the
	// List is used so. nil: nobody is told.
	Tried func(c Choice, err error)

	choices []Choice
}

var _ Engine = (*List)(nil)

// Fallback returns an engine that asks its choices in order until one answers. The
// next is asked when one was Failed or Timeout before its first chunk, while the
// caller still waits; the last one's error is returned. A request that an engine
// refuses is refused: another model would have to guess what was meant. For
// embeddings the choices should be one model in several places, as vectors of
// different models can't be compared.
func Fallback(choices ...Choice) *List { return &List{choices: choices} }

// Chat implements Engine.
func (l *List) Chat(ctx context.Context, req *ChatRequest) (*ChatResponse, error) {
	var resp *ChatResponse
	err := l.ask(ctx, func(c Choice) (final bool, err error) {
		own := *req
		own.Model = c.Model
		resp, err = c.Engine.Chat(ctx, &own)
		return false, err
	})
	return resp, err
}

// ChatStream implements Engine.
func (l *List) ChatStream(ctx context.Context, req *ChatRequest, emit func(*ChatChunk) error) error {
	return l.ask(ctx, func(c Choice) (begun bool, err error) {
		own := *req
		own.Model = c.Model
		err = c.Engine.ChatStream(ctx, &own, func(chunk *ChatChunk) error {
			begun = true
			return emit(chunk)
		})
		return begun, err
	})
}

// Embed implements Engine.
func (l *List) Embed(ctx context.Context, req *EmbedRequest) (*EmbedResponse, error) {
	var resp *EmbedResponse
	err := l.ask(ctx, func(c Choice) (final bool, err error) {
		own := *req
		own.Model = c.Model
		resp, err = c.Engine.Embed(ctx, &own)
		return false, err
	})
	return resp, err
}

// ask goes through the choices. fn reports whether its error is final.
func (l *List) ask(ctx context.Context, fn func(Choice) (final bool, err error)) error {
	err := error(&Error{Kind: Failed, Message: "no engine serves the model"})
	for _, c := range l.choices {
		var final bool
		final, err = fn(c)
		if l.Tried != nil {
			l.Tried(c, err)
		}
		if err == nil || final || ctx.Err() != nil {
			return err
		}
		if kind := KindOf(err); kind != Failed && kind != Timeout {
			return err
		}
	}
	return err
}
