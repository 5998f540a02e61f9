package head

import (
	"math"
	"strings"

	"github.com/viterin/vek/vek32"
)

// memory holds the examples that a question is compared with, ready for that. What
// isn't exported by Write is made anew from texts, classes and vectors.
type memory struct {
	texts   []string
	class   []int32
	vectors []float32 // [n, Dimensions], centred and of length 1
	classes int
	answerV [][]float32 // centred, of length 1; nil: none

	size []int     // examples of a class
	sums []float32 // [classes, Dimensions], of vectors

	words   lexical
	answers lexical // of the answers' texts: example k is class k
	grams   gramIndex
	bag     bag
}

// newMemory compares with these examples. Their vectors are centred and of length 1.
func newMemory(texts []string, class []int32, vectors []float32, answers []string, answerV [][]float32) *memory {
	m := &memory{texts: texts, class: class, vectors: vectors, classes: len(answers)}
	m.size = make([]int, m.classes)
	m.sums = make([]float32, m.classes*Dimensions)
	for i, k := range class {
		m.size[k]++
		vek32.Add_Inplace(m.sums[int(k)*Dimensions:(int(k)+1)*Dimensions], vectors[i*Dimensions:(i+1)*Dimensions])
	}
	if len(answerV) > 0 {
		m.answerV = make([][]float32, m.classes)
		for k, v := range answerV {
			if v != nil {
				m.answerV[k] = make([]float32, Dimensions)
				unit(m.answerV[k], v)
			}
		}
	}
	terms := make([][]string, len(texts))
	tokens := make([][]uint64, len(texts))
	grams := make([][]gram, len(texts))
	for i, t := range texts {
		terms[i], tokens[i], grams[i] = termsOf(t), tokensOf(t), gramsOf(t)
	}
	m.words = newLexical(terms)
	m.grams = newGramIndex(grams)
	m.bag = newBag(tokens, class, m.classes)
	terms = make([][]string, len(answers))
	for k, a := range answers {
		terms[k] = termsOf(a)
	}
	m.answers = newLexical(terms)
	return m
}

func (m *memory) bytes() int64 {
	n := int64(len(m.vectors)+len(m.sums))*4 + int64(len(m.class))*4 + int64(len(m.answerV))*(24+4*Dimensions)
	for _, t := range m.texts {
		n += int64(len(t)) + 16
	}
	return n + m.words.bytes() + m.answers.bytes() + m.grams.bytes() + m.bag.bytes()
}

// topics returns how much of the question's words each class has, in any example or
// its answer. A word counts the more, the fewer classes have it or its kin.
func (m *memory) topics(terms []string, skip func(text int32) bool, gone int) []float64 {
	out, best := make([]float64, m.classes), make([]float64, m.classes)
	sum := 0.0
	for _, t := range terms {
		clear(best)
		m.words.hits(t, func(i int32, worth float64) {
			if k := m.class[i]; !skip(i) && worth > best[k] {
				best[k] = worth
			}
		})
		m.answers.hits(t, func(k int32, worth float64) {
			if worth *= saidWorth; int(k) != gone && worth > best[k] {
				best[k] = worth
			}
		})
		having := 0.5
		for _, b := range best {
			having += b
		}
		weight := math.Log(1 + float64(m.classes)/having)
		if strings.HasPrefix(t, "?") {
			weight *= askWeight
		}
		sum += weight
		for k, b := range best {
			out[k] += weight * b
		}
	}
	if sum > 0 {
		for k := range out {
			out[k] /= sum
		}
	}
	return out
}

// saidWorth is what a word of the answer is worth beside one of an example.
const saidWorth = 0.8
