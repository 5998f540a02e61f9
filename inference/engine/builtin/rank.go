package builtin

import (
	"context"
	"crypto/sha256"
	"math"
	"slices"

	"github.com/viterin/vek/vek32"

	"freehold/inference/engine/builtin/lexicon"
)

// How a sentence is scored against a question: the cosine of their vectors plus
// overlapWeight times the share of the question's meaning words that it has, each
// word weighted by how rare it is in this context (BM25's idf).
//
// The three numbers were fitted on the companies marked "dev" in
// testdata/answers.txt; those marked "test" were written after the synonyms and
// the features were settled. TestAnswersEvaluation prints the figures, which the
// model card repeats.
const (
	overlapWeight = 0.75
	threshold     = 0.52 // a best sentence below it is no answer
	secondShare   = 0.9  // a second sentence is given from this share of the best one's score on
)

// scored is a sentence with its score for one question.
type scored struct {
	at    int // its place in the context
	score float64
}

// ranker holds one context, ready for questions.
type ranker struct {
	sentences []sentence
	vectors   [][]float32 // of text
	leads     [][]float32 // of lead where it is a question, else nil
	words     [][]string
	leadWords [][]string
}

// rankerFor encodes a context. Vectors come from and go to the cache when scope
// isn't empty.
func (e *Engine) rankerFor(ctx context.Context, scope string, sentences []sentence) (*ranker, error) {
	r := &ranker{sentences: sentences, leads: make([][]float32, len(sentences))}
	texts := make([]string, 0, len(sentences))
	for _, s := range sentences {
		texts = append(texts, s.text)
		r.words = append(r.words, lexicon.Terms(s.text))
		r.leadWords = append(r.leadWords, lexicon.Terms(s.lead))
	}
	var led []int
	for i, s := range sentences {
		if isQuestion(s.lead) {
			led = append(led, i)
			texts = append(texts, s.lead)
		}
	}
	vectors, err := e.vectors(ctx, scope, texts)
	if err != nil {
		return nil, err
	}
	r.vectors = vectors[:len(sentences)]
	for k, i := range led {
		r.leads[i] = vectors[len(sentences)+k]
	}
	return r, nil
}

// cacheKey names a sentence within a scope, and holds no text.
type cacheKey struct {
	scope string
	text  [sha256.Size]byte
}

// vectors encodes texts, those aside that the cache has for this scope.
func (e *Engine) vectors(ctx context.Context, scope string, texts []string) ([][]float32, error) {
	if scope == "" {
		return e.encoder.EncodeAll(ctx, texts)
	}
	var (
		out     = make([][]float32, len(texts))
		missing []string
		at      []int
	)
	for i, text := range texts {
		if v, ok := e.cache.Get(cacheKey{scope, sha256.Sum256([]byte(text))}); ok {
			out[i] = v
			continue
		}
		missing = append(missing, text)
		at = append(at, i)
	}
	fresh, err := e.encoder.EncodeAll(ctx, missing)
	if err != nil {
		return nil, err
	}
	for k, v := range fresh {
		out[at[k]] = v
		e.cache.Add(cacheKey{scope, sha256.Sum256([]byte(missing[k]))}, v)
	}
	return out, nil
}

// rank scores every sentence for a question whose vector is v, best first.
func (r *ranker) rank(question string, v []float32) []scored {
	asked := lexicon.Terms(question)
	covers := make([][]float64, len(asked)) // by word and sentence
	idf := make([]float64, len(asked))
	total := 0.0
	for k, word := range asked {
		covers[k] = make([]float64, len(r.sentences))
		having := 0.0
		for i := range r.sentences {
			best := max(kin(word, r.words[i]), kin(word, r.leadWords[i])/2)
			covers[k][i] = best
			having += best
		}
		idf[k] = math.Log(1 + (float64(len(r.sentences))-having+0.5)/(having+0.5))
		total += idf[k]
	}
	out := make([]scored, len(r.sentences))
	for i := range r.sentences {
		cosine := float64(vek32.Dot(v, r.vectors[i]))
		if r.leads[i] != nil {
			cosine = max(cosine, float64(vek32.Dot(v, r.leads[i])))
		}
		overlap := 0.0
		for k := range asked {
			overlap += idf[k] / total * covers[k][i]
		}
		out[i] = scored{i, cosine + overlapWeight*overlap}
	}
	slices.SortStableFunc(out, func(a, b scored) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		}
		return a.at - b.at
	})
	return out
}

// kin is the nearest kinship of word to any of words.
func kin(word string, words []string) float64 {
	best := 0.0
	for _, w := range words {
		best = max(best, lexicon.Kinship(word, w))
	}
	return best
}
