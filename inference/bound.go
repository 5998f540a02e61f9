package inference

import (
	"encoding/json"

	"freehold/catalog"
	"freehold/inference/engine"
)

// The most tokens that an engine can count for what it is sent. A byte-level
// tokenizer makes no more tokens than there are bytes, and a JSON text is no
// shorter than the text in it; templates add what the model declares as overhead.

// defaultAnswer bounds an answer of a model that declares no bound.
const defaultAnswer = 4096

// toolFactor is for schemas, which templates may write out with indentation.
const toolFactor = 2

// promptBound refuses, with *BadRequest, parts for which the model declares no
// bound.
func promptBound(m catalog.Model, req *engine.ChatRequest) (int64, error) {
	sum := int64(m.TokenOverhead) + int64(m.MessageOverhead)*int64(len(req.Messages))
	for i, msg := range req.Messages {
		n, err := contentBound(m, place("messages", i)+".content", msg.Content)
		if err != nil {
			return 0, err
		}
		sum += n
		for name, raw := range msg.Rest {
			sum += int64(len(name) + len(raw))
		}
	}
	for name, raw := range req.Params {
		n := int64(len(name) + len(raw))
		if name == "tools" || name == "functions" || name == "response_format" {
			n *= toolFactor
		}
		if name == "prediction" { // what a choice doesn't take of it counts as generated
			n *= int64(max(req.N, 1))
		}
		sum += n
	}
	return sum, nil
}

func contentBound(m catalog.Model, at string, raw json.RawMessage) (int64, error) {
	parts, ok := list(raw)
	if !ok {
		return int64(len(raw)), nil
	}
	sum := int64(0)
	for i, raw := range parts {
		switch {
		case isText(raw):
			sum += int64(len(raw))
		case m.PartTokens == 0:
			return 0, &BadRequest{
				Param: place(at, i), Message: "this model takes text alone: it declares no bound for what else a request may hold",
			}
		default:
			sum += int64(m.PartTokens)
		}
	}
	return sum, nil
}

// isText reports whether a part of a message is text.
func isText(part json.RawMessage) bool {
	o, _ := obj(part)
	kind, _ := str(o["type"])
	return kind == "text" || kind == "refusal"
}

func embedBound(m catalog.Model, input []string) int64 {
	sum := int64(m.TokenOverhead) + int64(m.MessageOverhead)*int64(len(input))
	for _, text := range input {
		sum += int64(len(text))
	}
	return sum
}

// answerBound is what each of n choices may be long, when nothing clamps it.
func answerBound(m catalog.Model, req *engine.ChatRequest) (each, n int64) {
	each, n = int64(m.MaxOutputTokens), max(int64(req.N), 1)
	if each == 0 {
		each = defaultAnswer
	}
	if req.MaxTokens != nil {
		each = int64(*req.MaxTokens)
	}
	return each, n
}
