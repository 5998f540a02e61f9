package inference

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// storable encodes v as JSON that can be queried once it is stored, nil for nil.
// Postgres keeps any JSON and refuses, when a text or a number is taken out of it,
// what its own types can't hold: the NUL character, halves of surrogate pairs, and
// numbers beyond numeric's range. The first two become U+FFFD, such a number a
// string.
func storable(v any) json.RawMessage {
	if v == nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); {
		var n int
		switch c := b[i]; {
		case c == '"':
			out, n = appendString(out, b[i:])
		case c == '-' || c >= '0' && c <= '9':
			out, n = appendNumber(out, b[i:])
		default:
			out, n = append(out, c), 1
		}
		i += n
	}
	return out
}

// appendString copies the string that b begins with and returns its length in b.
func appendString(out, b []byte) ([]byte, int) {
	out = append(out, '"')
	i := 1
	for i < len(b) && b[i] != '"' {
		switch {
		case b[i] == '\\' && i+1 < len(b) && b[i+1] == 'u':
			n := escape(b[i:])
			if n == 0 {
				out, n = append(out, `\ufffd`...), 6
			} else {
				out = append(out, b[i:i+n]...)
			}
			i += n
		case b[i] == '\\' && i+1 < len(b):
			out = append(out, b[i], b[i+1])
			i += 2
		case b[i] < utf8.RuneSelf:
			out = append(out, b[i])
			i++
		default:
			r, n := utf8.DecodeRune(b[i:])
			out = utf8.AppendRune(out, r)
			i += n
		}
	}
	return append(out, '"'), min(i+1, len(b))
}

// escape returns the length of the \u escape, or the pair of them, that b begins
// with, 0 when it stands for no character that jsonb takes.
func escape(b []byte) int {
	switch u := unit(b); {
	case u == 0:
		return 0
	case u < 0xD800 || u > 0xDFFF:
		return 6
	case u < 0xDC00 && len(b) >= 12 && bytes.HasPrefix(b[6:], []byte(`\u`)):
		if low := unit(b[6:]); low >= 0xDC00 && low <= 0xDFFF {
			return 12
		}
	}
	return 0
}

// unit decodes one \uXXXX, 0 when it isn't one.
func unit(b []byte) uint64 {
	if len(b) < 6 {
		return 0
	}
	u, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	if err != nil {
		return 0
	}
	return u
}

// appendNumber copies the number that b begins with and returns its length in b.
func appendNumber(out, b []byte) ([]byte, int) {
	n := bytes.IndexFunc(b, func(r rune) bool {
		return (r < '0' || r > '9') && r != '-' && r != '+' && r != '.' && r != 'e' && r != 'E'
	})
	if n < 0 {
		n = len(b)
	}
	const longest = 300 // digits, and powers of ten; numeric takes far more
	number := b[:n]
	fits := n <= longest
	if _, exp, ok := bytes.Cut(bytes.ToLower(number), []byte("e")); ok {
		e, err := strconv.Atoi(string(exp))
		fits = fits && err == nil && -longest <= e && e <= longest
	}
	if fits {
		return append(out, number...), n
	}
	return append(append(append(out, '"'), number...), '"'), n
}
