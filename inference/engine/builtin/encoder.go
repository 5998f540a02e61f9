package builtin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// Encoder turns English sentences into vectors of Dimensions numbers with the
// length 1, so that the dot product of two is their cosine. It is safe for
// concurrent use, and computes as many texts at once as there are processors;
// further ones wait in turn.
type Encoder struct {
	tok   *tokenizer
	w     *weights
	slots chan struct{}
	pool  sync.Pool // of *scratch
}

var load = sync.OnceValues(func() (*Encoder, error) {
	tok, err := newTokenizer(vocabData)
	if err != nil {
		return nil, fmt.Errorf("load encoder: %w", err)
	}
	w, err := readWeights(weightData)
	if err != nil {
		return nil, fmt.Errorf("load encoder: %w", err)
	}
	return &Encoder{
		tok:   tok,
		w:     w,
		slots: make(chan struct{}, runtime.GOMAXPROCS(0)),
		pool:  sync.Pool{New: func() any { return newScratch() }},
	}, nil
})

// Load returns the process's one encoder; the first call takes some 50 ms and
// 28 MB.
func Load() (*Encoder, error) { return load() }

// Tokens returns how many tokens a text has, at least 1; beyond MaxTokens the
// encoder doesn't read them.
func (e *Encoder) Tokens(text string) int { return e.tok.count(text) }

// Encode returns the vector of a text's first MaxTokens tokens. Any text has
// one, the empty text too. The only error is ctx's, while waiting for a turn.
func (e *Encoder) Encode(ctx context.Context, text string) ([]float32, error) {
	select {
	case e.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-e.slots }()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	ids := e.IDs(text)
	s := e.pool.Get().(*scratch)
	defer e.pool.Put(s)
	return e.w.forward(s, ids), nil
}

// maxReadBytes is where a text is cut before it is split into tokens. MaxTokens
// pieces of 16 runes have at most 8 KB; only a longer run of unknown signs, which
// is one token, can make the cut felt.
const maxReadBytes = 64 << 10

// IDs returns the ids that the encoder reads of a text, 1 to MaxTokens.
func (e *Encoder) IDs(text string) []int32 {
	ids := e.tok.ids(text[:min(len(text), maxReadBytes)], MaxTokens)
	return ids[:min(len(ids), MaxTokens)]
}

// read returns how many tokens of a text the encoder reads, 1 to MaxTokens.
func (e *Encoder) read(text string) int { return len(e.IDs(text)) }

// EncodeAll returns a vector for each text, in order. It ends soon after ctx
// does, with ctx's error.
func (e *Encoder) EncodeAll(ctx context.Context, texts []string) ([][]float32, error) {
	var (
		out     = make([][]float32, len(texts))
		workers = min(cap(e.slots), len(texts))
		errs    = make([]error, workers)
		next    atomic.Int64
		wg      sync.WaitGroup
	)
	for w := range workers {
		wg.Go(func() {
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= len(texts) {
					return
				}
				out[i], errs[w] = e.Encode(ctx, texts[i])
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// EncoderSum is the SHA-256, in hex, of the encoder's weights and vocabulary: what
// was made of its vectors is of use with no other.
func EncoderSum() string { return encoderSum() }

var encoderSum = sync.OnceValue(func() string {
	h := sha256.New()
	h.Write(weightData)
	h.Write([]byte(vocabData))
	return hex.EncodeToString(h.Sum(nil))
})
