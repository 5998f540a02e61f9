package pii

import (
	"cmp"
	"slices"
	"unicode"
	"unicode/utf8"
)

// maxPhraseBytes is more than any phrase can take of a text.
const maxPhraseBytes = MaxPhraseLen * utf8.UTFMax

// phrases are words and phrases to be found as whole words, without regard to
// case. The nil value finds nothing.
type phrases struct {
	folded [][]rune  // sorted
	first  [256]bool // the bytes with which one can begin
}

func newPhrases(list []string) *phrases {
	p := new(phrases)
	for _, text := range list {
		var folded []rune
		for _, r := range text {
			folded = append(folded, fold(r))
		}
		if len(folded) == 0 {
			continue
		}
		p.folded = append(p.folded, folded)
		r := folded[0]
		for {
			p.first[string(r)[0]] = true
			if r = unicode.SimpleFold(r); r == folded[0] {
				break
			}
		}
	}
	if p.folded == nil {
		return nil
	}
	slices.SortFunc(p.folded, slices.Compare)
	return p
}

// fold is one character for all that differ in case alone.
func fold(r rune) rune {
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	return least
}

// match is the end of the longest phrase that begins at i as a whole word, or 0.
func (p *phrases) match(s *scan, i int) (end int) {
	if p == nil || !p.first[s.text[i]] || s.inWord(i) {
		return 0
	}
	// The phrases that begin like the text so far, narrowed at each character.
	left := p.folded
	for depth, j := 0, i; j < len(s.text); depth++ {
		r, width := utf8.DecodeRuneInString(s.text[j:])
		if r == utf8.RuneError && width == 1 {
			break
		}
		s.steps++
		j += width
		want := fold(r)
		byRune := func(phrase []rune, r rune) int {
			if depth >= len(phrase) {
				return -1
			}
			return cmp.Compare(phrase[depth], r)
		}
		low, _ := slices.BinarySearchFunc(left, want, byRune)
		high, _ := slices.BinarySearchFunc(left, want+1, byRune)
		if left = left[low:high]; len(left) == 0 {
			break
		}
		if len(left[0]) == depth+1 && !s.inWord(j) {
			end = j
		}
	}
	return end
}

// inWord reports whether i lies between two characters of one word.
func (s *scan) inWord(i int) bool {
	before, _ := utf8.DecodeLastRuneInString(s.text[:i])
	after, _ := utf8.DecodeRuneInString(s.text[i:])
	return wordRune(before) && wordRune(after)
}

func wordRune(r rune) bool {
	return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)
}
