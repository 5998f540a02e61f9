package inference

import (
	"encoding/json"
	"maps"
	"slices"

	"freehold/inference/engine"
	"freehold/inference/pii"
)

// restorer brings personal data back into a stream's chunks. Of each text that
// comes in pieces it holds back what may be a placeholder's first part, and no
// more; what is held goes out before the chunk that ends its choice.
type restorer struct {
	session *pii.Session
	json    bool // the answer's text is JSON: what comes back into it is escaped
	by      map[int]*restored
}

// restored are the texts of one choice, by their place in it.
type restored struct {
	texts map[string]*pii.Restorer
	tools map[int]*toolText
	call  *pii.Restorer // the deprecated function_call's arguments; nil: none began
}

// toolText is a tool call's text in pieces: arguments, which are JSON, or a custom
// tool's input, which is not.
type toolText struct {
	member, field string // function and arguments, or custom and input
	text          *pii.Restorer
}

// newRestorer returns nil when there is nothing to bring back.
func newRestorer(p *privacy) *restorer {
	if !p.restores() {
		return nil
	}
	return &restorer{session: p.session, json: p.json, by: map[int]*restored{}}
}

// text begins one of a choice's texts.
func (r *restorer) text(name string) *pii.Restorer {
	if r.json && name == "content" {
		return r.session.StreamJSON()
	}
	return r.session.Stream()
}

// message restores a whole message: what its stream would come to.
func (r *restorer) message(raw json.RawMessage) json.RawMessage {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return r.session.RestoreJSON(raw)
	}
	for name, value := range members {
		var calls []map[string]json.RawMessage
		s, text := str(value)
		switch {
		case name == "role" || string(value) == "null":
		case text:
			members[name] = engine.TextContent(entire(r.text(name), s))
		case name == "tool_calls" && json.Unmarshal(value, &calls) == nil:
			for _, call := range calls {
				if call["id"] != nil {
					call["id"] = r.session.RestoreJSON(call["id"])
				}
				for member, field := range fields {
					if call[member] != nil {
						call[member] = r.calls(call[member], field)
					}
				}
			}
			members[name] = marshal(calls)
		case name == "function_call":
			members[name] = r.calls(value, "arguments")
		default:
			members[name] = r.session.RestoreJSON(value)
		}
	}
	return marshal(members)
}

// calls restores a whole call: its name, and its text in the member field.
func (r *restorer) calls(raw json.RawMessage, field string) json.RawMessage {
	var called map[string]json.RawMessage
	if json.Unmarshal(raw, &called) != nil {
		return r.session.RestoreJSON(raw)
	}
	if called["name"] != nil {
		called["name"] = r.session.RestoreJSON(called["name"])
	}
	if s, ok := str(called[field]); ok {
		called[field] = engine.TextContent(entire(r.tool("", field).text, s))
	}
	return marshal(called)
}

// fields are where the text of a call stands, by its kind: arguments are JSON, a
// custom tool's input is not.
var fields = map[string]string{"function": "arguments", "custom": "input"}

func entire(t *pii.Restorer, s string) string { return t.Write(s) + t.Flush() }

// choices returns the choices of a chunk as the client gets them; those in which
// nothing can go out yet are left out.
func (r *restorer) choices(list []engine.ChunkChoice) []engine.ChunkChoice {
	var out []engine.ChunkChoice
	for _, c := range list {
		v := r.by[c.Index]
		if v == nil {
			v = &restored{texts: map[string]*pii.Restorer{}, tools: map[int]*toolText{}}
			r.by[c.Index] = v
		}
		delta, says := r.delta(v, c.Delta)
		c.Delta = delta
		if c.Logprobs != nil {
			c.Logprobs, says = r.session.RestoreJSON(c.Logprobs), true
		}
		if c.FinishReason == nil {
			if says {
				out = append(out, c)
			}
			continue
		}
		// A last chunk may have text: what of it is held goes out behind what isn't.
		if rest := v.flush(); rest != nil {
			if says {
				out = append(out, engine.ChunkChoice{Index: c.Index, Delta: c.Delta, Logprobs: c.Logprobs})
				c.Delta, c.Logprobs = json.RawMessage(`{}`), nil
			}
			out = append(out, engine.ChunkChoice{Index: c.Index, Delta: rest})
		}
		out = append(out, c)
	}
	return out
}

