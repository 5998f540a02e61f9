// Package builtin is the engine inside the binary: a small pretrained English
// sentence encoder in pure Go, no download and no second process. It serves two
// models. freehold-embed-1 turns a text into a vector; freehold-answer-1 answers
// a chat by quoting the sentences of the conversation that answer its last user
// message, or says that there are none. It can't write, reason or know anything;
// data/MODEL_CARD.md says what it is good for, and how to add a real model.
//
// The encoder is the Universal Sentence Encoder Lite (data/NOTICE). Its vectors
// are those of the published weights under TensorFlow.js to 3 digits and better:
// over the 27 texts of testdata/reference.json no component differs by more than
// 5e-5. That is why matrices are stored as int16 with a scale for each row, in
// 14 MB. One byte an element misses it (components differ by up to 0.01, half of
// them in the third digit), with a scale for each output column or each 32
// elements too; float16 differs by up to 3e-4 at the size of int16.
//
// A tuned model (engine.ChatRequest.Tuned) is freehold-answer-1 with a head that has
// learned a tenant's own answers, and says one of them or that it doesn't know.
//
// The package keeps nothing of a conversation but vectors of its sentences, under
// the scope of the caller (engine.ChatRequest.Scope) and the sentence's hash.
package builtin

import (
	"context"
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2"

	"freehold/inference/engine"
)

// The models.
const (
	EmbedModel  = "freehold-embed-1"
	AnswerModel = "freehold-answer-1"
)

// maxInputs is how many texts one embedding request may have, as OpenAI has it.
const maxInputs = 2048

// cachedVectors is how many sentences the cache holds: 8 MB.
const cachedVectors = 4096

// Engine serves both models. It needs no closing.
type Engine struct {
	encoder *Encoder
	cache   *lru.Cache[cacheKey, []float32]
	heads   *headCache
}

var _ engine.Engine = (*Engine)(nil)

// New loads the encoder (see Load). Engines of one process share it, and share
// no cache.
func New() (*Engine, error) {
	enc, err := Load()
	if err != nil {
		return nil, err
	}
	cache, err := lru.New[cacheKey, []float32](cachedVectors)
	if err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	return &Engine{encoder: enc, cache: cache, heads: newHeadCache(DefaultHeadBytes)}, nil
}

// Embed serves freehold-embed-1. Of each input the first MaxTokens tokens are
// read and counted, but never more than its bytes and one.
func (e *Engine) Embed(ctx context.Context, req *engine.EmbedRequest) (*engine.EmbedResponse, error) {
	switch {
	case req.Model != EmbedModel:
		return nil, unsupported("model", "the built-in engine makes embeddings with "+EmbedModel+" only")
	case req.Dimensions != 0 && req.Dimensions != Dimensions:
		return nil, unsupported("dimensions", "this model makes 512 dimensions only")
	case len(req.Input) > maxInputs:
		return nil, refuse("input", "more than 2048 inputs")
	}
	vectors, err := e.encoder.EncodeAll(ctx, req.Input)
	if err != nil {
		return nil, stopped(err)
	}
	res := &engine.EmbedResponse{Vectors: vectors}
	for _, text := range req.Input {
		res.Usage.PromptTokens += int64(min(e.encoder.read(text), len(text)+1))
	}
	res.Usage.TotalTokens = res.Usage.PromptTokens
	return res, nil
}
