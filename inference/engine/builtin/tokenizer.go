package builtin

import (
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

//go:embed data/vocab.tsv
var vocabData string

const (
	reservedIDs  = 6     // control symbols: never matched in text
	unknownID    = 0     // one for each run of runes that no piece covers
	unknownScore = -20.0 // far below every piece, so pieces always win
	maxWordRunes = 1024  // a longer word is cut into words of this length
	wordStart    = "▁"   // U+2581 stands for the space before a word
)

// tokenizer is a unigram (SentencePiece) model: of all ways to write a word as a
// sequence of pieces it takes the one with the greatest sum of scores. It is
// immutable.
//
// Nine pieces with a colon have lost their score in the published vocabulary
// (null, 0 or +30). Ours has their neighbours' mean instead, which reproduces
// the segmentation of the reference tokenizer, TensorFlow.js's, in the texts of
// testdata/reference.json. Text without a known piece is treated unlike there:
// the reference forgets the score so far at an unknown rune, this one charges
// unknownScore and goes on.
type tokenizer struct {
	pieces   map[string]piece
	maxRunes int // the longest piece
}

type piece struct {
	id    int32
	score float64
}

func newTokenizer(vocab string) (*tokenizer, error) {
	t := &tokenizer{pieces: make(map[string]piece, 8000)}
	id := int32(0)
	for line := range strings.Lines(vocab) {
		text, num, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		score, err := strconv.ParseFloat(num, 64)
		if !ok || err != nil || text == "" {
			return nil, fmt.Errorf("read vocabulary: bad line for id %d", id)
		}
		if id >= reservedIDs {
			t.pieces[text] = piece{id, score}
			t.maxRunes = max(t.maxRunes, utf8.RuneCountInString(text))
		}
		id++
	}
	if _, ok := t.pieces[wordStart]; !ok {
		return nil, errors.New("read vocabulary: no piece for the start of a word")
	}
	return t, nil
}

// lattice is the working space of one segmentation, kept between words.
type lattice struct {
	starts []int // byte offset of each rune, and of the end
	best   []float64
	from   []int // the rune where the best last piece starts
	last   []int32
}

// ids returns at least one id and stops soon after limit of them: the result may
// be longer by a word's ids, and is complete when it has fewer than limit.
func (t *tokenizer) ids(text string, limit int) []int32 {
	var (
		l   lattice
		ids []int32
	)
	t.words(text, func(word string) bool {
		ids = append(ids, t.segment(&l, word)...)
		return len(ids) < limit
	})
	return ids
}

// count returns how many ids a text has.
func (t *tokenizer) count(text string) int {
	var (
		l lattice
		n int
	)
	t.words(text, func(word string) bool {
		n += len(t.segment(&l, word))
		return true
	})
	return n
}

// words calls yield with each word of the normalised text, marked as such, until
// it returns false. An empty text is one empty word.
func (t *tokenizer) words(text string, yield func(string) bool) {
	for word := range strings.SplitSeq(norm.NFKC.String(text), " ") {
		word = wordStart + word
		for {
			head := prefix(word, maxWordRunes)
			if !yield(head) {
				return
			}
			if word = word[len(head):]; word == "" {
				break
			}
		}
	}
}

// prefix returns the first n runes of s, or all.
func prefix(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// segment returns the ids of one word, valid until l is used again.
func (t *tokenizer) segment(l *lattice, word string) []int32 {
	l.starts = l.starts[:0]
	for i := range word {
		l.starts = append(l.starts, i)
	}
	n := len(l.starts)
	l.starts = append(l.starts, len(word))
	l.best, l.from, l.last = grow(l.best, n+1), grow(l.from, n+1), grow(l.last, n+1)
	for i := range l.from {
		l.from[i] = -1
	}
	l.best[0] = 0
	reach := func(from, to int, id int32, score float64) {
		if score += l.best[from]; l.from[to] < 0 || score > l.best[to] {
			l.best[to], l.from[to], l.last[to] = score, from, id
		}
	}
	for i := range n {
		single := false
		for j := i + 1; j <= min(n, i+t.maxRunes); j++ {
			if p, ok := t.pieces[word[l.starts[i]:l.starts[j]]]; ok {
				single = single || j == i+1
				reach(i, j, p.id, p.score)
			}
		}
		if !single {
			reach(i, i+1, unknownID, unknownScore)
		}
	}
	// The ids come out last first; they fill last from its end, which the walk has left behind.
	at := n + 1
	for i := n; i > 0; i = l.from[i] {
		id := l.last[i]
		if id == unknownID && at <= n && l.last[at] == unknownID {
			continue
		}
		at--
		l.last[at] = id
	}
	return l.last[at : n+1]
}

func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, 2*n)
	}
	return s[:n]
}
