package pii

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// maxNesting is how deep strings that are JSON documents are opened. Each level
// doubles the backslashes of the one inside, so that real ones are few.
const maxNesting = 8

// wholeNumber is how many digits a number has at least that may be an account's or
// a card's; shorter ones, and those with a point, are quantities.
const wholeNumber = 9

// rewriter rewrites the strings of a JSON document, and the long whole numbers in
// its objects and arrays, which become strings; it leaves every other byte.
type rewriter struct {
	rewrite func(text, label string) string
	depth   int
}

// document rewrites a valid document. The label is for strings outside of
// objects.
func (w *rewriter) document(raw, label string) (string, bool) {
	var out []byte
	done := 0        // raw[:done] is in out
	current := label // the key whose value comes next
	var labels []string
	for i := 0; i < len(raw); {
		switch raw[i] {
		case '{', '[':
			labels = append(labels, current)
			i++
		case '}', ']':
			current = labels[len(labels)-1]
			labels = labels[:len(labels)-1]
			i++
		case ',':
			current = labels[len(labels)-1]
			i++
		case '"':
			end := stringEnd(raw, i)
			text := decodeString(raw[i:end])
			under := current
			if isKey(raw, end) {
				current, under = text, ""
			}
			if got, changed := w.text(text, under); changed {
				out = appendString(append(out, raw[done:i]...), got)
				done = end
			}
			i = end
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			end := numberEnd(raw, i)
			if len(labels) > 0 && isWhole(raw[i:end]) {
				if got := w.rewrite(raw[i:end], current); got != raw[i:end] {
					out = appendString(append(out, raw[done:i]...), got)
					done = end
				}
			}
			i = end
		default:
			i++
		}
	}
	if done == 0 {
		return raw, false
	}
	return string(append(out, raw[done:]...)), true
}

// text rewrites a string, or the document that it holds.
func (w *rewriter) text(text, label string) (string, bool) {
	if w.depth < maxNesting && holdsDocument(text) {
		w.depth++
		defer func() { w.depth-- }()
		return w.document(text, label)
	}
	got := w.rewrite(text, label)
	return got, got != text
}

// holdsDocument reports whether a string is an object or an array in JSON.
func holdsDocument(text string) bool {
	trimmed := strings.TrimLeft(text, " \t\r\n")
	return trimmed != "" && (trimmed[0] == '{' || trimmed[0] == '[') && json.Valid([]byte(text))
}

// numberEnd is the index after the number that begins at i of a valid document.
func numberEnd(raw string, i int) int {
	for i < len(raw) && (digit(raw[i]) || strings.IndexByte("+-.eE", raw[i]) >= 0) {
		i++
	}
	return i
}

// isWhole reports whether a number is a long one without point and exponent.
func isWhole(number string) bool {
	return len(number) >= wholeNumber && strings.IndexFunc(number, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

// stringEnd is the index after the string that begins at i of a valid document.
func stringEnd(raw string, i int) int {
	for i++; raw[i] != '"'; i++ {
		if raw[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// isKey reports whether a string that ended before i is an object's key.
func isKey(raw string, i int) bool {
	for i < len(raw) && (raw[i] == ' ' || raw[i] == '\t' || raw[i] == '\r' || raw[i] == '\n') {
		i++
	}
	return i < len(raw) && raw[i] == ':'
}

// decodeString is the value of a string of a valid document, quotes included.
func decodeString(quoted string) string {
	inner := quoted[1 : len(quoted)-1]
	if strings.IndexByte(inner, '\\') < 0 {
		return inner
	}
	var text string
	if err := json.Unmarshal([]byte(quoted), &text); err != nil {
		return inner // not of a valid document
	}
	return text
}

// appendString appends text as a JSON string with its quotes.
func appendString(out []byte, text string) []byte {
	return append(appendEscaped(append(out, '"'), text), '"')
}

// appendEscaped appends text as it stands inside a JSON string. Bytes that aren't
// UTF-8 become U+FFFD.
func appendEscaped(out []byte, text string) []byte {
	const hex = "0123456789abcdef"
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c == '\n':
			out = append(out, '\\', 'n')
		case c == '\r':
			out = append(out, '\\', 'r')
		case c == '\t':
			out = append(out, '\\', 't')
		case c < 0x20:
			out = append(out, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			out = append(out, c)
		default:
			r, width := utf8.DecodeRuneInString(text[i:])
			out = utf8.AppendRune(out, r)
			i += width
			continue
		}
		i++
	}
	return out
}