// rest is what is still held when a stream ends: of choices that weren't finished,
// or said more after that.
func (r *restorer) rest() []engine.ChunkChoice {
	var out []engine.ChunkChoice
	for _, i := range slices.Sorted(maps.Keys(r.by)) {
		if delta := r.by[i].flush(); delta != nil {
			out = append(out, engine.ChunkChoice{Index: i, Delta: delta})
		}
	}
	return out
}

// delta restores one delta; says reports whether anything of it can go out.
func (r *restorer) delta(v *restored, raw json.RawMessage) (out json.RawMessage, says bool) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil || len(members) == 0 {
		return raw, true
	}
	for name, value := range members {
		var s string
		switch {
		case name == "role" || string(value) == "null":
			says = true
		case name == "tool_calls":
			var some bool
			members[name], some = r.tools(v, value)
			says = says || some
			if !some {
				delete(members, name)
			}
		case name == "function_call":
			var some bool
			members[name], some = r.call(v, value)
			says = says || some
			if !some {
				delete(members, name)
			}
		case json.Unmarshal(value, &s) == nil:
			t := v.texts[name]
			if t == nil {
				t = r.text(name)
				v.texts[name] = t
			}
			piece := t.Write(s)
			if piece == "" && s != "" {
				delete(members, name)
				continue
			}
			members[name] = engine.TextContent(piece)
			says = true
		default:
			members[name] = r.session.RestoreJSON(value)
			says = true
		}
	}
	return marshal(members), says
}

// tools restores the pieces of tool calls; some reports whether any of it can go out.
func (r *restorer) tools(v *restored, raw json.RawMessage) (out json.RawMessage, some bool) {
	var calls []map[string]json.RawMessage
	if json.Unmarshal(raw, &calls) != nil {
		return raw, true
	}
	kept := calls[:0]
	for n, call := range calls {
		index := n
		if call["index"] != nil {
			_ = json.Unmarshal(call["index"], &index) // an index that isn't one counts as its place
		}
		says := call["id"] != nil || call["type"] != nil
		if call["id"] != nil {
			call["id"] = r.session.RestoreJSON(call["id"])
		}
		for member, field := range fields {
			var called map[string]json.RawMessage
			if call[member] == nil || json.Unmarshal(call[member], &called) != nil {
				continue
			}
			if v.tools[index] == nil {
				v.tools[index] = r.tool(member, field)
			}
			says = r.called(v.tools[index].text, field, called) || says
			call[member] = marshal(called)
		}
		if says {
			kept = append(kept, call)
		}
	}
	return marshal(kept), len(kept) > 0
}

func (r *restorer) tool(member, field string) *toolText {
	t := &toolText{member: member, field: field, text: r.session.Stream()}
	if field == "arguments" {
		t.text = r.session.StreamJSON()
	}
	return t
}

// call restores a piece of a function_call; some reports whether any of it can go out.
func (r *restorer) call(v *restored, raw json.RawMessage) (out json.RawMessage, some bool) {
	var called map[string]json.RawMessage
	if json.Unmarshal(raw, &called) != nil {
		return raw, true
	}
	if v.call == nil {
		v.call = r.session.StreamJSON()
	}
	some = r.called(v.call, "arguments", called)
	return marshal(called), some
}

// called restores one call's name, and the piece of its text, in place.
func (r *restorer) called(t *pii.Restorer, field string, called map[string]json.RawMessage) (says bool) {
	if says = called["name"] != nil; says {
		called["name"] = r.session.RestoreJSON(called["name"])
	}
	piece, ok := str(called[field])
	if !ok {
		return says || called[field] != nil
	}
	text := t.Write(piece)
	if text == "" && piece != "" {
		delete(called, field)
		return says
	}
	called[field] = engine.TextContent(text)
	return true
}

// flush is what of a choice is still held, as a delta; nil: nothing.
func (v *restored) flush() json.RawMessage {
	delta := map[string]any{}
	for name, t := range v.texts {
		if rest := t.Flush(); rest != "" {
			delta[name] = rest
		}
	}
	var calls []any
	for _, i := range slices.Sorted(maps.Keys(v.tools)) {
		t := v.tools[i]
		if rest := t.text.Flush(); rest != "" {
			calls = append(calls, map[string]any{"index": i, t.member: map[string]string{t.field: rest}})
		}
	}
	if calls != nil {
		delta["tool_calls"] = calls
	}
	if v.call != nil {
		if rest := v.call.Flush(); rest != "" {
			delta["function_call"] = map[string]string{"arguments": rest}
		}
	}
	if len(delta) == 0 {
		return nil
	}
	return marshal(delta)
}
