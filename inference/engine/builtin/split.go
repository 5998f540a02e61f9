package builtin

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// sentence is a piece of context that can be quoted.
type sentence struct {
	text string // verbatim but for white space, list marks and heading marks
	// lead is the heading or the question that text stands under; it helps to find
	// text, and is never quoted.
	lead string
}

var (
	bullet    = regexp.MustCompile(`^(?:[-*•–·]|\(?(?:\d{1,3}|[a-zA-Z])[.)])\s+`)
	titleMark = regexp.MustCompile(`^#{1,6}\s+`)
	dialogue  = regexp.MustCompile(`^(?i:q|a|question|answer)\s*:\s*`)
	// instruction is what system prompts say to the model, and no fact.
	instruction = regexp.MustCompile(`(?i)^(?:you(?:'re|’re| are) .*\b(?:assistant|agent|bot|chatbot|expert|helper)\b` +
		`|you (?:help|assist|answer)\b|act as\b|your (?:task|job|role) is\b|use (?:only )?the (?:facts|context|information|following)\b` +
		`|(?:please )?(?:answer|reply|respond)\b|be (?:polite|brief|concise|helpful|friendly)\b|here (?:is|are) )`)
)

// split cuts a text into sentences. A line is its own unit, unless it goes on in
// the next: list items and table-like lines need no full stop. Questions and
// headings become the lead of what follows them.
func split(text string) []sentence {
	var (
		out  []sentence
		lead string
	)
	for _, line := range unwrap(text) {
		if line == "" {
			lead = keepTitle(lead)
			continue
		}
		if titleMark.MatchString(line) {
			lead = line
			continue
		}
		line = bullet.ReplaceAllString(line, "")
		for _, s := range cut(line) {
			s = strings.TrimSpace(dialogue.ReplaceAllString(s, ""))
			switch {
			case s == "" || instruction.MatchString(s):
			case strings.HasSuffix(s, ":"):
				lead = ""
				if len(strings.Fields(s)) <= maxTitleWords {
					lead = s
				}
			case isQuestion(s):
				lead = s
			default:
				out = append(out, sentence{text: s, lead: titleMark.ReplaceAllString(lead, "")})
				if isQuestion(lead) {
					lead = ""
				}
			}
		}
	}
	return out
}

// maxTitleWords parts "Opening hours:" from "Here is what you have to know:".
const maxTitleWords = 4

// keepTitle forgets a lead at an empty line, unless it is a marked heading.
func keepTitle(lead string) string {
	if titleMark.MatchString(lead) {
		return lead
	}
	return ""
}

func isQuestion(s string) bool {
	return strings.HasSuffix(strings.TrimRight(s, `"'”’)`), "?")
}

// unwrap returns the text's lines, trimmed, with hard-wrapped ones joined: a line
// that ends without punctuation goes on in one that starts in lower case.
func unwrap(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.Join(strings.Fields(line), " ")
		first, _ := utf8.DecodeRuneInString(line)
		if n := len(lines); n > 0 && lines[n-1] != "" && unicode.IsLower(first) && !bullet.MatchString(line) {
			last, _ := utf8.DecodeLastRuneInString(lines[n-1])
			if !titleMark.MatchString(lines[n-1]) && !strings.ContainsRune(".!?:;", last) {
				lines[n-1] += " " + line
				continue
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// never end a sentence; beforeDigit do unless a number follows.
var (
	never = strings.Fields("dr mr mrs ms prof st sen gen rev hon jr mt ft e.g i.e eg ie cf vs viz approx ca resp incl excl " +
		"dept est fig tel ext inc ltd co corp gmbh u.s u.k")
	beforeDigit = strings.Fields("no nr nos vol pp p art sec ch jan feb mar apr jun jul aug sep sept oct nov dec")
)

// cut splits one line after its full stops.
func cut(line string) []string {
	var out []string
	start := 0
	for i := 0; i < len(line); i++ {
		if !strings.ContainsRune(".!?", rune(line[i])) {
			continue
		}
		end := i + 1
		for end < len(line) {
			r, size := utf8.DecodeRuneInString(line[end:])
			if !strings.ContainsRune(`.!?…"'”’)]`, r) {
				break
			}
			end += size
		}
		if end < len(line) && line[end] == ' ' && ends(line[start:i], line[i], line[end+1:]) {
			out = append(out, line[start:end])
			start = end + 1
		}
		i = end - 1
	}
	return append(out, line[start:])
}

// ends says whether mark ends the sentence before it, rest being what follows the space.
func ends(before string, mark byte, rest string) bool {
	next, _ := utf8.DecodeRuneInString(strings.TrimLeft(rest, `"'“‘(*[`))
	if unicode.IsLower(next) {
		return false
	}
	if mark != '.' {
		return true
	}
	word := before[strings.LastIndexByte(before, ' ')+1:]
	word = strings.ToLower(strings.TrimLeft(word, `"'“‘([`))
	switch {
	case slices.Contains(never, word), len(word) == 1 && unicode.IsLetter(rune(word[0])) && word != "i":
		return false
	case slices.Contains(beforeDigit, word) && unicode.IsDigit(next):
		return false
	}
	return true
}

// Sentences returns the sentences of a context that freehold-answer-1 may quote:
// no questions, no headings, no instructions to the model.
func Sentences(text string) []string {
	var out []string
	for _, s := range split(text) {
		out = append(out, s.text)
	}
	return out
}
