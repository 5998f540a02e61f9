package inference

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"freehold/inference/engine"
)

// hearing puts a stream's deltas together, choice by choice, into the messages
// that the same answer would have had when given whole.
type hearing struct{ by map[int]*voice }

// voice is one choice so far.
type voice struct {
	text   map[string]*strings.Builder // content, refusal and whatever else comes in pieces
	rest   map[string]json.RawMessage
	tools  []*toolCall
	call   *toolCall // the deprecated function_call
	finish string
}

// toolCall is a tool call so far: a kind (function, custom), and what is called.
type toolCall struct {
	index    int
	id, kind string
	name     string
	body     strings.Builder // arguments, or a custom tool's input
}

// wireCall is a tool call's delta.
type wireCall struct {
	Index    *int    `json:"index"`
	ID       string  `json:"id"`
	Type     string  `json:"type"`
	Function *callee `json:"function"`
	Custom   *callee `json:"custom"`
}

type callee struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
	Input     string `json:"input"`
}

func (h *hearing) empty() bool { return len(h.by) == 0 }

// finished reports whether each choice that began has ended.
func (h *hearing) finished() bool {
	for _, v := range h.by {
		if v.finish == "" {
			return false
		}
	}
	return len(h.by) > 0
}

func (h *hearing) add(choices []engine.ChunkChoice) {
	for _, c := range choices {
		v := h.by[c.Index]
		if v == nil {
			if h.by == nil {
				h.by = map[int]*voice{}
			}
			v = &voice{text: map[string]*strings.Builder{}, rest: map[string]json.RawMessage{}}
			h.by[c.Index] = v
		}
		if c.FinishReason != nil {
			v.finish = *c.FinishReason
		}
		v.add(c.Delta)
	}
}

func (v *voice) add(delta json.RawMessage) {
	var members map[string]json.RawMessage
	if json.Unmarshal(delta, &members) != nil {
		return
	}
	for name, raw := range members {
		var s string
		switch {
		case string(raw) == "null" || name == "role":
		case name == "tool_calls":
			v.addTools(raw)
		case name == "function_call":
			var c callee
			if json.Unmarshal(raw, &c) == nil {
				if v.call == nil {
					v.call = &toolCall{}
				}
				v.call.add(c)
			}
		case json.Unmarshal(raw, &s) == nil:
			if v.text[name] == nil {
				v.text[name] = &strings.Builder{}
			}
			v.text[name].WriteString(s)
		default:
			v.rest[name] = raw
		}
	}
}

func (v *voice) addTools(raw json.RawMessage) {
	var calls []wireCall
	if json.Unmarshal(raw, &calls) != nil {
		return
	}
	for _, c := range calls {
		t := v.tool(c)
		if c.ID != "" {
			t.id = c.ID
		}
		if c.Type != "" {
			t.kind = c.Type
		}
		for kind, called := range map[string]*callee{"function": c.Function, "custom": c.Custom} {
			if called != nil {
				if t.kind == "" {
					t.kind = kind
				}
				t.add(*called)
			}
		}
	}
}

// tool finds the call that a delta goes on with. Some upstreams leave the index
// out; then an id that is new begins another call.
func (v *voice) tool(c wireCall) *toolCall {
	n := len(v.tools)
	index := n
	if c.Index != nil {
		index = *c.Index
	} else if n > 0 && (c.ID == "" || c.ID == v.tools[n-1].id) {
		return v.tools[n-1]
	}
	for _, t := range v.tools {
		if t.index == index {
			return t
		}
	}
	t := &toolCall{index: index}
	v.tools = append(v.tools, t)
	return t
}

func (t *toolCall) add(c callee) {
	t.name += c.Name
	t.body.WriteString(c.Arguments)
	t.body.WriteString(c.Input)
}

// choices returns what was said, in the order of the choices' indexes.
func (h *hearing) choices() []said {
	var out []said
	for _, i := range slices.Sorted(maps.Keys(h.by)) {
		out = append(out, said{Index: i, Message: h.by[i].message(), FinishReason: h.by[i].finish})
	}
	return out
}

func (v *voice) message() map[string]any {
	m := map[string]any{"role": "assistant", "content": nil, "refusal": nil}
	for name, raw := range v.rest {
		m[name] = raw
	}
	for name, b := range v.text {
		m[name] = b.String()
	}
	if v.call != nil {
		m["function_call"] = map[string]string{"name": v.call.name, "arguments": v.call.body.String()}
	}
	if len(v.tools) > 0 {
		calls := make([]map[string]any, len(v.tools))
		for i, t := range v.tools {
			called := map[string]string{"name": t.name, "arguments": t.body.String()}
			if t.kind == "custom" {
				called = map[string]string{"name": t.name, "input": t.body.String()}
			}
			calls[i] = map[string]any{"id": t.id, "type": t.kind, t.kind: called}
		}
		m["tool_calls"] = calls
	}
	return m
}
