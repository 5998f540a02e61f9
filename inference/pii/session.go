package pii

import (
	"crypto/rand"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// nonceLen is the length of a session's nonce, in lower-case letters and digits:
// 46 bits. Nobody who writes a request can know it, so that no text of theirs holds
// a placeholder that is live; it can't be another one once the first placeholder
// is out, and needn't be.
const nonceLen = 9

// Session holds the placeholders of one request. It is not for concurrent use;
// the restorers made from it are, each by one goroutine, while nothing more is
// redacted or after it: they know the placeholders minted before they were made.
type Session struct {
	scanner *Scanner
	nonce   string
	known   map[found]string // placeholders by what they stand for
	minted  map[Entity]int
	count   map[Entity]int
	live    *table
	shared  bool // live is a restorer's too
}

type found struct {
	entity Entity
	value  string
}

// table has what placeholders stand for. It isn't changed once it is shared.
type table struct {
	values  map[string]string
	longest int
	sorted  []string // the placeholders; nil until a restorer needs it
}

// Session returns the placeholders of one request, none as yet.
func (s *Scanner) Session() *Session {
	return &Session{scanner: s, live: new(table)}
}

// Redact replaces each match by a placeholder, [EMAIL_1_k3f9…], the same one for
// the same value throughout the session; one-way entities by their tag, [KEY].
func (s *Session) Redact(text string) string { return s.scanner.replace(text, "", s.placeholder) }

// RedactJSON is TagJSON with placeholders.
func (s *Session) RedactJSON(raw []byte) []byte {
	return rewriteJSON(raw, func(text, label string) string { return s.scanner.replace(text, label, s.placeholder) })
}

// Found reports whether anything has been redacted.
func (s *Session) Found() bool { return len(s.count) > 0 }

// Count returns how many matches have been redacted, by entity.
func (s *Session) Count() map[Entity]int { return maps.Clone(s.count) }

func (s *Session) placeholder(e Entity, value string) string {
	if s.count == nil {
		s.count = map[Entity]int{}
	}
	s.count[e]++
	if e.OneWay() {
		return e.tag()
	}
	key := found{e, value}
	if p, ok := s.known[key]; ok {
		return p
	}
	if s.nonce == "" {
		s.nonce = newNonce()
		s.known, s.minted = map[found]string{}, map[Entity]int{}
	}
	if s.shared || s.live.values == nil {
		s.live = &table{values: maps.Clone(s.live.values), longest: s.live.longest}
		s.shared = false
		if s.live.values == nil {
			s.live.values = map[string]string{}
		}
	}
	s.minted[e]++
	p := "[" + string(e) + "_" + strconv.Itoa(s.minted[e]) + "_" + s.nonce + "]"
	// The text that the value is a part of may be large; the map keeps the value alone.
	value = strings.Clone(value)
	key.value = value
	s.known[key] = p
	s.live.values[p] = value
	s.live.longest = max(s.live.longest, len(p))
	s.live.sorted = nil
	return p
}

// newNonce is uniform over letters and digits.
func newNonce() string {
	const signs = "0123456789abcdefghijklmnopqrstuvwxyz"
	out := make([]byte, 0, nonceLen)
	for len(out) < nonceLen {
		var buf [2 * nonceLen]byte
		_, _ = rand.Read(buf[:]) // never fails
		for _, b := range buf {
			if int(b) < 256/len(signs)*len(signs) && len(out) < nonceLen {
				out = append(out, signs[int(b)%len(signs)])
			}
		}
	}
	return string(out)
}

// Restore puts the values back in the place of the placeholders that this session
// has minted, and of nothing else: a placeholder counts only exactly as it was
// minted.
func (s *Session) Restore(text string) string { return s.live.restore(text) }

// RestoreJSON is Restore on each string of a JSON document, escaped as it must be,
// also inside strings that are JSON documents themselves. Of a text that isn't
// JSON it is Restore.
func (s *Session) RestoreJSON(raw []byte) []byte {
	if len(s.live.values) == 0 {
		return raw
	}
	return rewriteJSON(raw, func(text, _ string) string { return s.live.restore(text) })
}

// Stream returns the restorer of a text that arrives in pieces.
func (s *Session) Stream() *Restorer { return &Restorer{live: s.share()} }

// StreamJSON returns the restorer of a JSON text that arrives in pieces.
func (s *Session) StreamJSON() *Restorer { return &Restorer{live: s.share(), json: new(nesting)} }

func (s *Session) share() *table {
	if s.live.sorted == nil {
		s.live.sorted = slices.Sorted(maps.Keys(s.live.values))
	}
	s.shared = true
	return s.live
}

// at is the placeholder that begins at i, or "".
func (t *table) at(text string, i int) string {
	end := strings.IndexByte(text[i:min(len(text), i+t.longest)], ']')
	if end < 0 {
		return ""
	}
	p := text[i : i+end+1]
	if _, ok := t.values[p]; !ok {
		return ""
	}
	return p
}

func (t *table) restore(text string) string {
	if len(t.values) == 0 {
		return text
	}
	var out []byte
	done := 0
	for i := strings.IndexByte(text, '['); i >= 0; {
		next := i + 1
		if p := t.at(text, i); p != "" {
			out = append(append(out, text[done:i]...), t.values[p]...)
			done = i + len(p)
			next = done
		}
		step := strings.IndexByte(text[next:], '[')
		if step < 0 {
			break
		}
		i = next + step
	}
	if done == 0 {
		return text
	}
	return string(append(out, text[done:]...))
}

// begun reports whether a placeholder begins with text and goes on.
func (t *table) begun(text string) bool {
	i, exact := slices.BinarySearch(t.sorted, text)
	return !exact && i < len(t.sorted) && strings.HasPrefix(t.sorted[i], text)
}
