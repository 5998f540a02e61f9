// Package head is what fine-tuning adds to the built-in encoder: a classifier whose
// classes are the answers of a tenant's examples. It says which answer belongs to a
// question, how sure that is, and below a threshold that it doesn't know.
//
// It works on texts and their vectors and knows neither engine nor trainer. Numbers
// are made in a fixed order from a seed: equal examples make equal bytes.
package head

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Dimensions is the length of every vector.
const Dimensions = 512

// Bounds of a head.
const (
	// MaxClasses is the most different answers that examples may have.
	MaxClasses = 20_000
	// maxKept is how many examples a head remembers; the linear part learns from all.
	maxKept = 8192
	// topScores is how many classes a verdict names.
	topScores = 5
)

// Head is a trained classifier. It is immutable and safe for concurrent use.
type Head struct {
	answers []string
	labels  []string
	answerV [][]float32 // by class, nil when the trainer gave none

	mean    []float32 // of the encoder's vectors, taken off each
	linear  linear
	memory  *memory // the examples that are kept
	foreign foreigners

	stack     weights // of the members
	accept    gate
	threshold float64
}

// Verdict is what a head says to a question.
type Verdict struct {
	Answer string // the best class's, also when Abstained
	Label  string // its short name
	// Scores are the best classes' probabilities, by label.
	Scores     map[string]float64
	Confidence float64 // between 0 and 1: that Answer is right and the question in scope
	Abstained  bool
}

// Predict judges a question by its text, as Normalize returns it, and that text's vector.
func (h *Head) Predict(text string, vector []float32) Verdict {
	q := h.ask(text, vector)
	v := h.memory.members(q, h.linear, everything)
	p := h.stack.probabilities(v)
	best := argmax(p)
	out := Verdict{Answer: h.answers[best], Label: h.labels[best], Scores: make(map[string]float64, topScores)}
	for _, k := range top(p, topScores) {
		out.Scores[h.labels[k]] = p[k]
	}
	out.Confidence = h.accept.confidence(h.stack.evidence(v, p))
	out.Abstained = out.Confidence < h.threshold
	return out
}

// Probability is what the head gives to one answer, abstained or not; 0 for an
// answer that it doesn't know.
func (h *Head) Probability(text string, vector []float32, answer string) float64 {
	k := slices.Index(h.answers, answer)
	if k < 0 {
		return 0
	}
	return h.stack.probabilities(h.memory.members(h.ask(text, vector), h.linear, everything))[k]
}

// Classes returns how many answers the head knows.
func (h *Head) Classes() int { return len(h.answers) }

// Threshold is the confidence below which the head abstains.
func (h *Head) Threshold() float64 { return h.threshold }

// Bytes is about how much memory the head takes.
func (h *Head) Bytes() int64 {
	n := int64(len(h.linear.w)+len(h.linear.b)+len(h.mean)) * 4
	for k, a := range h.answers {
		n += int64(len(a)+len(h.labels[k])) + 64
	}
	n += int64(len(h.answerV)) * (Dimensions*4 + 24)
	return n + int64(len(h.foreign.vectors))*4 + h.memory.bytes()
}

// labelsOf names classes: an answer that is short is its own label, a longer one is
// cut, and what isn't unique then gets a number.
func labelsOf(answers []string) []string {
	const most = 64 // runes
	seen := make(map[string]bool, len(answers))
	out := make([]string, len(answers))
	for k, a := range answers {
		label := a
		if utf8.RuneCountInString(a) > most {
			label = string([]rune(a)[:most-1]) + "…"
		}
		unique := label
		for n := 2; seen[unique]; n++ {
			unique = label + " (" + strconv.Itoa(n) + ")"
		}
		seen[unique] = true
		out[k] = unique
	}
	return out
}

func argmax(p []float64) int {
	best := 0
	for k := range p {
		if p[k] > p[best] {
			best = k
		}
	}
	return best
}

// top returns the places of the n greatest values, greatest first.
func top(p []float64, n int) []int {
	at := make([]int, len(p))
	for k := range at {
		at[k] = k
	}
	slices.SortStableFunc(at, func(a, b int) int { return cmp.Compare(p[b], p[a]) })
	return at[:min(n, len(at))]
}

// softmax returns probabilities for logits.
func softmax(z []float64) []float64 {
	most := math.Inf(-1)
	for _, v := range z {
		most = max(most, v)
	}
	out := make([]float64, len(z))
	sum := 0.0
	for k, v := range z {
		out[k] = math.Exp(v - most)
		sum += out[k]
	}
	for k := range out {
		out[k] /= sum
	}
	return out
}
