package inference

import (
	"encoding/json"
	"slices"

	"freehold/inference/engine"
)

// prepare returns the request as it goes to the engine. req stays as it is: it may
// be asked again, under a configuration that has changed.
func prepare(c Call, m served, req *engine.ChatRequest) *engine.ChatRequest {
	sent := *req
	sent.Model, sent.Scope, sent.Tuned = m.upstream(), c.Scope, m.artifact
	if c.Config.SystemPromptOverride != "" {
		sent.Messages = override(req.Messages, c.Config.SystemPromptOverride)
	}
	return &sent
}

// override puts the tenant's own prompt above the conversation's: before the text
// of its first system message, or as one.
func override(messages []engine.Message, prompt string) []engine.Message {
	out := slices.Clone(messages)
	for i, m := range out {
		if m.Role == "system" || m.Role == "developer" {
			out[i].Content = prepend(m.Content, prompt+"\n\n")
			return out
		}
	}
	return slices.Insert(out, 0, engine.Message{Role: "system", Content: engine.TextContent(prompt)})
}

func prepend(content json.RawMessage, text string) json.RawMessage {
	var s string
	if json.Unmarshal(content, &s) == nil {
		return engine.TextContent(text + s)
	}
	part, _ := json.Marshal(map[string]string{"type": "text", "text": text}) // strings always encode
	var parts []json.RawMessage
	if json.Unmarshal(content, &parts) != nil {
		return engine.TextContent(text)
	}
	b, _ := json.Marshal(slices.Insert(parts, 0, json.RawMessage(part))) // raw parts came from JSON
	return b
}
