package openai

import (
	"context"
	"encoding/json"

	"freehold/inference/engine"
)

// wireChat is an upstream's chat completion, as far as it is passed on.
type wireChat struct {
	Choices []struct {
		Index        *int            `json:"index"`
		Message      json.RawMessage `json:"message"`
		Logprobs     json.RawMessage `json:"logprobs"`
		FinishReason *string         `json:"finish_reason"`
	} `json:"choices"`
	Usage *engine.Usage   `json:"usage"`
	Error json.RawMessage `json:"error"`
}

// errArtifact refuses a model that another kind of engine has to be given: upstream,
// its base alone would answer in its place.
var errArtifact = &engine.Error{
	Kind: engine.Unsupported, Param: "model", Message: "this model can't be served any more: its base has moved to another engine",
}

// Chat implements engine.Engine.
func (c *client) Chat(ctx context.Context, req *engine.ChatRequest) (*engine.ChatResponse, error) {
	if req.Tuned != nil {
		return nil, errArtifact
	}
	body := req.Members()
	body["model"] = req.Model
	var got wireChat
	if err := c.call(ctx, "/chat/completions", body, &got); err != nil {
		return nil, err
	}
	if reported(got.Error) {
		return nil, c.inBand(wrap(got.Error))
	}
	if len(got.Choices) == 0 {
		return nil, malformed("the engine gave no answer")
	}
	out := &engine.ChatResponse{Choices: make([]engine.ChatChoice, len(got.Choices)), Usage: counted(got.Usage)}
	for i, choice := range got.Choices {
		message, err := answerOf(choice.Message)
		if err != nil {
			return nil, err
		}
		to := &out.Choices[i]
		*to = engine.ChatChoice{Index: i, Message: message, Logprobs: choice.Logprobs, FinishReason: "stop"}
		if choice.Index != nil {
			to.Index = *choice.Index
		}
		if to.Index < 0 || to.Index >= maxChoices {
			return nil, malformed("the engine's answer has a choice that nobody asked for")
		}
		if choice.FinishReason != nil && *choice.FinishReason != "" {
			to.FinishReason = *choice.FinishReason
		}
	}
	return out, nil
}

// wrap puts an error's value back under its name, as explain reads it.
func wrap(value json.RawMessage) []byte {
	b, _ := json.Marshal(map[string]json.RawMessage{"error": value}) // it was just decoded
	return b
}

// answerOf completes an upstream's message with the members that clients may
// rely on, and drops those that are null.
func answerOf(raw json.RawMessage) (json.RawMessage, error) {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil || m == nil {
		return nil, malformed("the engine's answer has no message")
	}
	for name, v := range m {
		if string(v) == "null" {
			delete(m, name)
		}
	}
	for name, v := range map[string]string{"role": `"assistant"`, "content": "null", "refusal": "null"} {
		if _, ok := m[name]; !ok {
			m[name] = json.RawMessage(v)
		}
	}
	return json.Marshal(m)
}

// mostTokens is more than any answer has: sums of counts stay far from overflowing.
const mostTokens = 1 << 31

// counted returns usage as it may be booked: neither negative nor absurd, with a
// total.
func counted(u *engine.Usage) engine.Usage {
	if u == nil {
		return engine.Usage{}
	}
	out := *u
	out.PromptTokens = min(max(0, u.PromptTokens), mostTokens)
	out.CompletionTokens = min(max(0, u.CompletionTokens), mostTokens)
	out.TotalTokens = out.PromptTokens + out.CompletionTokens
	for _, details := range []*json.RawMessage{&out.PromptTokensDetails, &out.CompletionTokensDetails} {
		if string(*details) == "null" {
			*details = nil
		}
	}
	return out
}
