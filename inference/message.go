package inference

import (
	"encoding/json"
	"fmt"

	"freehold/inference/engine"
)

// maxMessages bounds a conversation; the body's size does so before.
const maxMessages = 10_000

// role is what a message of a role may and must hold.
type role struct {
	parts   map[string]check // kinds of content parts
	members map[string]check // besides role and content
	needs   []string         // members that it can't be without
	empty   func(object) bool
}

var (
	textPart = both(member("type", oneOf("text")), member("text", anyText))

	onlyText = map[string]check{"text": member("text", anyText)}
	named    = map[string]check{"name": text(256)}
)

// roles are the roles of messages. empty, where it is set, says when a message may
// be without content.
var roles = map[string]role{
	"developer": {parts: onlyText, members: named},
	"system":    {parts: onlyText, members: named},
	"user": {members: named, parts: map[string]check{
		"text":        member("text", anyText),
		"image_url":   member("image_url", member("url", anyText)),
		"input_audio": member("input_audio", both(member("data", anyText), member("format", text(32)))),
		"file":        member("file", anyObject),
	}},
	"assistant": {
		parts: map[string]check{"text": member("text", anyText), "refusal": member("refusal", anyText)},
		members: map[string]check{
			"name": text(256), "refusal": anyText, "tool_calls": listOf(0, 128, toolCallOf),
			"function_call": both(member("name", text(128)), member("arguments", anyText)),
			// What clients echo of an earlier answer.
			"annotations": listOf(0, 1000, anyObject), "reasoning_content": anyText, "reasoning": anyText,
		},
		empty: func(o object) bool {
			return o["tool_calls"] != nil || o["function_call"] != nil || o["refusal"] != nil
		},
	},
	"tool":     {parts: onlyText, members: map[string]check{"tool_call_id": text(256), "name": text(256)}, needs: []string{"tool_call_id"}},
	"function": {members: named, needs: []string{"name"}, empty: func(object) bool { return true }},
}

// anyText wants a string, however long; an engine gets it, no column does.
func anyText(raw json.RawMessage) (string, string) {
	if _, ok := str(raw); !ok {
		return "", "must be a string"
	}
	return "", ""
}

func toolCallOf(raw json.RawMessage) (string, string) {
	if at, want := both(member("id", text(256)), member("type", toolKinds))(raw); want != "" {
		return at, want
	}
	o, _ := obj(raw)
	kind, _ := str(o["type"])
	body := "arguments"
	if kind == "custom" {
		body = "input"
	}
	return member(kind, both(member("name", text(128)), member(body, anyText)))(raw)
}

// readMessages reads a conversation; at is its place in the request.
func readMessages(at string, raw json.RawMessage) ([]engine.Message, error) {
	l, ok := list(raw)
	if !ok || len(l) == 0 || len(l) > maxMessages {
		return nil, must(at, fmt.Sprintf("must be an array of 1 to %d messages", maxMessages))
	}
	out := make([]engine.Message, len(l))
	for i, raw := range l {
		m, err := readMessage(place(at, i), raw)
		if err != nil {
			return nil, err
		}
		out[i] = m
	}
	return out, nil
}

func readMessage(at string, raw json.RawMessage) (engine.Message, error) {
	o, ok := obj(raw)
	if !ok {
		return engine.Message{}, must(at, "must be an object")
	}
	o.dropNulls()
	name, ok := str(o.take("role"))
	r, known := roles[name]
	if !ok || !known {
		return engine.Message{}, must(at+".role", "must be one of developer, system, user, assistant, tool, function")
	}
	m := engine.Message{Role: name, Content: o.take("content")}
	for _, n := range r.needs {
		if o[n] == nil {
			return engine.Message{}, must(at+"."+n, "is required")
		}
	}
	for _, n := range o.names() {
		c, known := r.members[n]
		if !known {
			return engine.Message{}, unknown(at, n)
		}
		if sub, want := c(o[n]); want != "" {
			return engine.Message{}, must(at+"."+n+sub, want)
		}
	}
	if m.Content == nil {
		if r.empty == nil || !r.empty(o) {
			return engine.Message{}, must(at+".content", "is required")
		}
	} else if err := checkContent(at+".content", m.Content, r); err != nil {
		return engine.Message{}, err
	}
	if len(o) > 0 {
		m.Rest = o
	}
	return m, nil
}

func checkContent(at string, raw json.RawMessage, r role) error {
	if _, ok := str(raw); ok {
		return nil
	}
	l, ok := list(raw)
	if !ok || len(l) == 0 || r.parts == nil {
		if r.parts == nil {
			return must(at, "must be a string")
		}
		return must(at, "must be a string or an array of parts")
	}
	for i, raw := range l {
		at := place(at, i)
		o, ok := obj(raw)
		if !ok {
			return must(at, "must be an object")
		}
		kind, _ := str(o["type"])
		c, known := r.parts[kind]
		if !known {
			return must(at+".type", "is not a kind of part that this role can have")
		}
		if sub, want := c(raw); want != "" {
			return must(at+sub, want)
		}
	}
	return nil
}
