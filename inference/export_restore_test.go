package inference

import (
	"freehold/inference/engine"
	"freehold/inference/pii"
)

// Restored brings personal data back into a whole answer and into a stream of
// chunks, as one session of a request does.
func Restored(s *pii.Session, asJSON bool, resp *engine.ChatResponse, chunks []*engine.ChatChunk) (*engine.ChatResponse, []*engine.ChatChunk) {
	p := &privacy{scanner: pii.New(pii.Options{}), session: s, json: asJSON}
	r := newRestorer(p)
	var out []*engine.ChatChunk
	for _, c := range chunks {
		if choices := r.choices(c.Choices); len(choices) > 0 {
			out = append(out, &engine.ChatChunk{Choices: choices})
		}
	}
	if rest := r.rest(); rest != nil {
		out = append(out, &engine.ChatChunk{Choices: rest})
	}
	return p.restore(resp), out
}

// Heard puts chunks together as they are kept.
func Heard(chunks []*engine.ChatChunk) []said {
	var h hearing
	for _, c := range chunks {
		h.add(c.Choices)
	}
	return h.choices()
}
