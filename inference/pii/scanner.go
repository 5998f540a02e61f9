package pii

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"
)

// Match is one find: the bytes [Start, End) of the text.
type Match struct {
	Start, End int
	Entity     Entity
}

// Options are what a tenant adds, words or phrases, compared without regard to
// case. What lies inside an allowed phrase is never personal data; what is denied
// always is, as whole words.
type Options struct{ Allow, Deny []string }

// Bounds of each list of Options.
const (
	MaxPhrases   = 200
	MaxPhraseLen = 200 // characters
)

// Validate returns all that is wrong with the options, by field.
func Validate(o Options) error {
	return errors.Join(validate("allow", o.Allow), validate("deny", o.Deny))
}

func validate(field string, phrases []string) error {
	if len(phrases) > MaxPhrases {
		return fmt.Errorf("%s: at most %d entries", field, MaxPhrases)
	}
	for i, p := range phrases {
		switch n := utf8.RuneCountInString(p); {
		case !utf8.ValidString(p):
			return fmt.Errorf("%s: entry %d is not valid UTF-8", field, i+1)
		case n < 1 || n > MaxPhraseLen:
			return fmt.Errorf("%s: entry %d must have 1 to %d characters", field, i+1, MaxPhraseLen)
		case strings.TrimSpace(p) != p:
			return fmt.Errorf("%s: entry %d begins or ends with white space", field, i+1)
		}
	}
	return nil
}

// Scanner finds personal data and secrets. It is safe for concurrent use.
type Scanner struct{ allow, deny *phrases }

// New returns a scanner. The options should have passed Validate; of others, empty
// phrases find nothing. Without options New costs nothing.
func New(o Options) *Scanner {
	return &Scanner{allow: newPhrases(o.Allow), deny: newPhrases(o.Deny)}
}

// Find returns the matches in order; they don't overlap, and they begin and end
// between characters.
func (s *Scanner) Find(text string) []Match {
	sc := s.scan(text, "")
	defer sc.free()
	return append([]Match(nil), sc.out...)
}

// scan is one pass over one text.
type scan struct {
	text  string
	label string // what names the text: the JSON key whose value it is
	out   []Match

	at, end int   // the candidate: a word, or one symbol
	kind    uint8 // what bytes a word has

	near   nearby // cache of context's answer for nearOf
	nearOf int

	steps int // work done, which the tests hold against the length of the text
}

var scans = sync.Pool{New: func() any { return new(scan) }}

func (s *scan) free() {
	s.text, s.label = "", ""
	if cap(s.out) <= 1024 {
		scans.Put(s)
	}
}

// scan finds all matches. The caller frees what it returns.
func (s *Scanner) scan(text, label string) *scan {
	sc := scans.Get().(*scan)
	sc.text, sc.label, sc.out, sc.nearOf, sc.steps = text, label, sc.out[:0], -1, 0
	sc.run(s.allow, s.deny)
	return sc
}

// run walks over the text.
func (s *scan) run(allow, deny *phrases) {
	if s.label != "" && s.wholeSecret(allow) {
		return
	}
	var allowed []span
	text := s.text
	for i := 0; i < len(text); {
		if allow != nil {
			if end := allow.match(s, i); end > 0 {
				allowed = append(allowed, span{i, end})
			}
		}
		if deny != nil {
			if end := deny.match(s, i); end > 0 && s.add(Match{i, end, Custom}, allowed) {
				i = end
				continue
			}
		}
		c := text[i]
		kind := kinds[c]
		if kind == 0 {
			class := symbols[c]
			if class == 0 {
				i++
				continue
			}
			s.at, s.end, s.kind = i, i+1, 0
			i = s.ask(class, i+1, allowed)
			continue
		}
		if s.escaped(i) && alnum(s.byteAt(i+1)) {
			i++ // the n of \n is of no word
			continue
		}
		j := i + 1
		for j < len(text) && kinds[text[j]] != 0 {
			kind |= kinds[text[j]]
			j++
		}
		class := wordClass(text[i:j], kind, s.byteAt(j))
		if class == 0 {
			i = j
			continue
		}
		s.at, s.end, s.kind = i, j, kind
		i = s.ask(class, j, allowed)
	}
}

// wordClass has the candidate classes of a word, of which kind says what bytes it
// has, with the byte behind it. Most words have none.
func wordClass(word string, kind, next byte) (class uint16) {
	if digit(word[0]) {
		return number
	}
	dotted := next == '-' || next == '.'
	if kind&isDigit != 0 {
		class = mixed
	} else if dotted || len(word) >= 16 {
		class = joined
	}
	if kind&(isLetter|isUnder|isDigit) == 0 && (dotted || next == ':') {
		class |= hexed
	}
	if len(word) >= 3 && maybeLabel(word) {
		class |= label
	}
	return class
}

// ask asks the recognisers of a class; the scan goes on at what it returns, which
// is next where none finds anything.
func (s *scan) ask(class uint16, next int, allowed []span) int {
	for i := range recognisers {
		r := &recognisers[i]
		if r.class&class == 0 {
			continue
		}
		s.steps++
		start, end := r.find(s)
		if start < end && s.add(Match{start, end, r.entity}, allowed) {
			return max(next, end)
		}
	}
	return next
}

// add takes a match in, unless a phrase allows it or an earlier match has some of
// it. Earlier ones that it covers give way: john is denied, john@example.com is
// found.
func (s *scan) add(m Match, allowed []span) bool {
	for i := len(allowed) - 1; i >= 0 && allowed[i].start+maxPhraseBytes > m.Start; i-- {
		if allowed[i].start <= m.Start && m.End <= allowed[i].end {
			return true
		}
	}
	keep := len(s.out)
	for keep > 0 && s.out[keep-1].End > m.Start {
		keep--
		if s.out[keep].Start < m.Start || s.out[keep].End > m.End {
			return false
		}
	}
	s.out = append(s.out[:keep], m)
	return true
}
