package lexicon

import (
	_ "embed"
	"slices"
	"strings"
	"sync"
)

//go:embed kindred.txt
var kindredData string

// circlesOf maps a stem, or a phrase's, to the lines of kindred.txt that have it.
var circlesOf = sync.OnceValue(func() map[string][]int32 { return readKindred(kindredData) })

func readKindred(data string) map[string][]int32 {
	circles := map[string][]int32{}
	n := int32(0)
	for line := range strings.Lines(data) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		n++
		for _, word := range strings.Fields(line) {
			if s := phraseStem(strings.Split(word, "_")); !slices.Contains(circles[s], n) {
				circles[s] = append(circles[s], n)
			}
		}
	}
	return circles
}

// phraseStem is the stem of a word, or of a phrase's words.
func phraseStem(words []string) string {
	stems := make([]string, len(words))
	for i, w := range words {
		stems[i] = Stem(w)
	}
	return strings.Join(stems, "_")
}

// between are words that may stand within a phrase, as in "give it back".
var between = wordSet("it them that this my the a your our me you")

// Phrases returns the stems of the phrases of kindred.txt that stand in a text's
// lower-case words, in order: a verb and its particle, mostly.
func Phrases(words []string) []string {
	var out []string
	circles := circlesOf()
	for i := range words {
		for n := 2; n <= 3 && i+n <= len(words); n++ {
			s := phraseStem(words[i : i+n])
			if circles[s] == nil && n == 3 && between[words[i+1]] {
				s = phraseStem([]string{words[i], words[i+2]})
			}
			if circles[s] != nil && !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}

// Circles returns the numbers of the circles of kindred words that a stem is in,
// ascending. Words of one circle may mean the same, less surely than those of a
// group. The slice is shared: don't change it.
func Circles(stem string) []int32 { return circlesOf()[stem] }

// Known tells whether a stem is in one of the lexicon's lists.
func Known(stem string) bool { return circlesOf()[stem] != nil || groupOf[stem] != 0 }
