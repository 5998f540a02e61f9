package lint

import (
	"strings"
	"unicode"

	"freehold/migrations"
)

// source is a migration's text, cut as goose cuts it.
type source struct {
	noTx  bool
	head  []*allowance // for the whole file
	parts []*chunk     // of Up, then of Down
	loose []*allowance // with no statement below them
	wrong []mistake
}

// chunk is what goose sends to the server at once: one statement, or several when they
// end on one line or stand between StatementBegin and StatementEnd.
type chunk struct {
	text  string
	line  int // of the first character of text
	down  bool
	allow []*allowance
}

// lineAt is the line of the byte at offset.
func (c *chunk) lineAt(offset int) int {
	return c.line + strings.Count(c.text[:min(max(offset, 0), len(c.text))], "\n")
}

// allowance is a comment that silences a rule.
type allowance struct {
	line         int
	rule, reason string
	used         bool
}

// mistake is what goose or the parser can't read.
type mistake struct {
	line int
	text string
}

// allowed reads a line such as "-- freehold:allow RULE reason".
func allowed(line string, number int) *allowance {
	comment, found := strings.CutPrefix(strings.TrimSpace(line), "--")
	if !found {
		return nil
	}
	rest, found := strings.CutPrefix(strings.TrimSpace(comment), "freehold:allow")
	if !found || rest != "" && !strings.ContainsAny(rest[:1], " \t") {
		return nil
	}
	rule, reason, _ := strings.Cut(strings.TrimSpace(rest), " ")
	return &allowance{line: number, rule: rule, reason: strings.TrimSpace(reason)}
}

// splitter walks over the lines of a file.
type splitter struct {
	src     source
	section string // "", "up" or "down"
	block   int    // the line of an open StatementBegin
	lines   []string
	first   int // the line of lines[0]
	pending []*allowance
}

// split cuts a migration as goose v3 does, whose parser isn't exported and tells no
// lines: a statement ends with a line that ends in a semicolon, whatever quotes are
// open, unless it stands between StatementBegin and StatementEnd.
func split(file migrations.File) source {
	s := splitter{}
	lines := strings.Split(file.Body, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	for i, line := range lines {
		s.next(strings.TrimSuffix(line, "\r"), i+1)
	}
	switch {
	case s.section == "":
		s.mistake(1, `there is no line "-- +goose Up"`)
	case s.block > 0:
		s.mistake(s.block, "StatementBegin has no StatementEnd")
	default:
		s.unfinished()
	}
	s.src.loose = append(s.src.loose, s.pending...)
	return s.src
}

func (s *splitter) mistake(line int, text string) {
	s.src.wrong = append(s.src.wrong, mistake{line, text})
}

func (s *splitter) next(line string, number int) {
	trimmed := strings.TrimSpace(line)
	comment := strings.HasPrefix(trimmed, "--")
	if comment && strings.Contains(line, "+goose") {
		s.annotation(line, number)
		return
	}
	if a := allowed(line, number); a != nil {
		if s.section == "" {
			s.src.head = append(s.src.head, a)
		} else {
			s.pending = append(s.pending, a)
		}
	}
	// Below a line of blanks goose takes comments for a part of the statement.
	if len(s.lines) == 0 && (comment || line == "") || s.section == "" && trimmed == "" {
		return
	}
	if s.section == "" {
		s.mistake(number, `a statement stands above the line "-- +goose Up"`)
		s.section = "up"
	}
	if len(s.lines) == 0 {
		s.first = number
	}
	s.lines = append(s.lines, line)
	if s.block == 0 && endsStatement(line) {
		s.flush()
	}
}

// annotation obeys a line of goose's. Blanks before it are an error of goose's.
func (s *splitter) annotation(line string, number int) {
	word := strings.ReplaceAll(line, "--", "")
	word = strings.TrimSpace(strings.Replace(word, "+goose", "", 1))
	if line[0] != '-' {
		s.mistake(number, "blanks stand before an annotation of goose")
		return
	}
	switch strings.ToUpper(word) {
	case "UP":
		if s.section != "" {
			s.mistake(number, "Up stands there twice, or below Down")
		}
		s.section = "up"
	case "DOWN":
		if s.section != "up" || s.block > 0 {
			s.mistake(number, "Down stands above Up, twice, or inside a statement")
		}
		s.unfinished()
		s.section = "down"
		s.src.loose = append(s.src.loose, s.pending...)
		s.pending = nil
	case "STATEMENTBEGIN":
		if s.section == "" || s.block > 0 {
			s.mistake(number, "StatementBegin stands above Up, or inside another")
		}
		s.block = number
	case "STATEMENTEND":
		if s.block == 0 {
			s.mistake(number, "StatementEnd has no StatementBegin")
		} else if text, _ := s.text(); text == "" {
			s.mistake(number, "StatementBegin and StatementEnd have nothing between them: goose would skip the next line")
		}
		s.block = 0
		s.flush()
	case "NO TRANSACTION":
		s.src.noTx = true
	case "ENVSUB ON", "ENVSUB OFF":
		s.mistake(number, "what is run would depend on the environment of each machine")
	default:
		s.mistake(number, "goose doesn't know this annotation")
	}
}

// text is what has been read of a statement, and its first line.
func (s *splitter) text() (text string, line int) {
	all := strings.Join(s.lines, "\n")
	text = strings.TrimLeftFunc(all, unicode.IsSpace)
	above := all[:len(all)-len(text)]
	return strings.TrimSpace(text), s.first + strings.Count(above, "\n")
}

// unfinished is a statement at the end of a section that no semicolon ended.
func (s *splitter) unfinished() {
	if text, line := s.text(); text != "" {
		s.mistake(line, "the statement isn't ended by a semicolon at the end of a line")
	}
	s.lines = nil
}

func (s *splitter) flush() {
	if text, line := s.text(); text != "" {
		s.src.parts = append(s.src.parts,
			&chunk{text: text, line: line, down: s.section == "down", allow: s.pending})
		s.pending = nil
	}
	s.lines = nil
}

// endsStatement tells whether the last word of a line, before a comment, ends in a
// semicolon.
func endsStatement(line string) bool {
	last := ""
	for word := range strings.FieldsSeq(line) {
		if strings.HasPrefix(word, "--") {
			break
		}
		last = word
	}
	return strings.HasSuffix(last, ";")
}
