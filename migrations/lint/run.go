package lint

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"freehold/migrations"
)

// run judges the files of a stream, one after another.
type run struct {
	stream   string
	world    *world
	findings []Finding

	// Of the file at hand.
	file    migrations.File
	src     source
	dropped []string // indexes and constraints that "drop if exists" made room for
	locks   bool     // it changes a table that is in use
	reads   []held   // what goes through rows of such tables

	at *statement
}

// statement is the one at hand.
type statement struct {
	parsed
	chunk *chunk
	alone bool // in its chunk
	begin int  // of its first word, in the chunk's text
}

// held is something to be reported when the file turns out to hold locks.
type held struct {
	at      *statement
	subject string
}

// check adds what there is to say about one file.
func (r *run) check(file migrations.File) error {
	r.file, r.src = file, split(file)
	r.dropped, r.locks, r.reads = nil, false, nil
	r.world.begin()
	before := len(r.findings)

	for _, m := range r.src.wrong {
		r.add(parseError, m.line, "", m.text)
	}
	var ups []*statement
	for _, c := range r.src.parts {
		statements, err := r.parse(c)
		if err != nil {
			return err
		}
		for _, s := range statements {
			r.at = s
			if c.down {
				r.judgeDown()
				continue
			}
			ups = append(ups, s)
			r.judge()
		}
	}
	r.wholeFile(ups)
	r.at = nil
	r.allowances()

	added := r.findings[before:]
	slices.SortStableFunc(added, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), strings.Compare(a.Rule, b.Rule), strings.Compare(a.Why, b.Why))
	})
	r.findings = append(r.findings[:before], slices.Compact(added)...)
	return nil
}

// parse reads a chunk's statements. What can't be read is a finding.
func (r *run) parse(c *chunk) ([]*statement, error) {
	all, err := parse(c.text)
	var wrong *syntaxError
	if errors.As(err, &wrong) {
		r.at = &statement{chunk: c}
		r.add(parseError, c.lineAt(wrong.offset), "", wrong.text)
		r.at = nil
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	statements := make([]*statement, 0, len(all))
	for _, p := range all {
		statements = append(statements, &statement{parsed: p, chunk: c, alone: len(all) == 1, begin: firstWord(c.text, p)})
	}
	return statements, nil
}

// firstWord is where a statement begins behind the comments above it.
func firstWord(text string, p parsed) int {
	at := p.start
	for at < p.end {
		rest := text[at:p.end]
		switch {
		case strings.HasPrefix(rest, "--"):
			if i := strings.IndexByte(rest, '\n'); i >= 0 {
				at += i + 1
				continue
			}
			return at
		case strings.HasPrefix(rest, "/*"):
			if i := strings.Index(rest, "*/"); i >= 0 {
				at += i + 2
				continue
			}
			return at
		case strings.ContainsRune(" \t\r\n\v\f;", rune(rest[0])):
			at++
			continue
		}
		return at
	}
	return at
}

// find reports the statement at hand. The subject says what in it is meant.
func (r *run) find(rule, subject string) { r.findPart(r.at.begin, r.at.end, rule, subject) }

// findPart reports a part of it, by its place in the chunk's text.
func (r *run) findPart(from, to int, rule, subject string) {
	r.add(rule, r.at.chunk.lineAt(from), r.at.short(from, to), subject)
}

// add makes a finding unless it is allowed.
func (r *run) add(rule string, line int, short, subject string) {
	known, found := rules[rule]
	if !found {
		panic("lint: no rule " + rule) // a mistake in this package, which its tests meet
	}
	if known.Previous && r.file.Contracts > 0 || r.allows(rule) {
		return
	}
	if _, found := shipped[r.stream][r.file.Name][rule]; found {
		return
	}
	why := known.Why
	if subject != "" {
		why = subject + ": " + why
	}
	r.findings = append(r.findings, Finding{
		Rule: rule, Severity: known.Severity, File: r.file.Name, Line: line,
		Statement: short, Why: why, Safe: known.Safe,
	})
}

// allows tells whether a comment silences the rule here.
func (r *run) allows(rule string) bool {
	found := false
	lists := [][]*allowance{r.src.head}
	if r.at != nil {
		lists = append(lists, r.at.chunk.allow)
	}
	for _, list := range lists {
		for _, a := range list {
			if a.rule == rule && a.reason != "" {
				a.used = true
				found = true
			}
		}
	}
	return found
}

// allowances judges the comments themselves, when all else is known.
func (r *run) allowances() {
	all := slices.Concat(r.src.head, r.src.loose)
	for _, c := range r.src.parts {
		all = append(all, c.allow...)
	}
	for _, a := range all {
		_, known := rules[a.rule]
		switch {
		case a.rule == "":
			r.add(allowWithoutReason, a.line, "", "it names no rule")
		case !known:
			r.add(allowWithoutReason, a.line, "", "there is no rule "+a.rule)
		case a.reason == "":
			r.add(allowWithoutReason, a.line, "", a.rule)
		case !a.used:
			r.add(allowUnused, a.line, "", a.rule)
		}
	}
}

// wholeFile is what can be said at the end of a file's Up section.
func (r *run) wholeFile(ups []*statement) {
	if r.locks && !r.src.noTx {
		for _, read := range r.reads {
			r.at = read.at
			r.find(backfillWithDDL, read.subject)
		}
	}
	if r.src.noTx {
		r.repeats(ups)
	}
	r.at = nil
	if !r.file.HasDown {
		r.add(missingDown, 1, "", "")
	}
}

// widest is how much of a statement a finding shows, in bytes.
const widest = 90

// short is the beginning of a part of the statement, on one line, without the texts in
// quotes: they may be secret, and never say what is wrong.
func (s *statement) short(from, to int) string {
	end := min(to, from+20*widest)
	for end > from && end < to && s.chunk.text[end]&0xC0 == 0x80 {
		end-- // not in the middle of a character
	}
	text := s.chunk.text[min(from, end):end]
	tokens, err := scan(text)
	if err != nil { // cut off inside a quote
		text = text[:max(strings.IndexAny(text, `'"$`), 0)]
		if tokens, err = scan(text); err != nil {
			return ""
		}
	}
	var b strings.Builder
	last := 0
	for _, t := range tokens {
		if b.Len() > 0 && t.start > last {
			b.WriteByte(' ')
		}
		last = t.end
		if t.literal() {
			b.WriteString("'…'")
		} else {
			b.WriteString(t.text)
		}
		if b.Len() > widest {
			return b.String() + " …"
		}
	}
	return b.String()
}
