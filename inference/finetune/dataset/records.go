package dataset

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Codes of warnings: what training can be done with, and its maker should know.
const (
	WarnDuplicates   = "duplicate_examples"
	WarnConflicts    = "conflicting_answers"
	WarnLeakage      = "training_and_validation_overlap"
	WarnSingles      = "answers_that_occur_once"
	WarnPersonalData = "personal_data_hidden"
)

// warnLines is how many lines a warning names.
const warnLines = 10

// Warning says how often something was found, and in which lines first.
type Warning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Count   int    `json:"count"`
	Lines   []int  `json:"lines"` // the first ten
}

func (s *Summary) warn(code string, count int, lines []int, format string, args ...any) {
	slices.Sort(lines)
	s.Warnings = append(s.Warnings, Warning{code, fmt.Sprintf(format, args...), count, lines[:min(len(lines), warnLines)]})
}

// amount counts in words.
func amount(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Prompts are hashes of a file's prompts, by which another one's are found again.
type Prompts struct{ sorted []uint64 }

// Len is how many different ones there are.
func (p *Prompts) Len() int { return len(p.sorted) }

func (p *Prompts) has(hash uint64) bool {
	_, ok := slices.BinarySearch(p.sorted, hash)
	return ok
}

// record is what is kept of an example: hashes of what precedes the last answer, and
// of that answer.
type record struct {
	prompt, answer uint64
	line           int64
}

type records struct {
	list []record
	buf  []byte
}

// add takes an example, of which personal data is hidden. System messages are left
// out: most files have the same one everywhere, and the same question under another
// one is the same question.
func (r *records) add(line int, ex *example) {
	last := ex.answer()
	buf := r.buf[:0]
	for _, m := range ex.messages[:last] {
		if m.role == "system" || m.role == "developer" {
			continue
		}
		buf = append(append(buf, 0), m.role...)
		buf = normalise(append(buf, 0), m.text)
		buf = calls(buf, m)
	}
	x := record{prompt: hash(buf), line: int64(line)}
	m := ex.messages[last]
	buf = calls(append(buf[:0], strings.TrimSpace(m.text)...), m)
	x.answer = hash(buf)
	r.list, r.buf = append(r.list, x), buf
}

func calls(buf []byte, m message) []byte {
	for _, x := range m.rest {
		if x.name == "tool_calls" || x.name == "function_call" || x.name == "refusal" {
			buf = append(append(buf, 0), x.value...)
		}
	}
	return buf
}

func hash(b []byte) uint64 {
	sum := sha256.Sum256(b)
	return binary.LittleEndian.Uint64(sum[:])
}

// normalise appends a text's words in lower case, one space between them: questions
// that differ in nothing else are the same. A text without words is itself.
func normalise(buf []byte, text string) []byte {
	if !ascii(text) {
		text = norm.NFKC.String(text)
	}
	from := len(buf)
	for i := 0; i < len(text); {
		r, width := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, width = utf8.DecodeRuneInString(text[i:])
		}
		i += width
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			buf = append(buf, byte(r))
		case r >= 'A' && r <= 'Z':
			buf = append(buf, byte(r)+'a'-'A')
		case r >= utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsMark(r)):
			buf = utf8.AppendRune(buf, unicode.ToLower(r))
		case len(buf) > from && buf[len(buf)-1] != ' ':
			buf = append(buf, ' ')
		}
	}
	if len(buf) > from && buf[len(buf)-1] == ' ' {
		buf = buf[:len(buf)-1]
	}
	if len(buf) == from {
		buf = append(buf, strings.TrimSpace(text)...)
	}
	return buf
}

func ascii(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// summarise says what examples have in common with each other and with the training
// file, if there is one.
func (r *records) summarise(s *Summary, training *Prompts) *Prompts {
	var again, conflict, leaked, single []int
	prompts := &Prompts{}
	s.Answers, s.Singles, single = r.answers()
	slices.SortFunc(r.list, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.prompt, b.prompt), cmp.Compare(a.answer, b.answer), cmp.Compare(a.line, b.line))
	})
	for i, x := range r.list {
		if training != nil && training.has(x.prompt) {
			leaked = append(leaked, int(x.line))
		}
		if i == 0 || r.list[i-1].prompt != x.prompt {
			prompts.sorted = append(prompts.sorted, x.prompt)
			continue
		}
		if r.list[i-1].answer == x.answer {
			again = append(again, int(x.line))
		} else {
			conflict = append(conflict, int(x.line))
		}
	}
	prompts.sorted = slices.Clip(prompts.sorted)
	if s.Duplicates = len(again); s.Duplicates > 0 {
		s.warn(WarnDuplicates, len(again), again, "%s with a prompt and an answer that another line has, too.", amount(len(again), "example"))
	}
	if len(conflict) > 0 {
		s.warn(WarnConflicts, len(conflict), conflict, "%s with a prompt that another line answers otherwise.", amount(len(conflict), "example"))
	}
	if len(leaked) > 0 {
		s.warn(WarnLeakage, len(leaked), leaked,
			"%s with a prompt that the training file has, too: what is measured on them tells nothing of new questions.", amount(len(leaked), "example"))
	}
	if s.Singles > 0 && s.Singles < s.Answers { // where all do, that is what the data is like
		s.warn(WarnSingles, s.Singles, single, "%s of %d that only one example has: two more ways to ask would help.", amount(s.Singles, "answer"), s.Answers)
	}
	return prompts
}

// answers counts the different answers, and those that occur once, with their lines.
func (r *records) answers() (all, once int, lines []int) {
	slices.SortFunc(r.list, func(a, b record) int { return cmp.Compare(a.answer, b.answer) })
	for i := 0; i < len(r.list); {
		j := i + 1
		for j < len(r.list) && r.list[j].answer == r.list[i].answer {
			j++
		}
		if all++; j == i+1 {
			once++
			lines = append(lines, int(r.list[i].line))
		}
		i = j
	}
	return all, once, lines
}
