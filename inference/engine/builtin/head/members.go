package head

import (
	"math"

	"github.com/viterin/vek/vek32"
)

// The members are the opinions on how well a class fits a question.
const (
	byLinear  = iota // the softmax layer's logit
	byNearest        // cosine of the class's nearest example
	byCentre         // cosine of the mean of its examples
	byWords          // words that its best example shares
	byLetters        // n-grams of letters that its best example shares
	byBag            // naive Bayes over words and pairs of words
	bySaid           // words that its answer shares
	byAnswer         // cosine of its answer
	byTopic          // the question's words that it has in any example or its answer
	members          // how many
)

// opinions are all members' on one class.
type opinions [members]float64

// question is a prompt, made ready.
type question struct {
	x       []float32 // centred
	u       []float32 // and of length 1
	terms   []string
	grams   []gram
	tallies []tally
	foreign float64 // cosine of the nearest stranger
	home    float64 // cosine with all examples' mean, less that with the strangers'
}

func (h *Head) ask(text string, vector []float32) question {
	x := make([]float32, Dimensions)
	copy(x, vector)
	vek32.Sub_Inplace(x, h.mean)
	q := h.memory.question(text, x)
	q.foreign, q.home = h.foreign.judge(x, h.mean, -1)
	return q
}

func (m *memory) question(text string, x []float32) question {
	q := question{x: x, u: make([]float32, Dimensions), terms: termsOf(text), grams: gramsOf(text)}
	unit(q.u, x)
	q.tallies = m.bag.tallies(tokensOf(text))
	return q
}

// without names what a question isn't compared with: the kept example that it is
// itself, a whole class, or neither (-1).
type without struct{ text, class int }

var everything = without{-1, -1}

// verdicts are the members' opinions on each class, and how much of the question's
// words is known at all.
type verdicts struct {
	each  []opinions
	known float64
	gone  int // the class that is left out, or -1

	foreign, home float64 // the question's
}

// members asks all of them.
func (m *memory) members(q question, l linear, w without) verdicts {
	v := verdicts{each: make([]opinions, m.classes), gone: w.class, foreign: q.foreign, home: q.home}
	skip := func(i int32) bool { return int(i) == w.text || int(m.class[i]) == w.class }
	for k, z := range l.logits(q.x) {
		v.each[k][byLinear] = float64(z)
		v.each[k][byNearest] = -1
	}
	cos := multiplyRows(m.vectors, q.u)
	words, known := m.words.overlap(q.terms, skip)
	letters := m.grams.cosines(q.grams, len(m.texts))
	v.known = known
	for i, k := range m.class {
		if skip(int32(i)) {
			continue
		}
		o := &v.each[k]
		o[byNearest] = max(o[byNearest], float64(cos[i]))
		o[byWords] = max(o[byWords], words[i])
		o[byLetters] = max(o[byLetters], letters[i])
	}
	own := -1
	if w.text >= 0 {
		own = int(m.class[w.text])
	}
	for k, s := range m.bag.scores(q.tallies, own) {
		v.each[k][byBag] = s
	}
	centre := make([]float32, Dimensions)
	for k := range m.classes {
		copy(centre, m.sums[k*Dimensions:(k+1)*Dimensions])
		if k == own {
			vek32.Sub_Inplace(centre, m.vectors[w.text*Dimensions:(w.text+1)*Dimensions])
		}
		if norm := float64(vek32.Dot(centre, centre)); norm > 1e-9 {
			v.each[k][byCentre] = float64(vek32.Dot(centre, q.u)) / math.Sqrt(norm)
		}
	}
	for k, s := range m.topics(q.terms, skip, w.class) {
		v.each[k][byTopic] = s
	}
	said, _ := m.answers.overlap(q.terms, func(int32) bool { return false })
	for k := range said {
		v.each[k][bySaid] = said[k]
		if m.answerV != nil && m.answerV[k] != nil {
			v.each[k][byAnswer] = float64(vek32.Dot(m.answerV[k], q.u))
		}
	}
	return v
}

// multiplyRows is the dot product of each row with u.
func multiplyRows(rows, u []float32) []float32 {
	out := make([]float32, len(rows)/Dimensions)
	for i := range out {
		out[i] = vek32.Dot(rows[i*Dimensions:(i+1)*Dimensions], u)
	}
	return out
}

// unit sets dst to v's direction; a vector of no length stays zero.
func unit(dst, v []float32) {
	copy(dst, v)
	if norm := float64(vek32.Dot(v, v)); norm > 1e-12 {
		vek32.MulNumber_Inplace(dst, float32(1/math.Sqrt(norm)))
	}
}
