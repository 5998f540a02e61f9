package pii

import "strings"

// Restorer restores a text that arrives in pieces: what Write and Flush return,
// one after the other, is what Restore (of StreamJSON: RestoreJSON) makes of the
// whole, wherever it was cut. It is for one goroutine.
type Restorer struct {
	live *table
	held string   // the beginning of a placeholder, or ""
	json *nesting // nil for plain text
	buf  []byte
}

// Write takes the next piece and returns what can go out now. It holds back the
// longest end of the text that a live placeholder begins with, and nothing else.
func (r *Restorer) Write(piece string) string {
	if len(r.live.values) == 0 {
		return piece
	}
	text := piece
	if r.held != "" {
		text = r.held + piece
		r.held = ""
	}
	// A placeholder has one [, its first byte, so only the last can be held.
	last := strings.LastIndexByte(text, '[')
	if last >= 0 && r.live.begun(text[last:]) {
		r.held = strings.Clone(text[last:])
		text = text[:last]
	}
	if r.json != nil {
		return r.writeJSON(text)
	}
	return r.live.restore(text)
}

// Flush returns what is held back, at the end of the text.
func (r *Restorer) Flush() string {
	text := r.held
	r.held = ""
	return text
}

// writeJSON restores text, which has whole placeholders alone, with the escapes
// that a value needs where it goes.
func (r *Restorer) writeJSON(text string) string {
	var out []byte
	done := 0
	for i := 0; i < len(text); {
		step := strings.IndexByte(text[i:], '[')
		if step < 0 {
			r.json.feed(text[i:])
			break
		}
		r.json.feed(text[i : i+step])
		i += step
		p := r.live.at(text, i)
		if p == "" {
			r.json.feed("[")
			i++
			continue
		}
		r.json.feed(p)
		value := r.live.values[p]
		for range max(1, r.json.depth()) {
			r.buf = appendEscaped(r.buf[:0], value)
			value = string(r.buf)
		}
		out = append(append(out, text[done:i]...), value...)
		i += len(p)
		done = i
	}
	if done == 0 {
		return text
	}
	return string(append(out, text[done:]...))
}
