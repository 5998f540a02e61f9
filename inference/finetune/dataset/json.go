package dataset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// maxDepth is how deep a line may nest, as the API's requests may.
const maxDepth = 100

// member is one of an object's. Its value is a part of the line.
type member struct {
	name  string
	value []byte
}

func (m member) null() bool { return m.value[0] == 'n' }

// checkJSON says what keeps a line from being one JSON document that all readers
// read alike; nil when there is nothing.
func checkJSON(n int, raw []byte) *LineError {
	switch {
	case !utf8.Valid(raw):
		return flaw(n, CodeInvalidUTF8, "The line is not valid UTF-8.")
	case bytes.IndexByte(raw, 0) >= 0:
		return flaw(n, CodeNUL, "The line has a NUL character.")
	case tooDeep(raw):
		return flaw(n, CodeTooDeep, "The line nests deeper than %d levels.", maxDepth)
	}
	if !json.Valid(raw) {
		var (
			into   json.RawMessage
			syntax *json.SyntaxError
			where  string
		)
		if errors.As(json.Unmarshal(raw, &into), &syntax) {
			where = fmt.Sprintf(" (at byte %d)", syntax.Offset)
		}
		return flaw(n, CodeInvalidJSON, "The line is not valid JSON%s. Each line must be one JSON object.", where)
	}
	switch _, code := inspect(raw, skipSpace(raw, 0)); code {
	case CodeDuplicateKey:
		return flaw(n, code, "An object has two members of the same name.")
	case CodeNUL:
		return flaw(n, code, `A text has a NUL character, \u0000.`)
	case CodeInvalidUTF8:
		return flaw(n, code, "A text has half of a surrogate pair, which is no character.")
	}
	return nil
}

func tooDeep(raw []byte) bool {
	depth := 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			for i++; i < len(raw) && raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			if depth++; depth > maxDepth {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

// What follows reads valid documents only.

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func skipSpace(raw []byte, i int) int {
	for i < len(raw) && isSpace(raw[i]) {
		i++
	}
	return i
}

// stringEnd is the index after the string that begins at i.
func stringEnd(raw []byte, i int) int {
	for i++; raw[i] != '"'; i++ {
		if raw[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// valueEnd is the index after the value that begins at i.
func valueEnd(raw []byte, i int) int {
	switch raw[i] {
	case '"':
		return stringEnd(raw, i)
	case '{', '[':
		depth := 0
		for ; ; i++ {
			switch raw[i] {
			case '"':
				i = stringEnd(raw, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	for i < len(raw) && raw[i] != ',' && raw[i] != '}' && raw[i] != ']' && !isSpace(raw[i]) {
		i++
	}
	return i
}

// members are those of the object that raw is.
func members(raw []byte) (list []member) {
	walk(raw, func(name, value []byte) { list = append(list, member{nameOf(name), value}) })
	return list
}

// elements are those of the array that raw is.
func elements(raw []byte) (list [][]byte) {
	walk(raw, func(_, value []byte) { list = append(list, value) })
	return list
}

// walk calls visit with each member of an object, its name in quotes, or with each
// element of an array.
func walk(raw []byte, visit func(name, value []byte)) {
	object := raw[0] == '{'
	for i := skipSpace(raw, 1); raw[i] != '}' && raw[i] != ']'; {
		var name []byte
		if object {
			end := stringEnd(raw, i)
			name = raw[i:end]
			i = skipSpace(raw, skipSpace(raw, end)+1) // beyond the colon
		}
		end := valueEnd(raw, i)
		visit(name, raw[i:end])
		if i = skipSpace(raw, end); raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
	}
}

// textOf is the string that raw is.
func textOf(raw []byte) (string, bool) {
	if raw[0] != '"' {
		return "", false
	}
	inner := raw[1 : len(raw)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner), true
	}
	var text string
	return text, json.Unmarshal(raw, &text) == nil
}

// names are those that most members have: looking one up copies nothing.
var names = func() map[string]string {
	all := map[string]string{}
	for _, name := range []string{
		"messages", "tools", "functions", "parallel_tool_calls", "role", "content", "name", "weight", "tool_calls",
		"tool_call_id", "function_call", "refusal", "type", "text", "id", "function", "arguments",
	} {
		all[name] = name
	}
	return all
}()

func nameOf(quoted []byte) string {
	if name, ok := names[string(quoted[1:len(quoted)-1])]; ok {
		return name
	}
	name, _ := textOf(quoted)
	return name
}

// fewNames is how many names are compared with each other; more go into a map.
const fewNames = 16

// inspect looks for what a valid document must not have: objects with two members
// of one name, of which readers take the first, the last or both, and texts that
// databases and encoders don't take. It returns the index after the value at i, and
// the code of the first find.
func inspect(raw []byte, i int) (end int, code string) {
	switch raw[i] {
	case '"':
		end = stringEnd(raw, i)
		return end, badText(raw[i:end])
	case '{', '[':
	default:
		return valueEnd(raw, i), ""
	}
	var (
		few  [fewNames]string
		n    int
		many map[string]bool
	)
	object := raw[i] == '{'
	for i = skipSpace(raw, i+1); raw[i] != '}' && raw[i] != ']'; {
		if object {
			at := i
			i = stringEnd(raw, i)
			if code = badText(raw[at:i]); code != "" {
				return i, code
			}
			name := nameOf(raw[at:i])
			if n < fewNames {
				for _, known := range few[:n] {
					if known == name {
						return i, CodeDuplicateKey
					}
				}
				few[n] = name
				n++
			} else {
				if many == nil {
					many = map[string]bool{}
					for _, known := range few {
						many[known] = true
					}
				}
				if many[name] {
					return i, CodeDuplicateKey
				}
				many[name] = true
			}
			i = skipSpace(raw, skipSpace(raw, i)+1)
		}
		if i, code = inspect(raw, i); code != "" {
			return i, code
		}
		i = skipSpace(raw, i)
		if raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
	}
	return i + 1, ""
}

// badText looks at the escapes of a string for NUL and for half surrogate pairs.
func badText(quoted []byte) string {
	for i := bytes.IndexByte(quoted, '\\'); i >= 0 && i < len(quoted); i++ {
		if quoted[i] != '\\' {
			continue
		}
		i++
		if quoted[i] != 'u' {
			continue
		}
		switch r := hex4(quoted[i+1:]); {
		case r == 0:
			return CodeNUL
		case r >= 0xdc00 && r <= 0xdfff:
			return CodeInvalidUTF8
		case r >= 0xd800 && r <= 0xdbff:
			rest := quoted[i+5:]
			if len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' {
				return CodeInvalidUTF8
			}
			if low := hex4(rest[2:]); low < 0xdc00 || low > 0xdfff {
				return CodeInvalidUTF8
			}
			i += 6
		}
		i += 4
	}
	return ""
}

func hex4(b []byte) (r rune) {
	for _, c := range b[:4] {
		r <<= 4
		switch {
		case c <= '9':
			r |= rune(c - '0')
		default:
			r |= rune(c|0x20-'a') + 10
		}
	}
	return r
}
