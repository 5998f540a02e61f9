package builtin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"freehold/inference/engine"
	"freehold/inference/engine/builtin/head"
)

// HeadFile is the file of a tuned model's artifact that holds its head.
const HeadFile = "model.safetensors"

// NoTunedAnswer is what a tuned model says to a question that its examples don't
// answer, where the conversation doesn't either.
const NoTunedAnswer = "I don't know: that is not among the questions that I was taught to answer."

// loadTimeout bounds how long the artifact of a model may take to come.
const loadTimeout = 30 * time.Second

var errNoKey = errors.New("a tuned model without a key")

// tunedAnswer is what a tuned model says to the last user message, and its verdict.
// Where it abstains, it answers as the base model does, from the conversation's own
// sentences, and if these have no answer it says so.
func (e *Engine) tunedAnswer(ctx context.Context, req *engine.ChatRequest, turns []Turn) (string, *engine.Class, error) {
	question := ""
	for _, t := range turns {
		if t.Role == "user" {
			question = t.Text
		}
	}
	if strings.TrimSpace(question) == "" {
		return "", nil, refuse("messages", "the conversation has no user message with a text to answer")
	}
	h, err := e.heads.get(ctx, req.Tuned.Key, func(ctx context.Context) (*head.Head, error) {
		return readHead(ctx, req.Tuned)
	})
	if err != nil {
		if ctx.Err() != nil {
			return "", nil, stopped(context.Cause(ctx))
		}
		return "", nil, &engine.Error{Kind: engine.Failed, Message: "the tuned model could not be loaded", Err: err}
	}
	text := head.Normalize(question)
	v, err := e.encoder.Encode(ctx, text)
	if err != nil {
		return "", nil, stopped(err)
	}
	verdict := h.Predict(text, v)
	class := &engine.Class{Label: verdict.Label, Scores: verdict.Scores, Abstained: verdict.Abstained}
	if !verdict.Abstained {
		return verdict.Answer, class, nil
	}
	a, err := e.Answer(ctx, req.Scope, turns)
	if err != nil {
		return "", nil, err
	}
	if a.Found() {
		return a.Text(), class, nil
	}
	return NoTunedAnswer, class, nil
}

// readHead reads a head from its artifact.
func readHead(ctx context.Context, t *engine.Tuned) (*head.Head, error) {
	if t.Key == "" {
		return nil, errNoKey
	}
	r, size, err := t.Read(ctx, HeadFile)
	if err != nil {
		return nil, fmt.Errorf("open head: %w", err)
	}
	h, err := head.Read(r, size)
	return h, errors.Join(err, r.Close())
}
