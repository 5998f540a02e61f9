package head

import (
	"hash/fnv"
	"math"
	"strings"
	"unicode"

	"freehold/inference/engine/builtin/lexicon"
)

// Bounds on what is taken of one text.
const (
	maxTerms  = 64   // of the lexical comparison
	maxGrams  = 256  // runes that letter n-grams are made of
	maxTokens = 2048 // of the bag of words
)

// asks are the words that say what kind of thing is asked for. As terms they count
// for less than words with a topic.
var asks = map[string]string{
	"where": "?place", "when": "?time", "who": "?person", "whom": "?person", "why": "?reason",
	"much": "?amount", "many": "?amount", "long": "?time", "often": "?time",
	"can't": "?not", "cannot": "?not", "not": "?not", "don't": "?not", "won't": "?not", "doesn't": "?not", "didn't": "?not", "cant": "?not",
}

// wordsOf splits a text into lower-case words.
func wordsOf(text string) []string {
	return strings.FieldsFunc(strings.ToLower(strings.ReplaceAll(text, "’", "'")), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\''
	})
}

// termsOf returns a text's meaning words as stems, the lexicon's phrases, and what
// kind of thing it asks for, each once, in order.
func termsOf(text string) []string {
	out := lexicon.Terms(text)
	seen := map[string]bool{}
	words := wordsOf(text)
	for _, p := range lexicon.Phrases(words) {
		if !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	for _, w := range words {
		if a := asks[w]; a != "" && !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	return out[:min(len(out), maxTerms)]
}

// tokensOf returns the hashes of a text's words and pairs of words.
func tokensOf(text string) []uint64 {
	words := wordsOf(text)
	words = words[:min(len(words), maxTokens)]
	out := make([]uint64, 0, 2*len(words))
	before := ""
	for _, w := range words {
		s := lexicon.Stem(w)
		out = append(out, hash(s))
		if before != "" {
			out = append(out, hash(before+" "+s))
		}
		before = s
	}
	return out
}

// gram is a letter n-gram and how often a text has it, made short.
type gram struct {
	hash   uint64
	weight float64
}

// gramsOf returns the n-grams of 3 and 4 letters within a text's words, in order of
// their first appearance.
func gramsOf(text string) []gram {
	if r := []rune(text); len(r) > maxGrams {
		text = string(r[:maxGrams])
	}
	at := map[uint64]int{}
	var out []gram
	for _, w := range wordsOf(text) {
		if common[w] {
			continue
		}
		r := []rune("<" + w + ">")
		for n := 3; n <= 4; n++ {
			for i := 0; i+n <= len(r); i++ {
				h := hash(string(r[i : i+n]))
				k, known := at[h]
				if !known {
					k = len(out)
					at[h] = k
					out = append(out, gram{hash: h})
				}
				out[k].weight++
			}
		}
	}
	for k := range out {
		out[k].weight = math.Sqrt(out[k].weight)
	}
	return out
}

// common are words whose letters say nothing.
var common = func() map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields(`a an and are as at be been by can could did do does for from had has have how i i'm i'd
		i've if in is it its me my of on or our please that the there this to was we what when where which who why will with would you your`) {
		out[w] = true
	}
	return out
}()

func hash(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	return h.Sum64()
}
