package pii

import "encoding/json"

// Tag replaces each match by its entity's fixed tag, [EMAIL]. Where nothing
// matches it returns text itself.
func (s *Scanner) Tag(text string) string { return s.replace(text, "", tagOf) }

// TagJSON is Tag on each string of a JSON document, values and object keys, also
// inside strings that are JSON documents themselves; they stay valid. A string
// under the key "phone" is looked at as one after the word. A whole number of nine
// digits or more, in an object or an array, counts as a string and becomes one where
// it matches. Of a text that isn't JSON it is Tag. Where nothing matches it returns raw itself.
func (s *Scanner) TagJSON(raw []byte) []byte {
	return rewriteJSON(raw, func(text, label string) string { return s.replace(text, label, tagOf) })
}

func tagOf(e Entity, _ string) string { return e.tag() }

// replace puts what with says in the place of each match.
func (s *Scanner) replace(text, label string, with func(e Entity, value string) string) string {
	sc := s.scan(text, label)
	defer sc.free()
	if len(sc.out) == 0 {
		return text
	}
	out := make([]byte, 0, len(text)+16*len(sc.out))
	end := 0
	for _, m := range sc.out {
		out = append(out, text[end:m.Start]...)
		out = append(out, with(m.Entity, text[m.Start:m.End])...)
		end = m.End
	}
	return string(append(out, text[end:]...))
}

// rewriteJSON applies rewrite to each string of a document, with the key whose
// value it is.
func rewriteJSON(raw []byte, rewrite func(text, label string) string) []byte {
	if !json.Valid(raw) {
		text := string(raw)
		if got := rewrite(text, ""); got != text {
			return []byte(got)
		}
		return raw
	}
	w := rewriter{rewrite: rewrite}
	if out, changed := w.document(string(raw), ""); changed {
		return []byte(out)
	}
	return raw
}
