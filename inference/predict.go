package inference

import (
	"context"
	"encoding/json"

	"freehold/inference/engine"
)

// Predict answers {model, inputs, …}: inputs is a string, an array of messages, or
// an object {prompt | text | messages, system}; the rest are the parameters of a
// chat completion that make sense for one plain answer. Its errors are Chat's.
func (s *Service) Predict(ctx context.Context, c Call, body []byte) (*Prediction, error) {
	req, err := parsePredict(body)
	if err != nil {
		return nil, err
	}
	out, kept, err := s.chat(ctx, c, kindPrediction, req)
	if err != nil {
		return nil, err
	}
	if kept != nil {
		return decode[Prediction](kept)
	}
	return out.view, nil
}

func parsePredict(body []byte) (*engine.ChatRequest, error) {
	o, err := readObject(body)
	if err != nil {
		return nil, err
	}
	raw := o.take("inputs")
	if raw == nil {
		return nil, must("inputs", "is required")
	}
	messages, err := readInputs(raw)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"messages", "n", "stream", "stream_options", "tools", "tool_choice", "functions", "function_call"} {
		if _, ok := o[name]; ok {
			return nil, &BadRequest{Param: name, Message: name + " is for chat completions"}
		}
	}
	req, err := readChat(o)
	if err != nil {
		return nil, err
	}
	req.Messages = messages
	return req, nil
}

func readInputs(raw json.RawMessage) ([]engine.Message, error) {
	if s, ok := str(raw); ok {
		if s == "" {
			return nil, must("inputs", "must not be empty")
		}
		return []engine.Message{{Role: "user", Content: raw}}, nil
	}
	if _, ok := list(raw); ok {
		return readMessages("inputs", raw)
	}
	o, ok := obj(raw)
	if !ok {
		return nil, must("inputs", "must be a string, an array of messages or an object")
	}
	o.dropNulls()
	return readInputObject(o)
}

// readInputObject reads inputs of named parts. Text is what prompt is, for those
// who have something classified.
func readInputObject(o object) ([]engine.Message, error) {
	system, conversation := o.take("system"), o.take("messages")
	name := "prompt"
	if o["text"] != nil {
		if o["prompt"] != nil {
			return nil, must("inputs", "must not hold both prompt and text")
		}
		name = "text"
	}
	prompt := o.take(name)
	for _, name := range o.names() {
		return nil, unknown("inputs", name)
	}
	if (prompt == nil) == (conversation == nil) {
		return nil, must("inputs", "must hold one of prompt, text and messages")
	}
	var out []engine.Message
	if system != nil {
		if _, want := anyText(system); want != "" {
			return nil, must("inputs.system", want)
		}
		out = append(out, engine.Message{Role: "system", Content: system})
	}
	if prompt != nil {
		if s, _ := str(prompt); s == "" {
			return nil, must("inputs."+name, "must be a string that is not empty")
		}
		return append(out, engine.Message{Role: "user", Content: prompt}), nil
	}
	messages, err := readMessages("inputs.messages", conversation)
	return append(out, messages...), err
}
