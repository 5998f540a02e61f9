package inference

import (
	"encoding/json"
	"math"
	"slices"

	"freehold/inference/engine"
)

// Bounds of what a request may name.
const (
	maxName  = 256
	maxInput = 2048
)

// ParseChat reads the body of a chat completion. Each known parameter is accepted
// or refused by name, an unknown one is refused: *BadRequest, with the place in
// Param. Nothing of body is kept.
func ParseChat(body []byte) (*engine.ChatRequest, error) {
	o, err := readObject(body)
	if err != nil {
		return nil, err
	}
	raw, ok := o["messages"]
	if !ok {
		return nil, must("messages", "is required")
	}
	messages, err := readMessages("messages", raw)
	if err != nil {
		return nil, err
	}
	delete(o, "messages")
	req, err := readChat(o)
	if err != nil {
		return nil, err
	}
	req.Messages = messages
	return req, nil
}

// readChat reads everything but the messages. It consumes o.
func readChat(o object) (*engine.ChatRequest, error) {
	req := &engine.ChatRequest{}
	var err error
	if req.Model, err = readModel(o); err != nil {
		return nil, err
	}
	if req.User, err = readUser(o); err != nil {
		return nil, err
	}
	if err := readLimits(o, req); err != nil {
		return nil, err
	}
	if err := readStream(o, req); err != nil {
		return nil, err
	}
	for _, name := range o.names() {
		if why, refused := chatRefused[name]; refused {
			return nil, &BadRequest{Param: name, Message: name + " is not supported: " + why}
		}
		c, known := chatParams[name]
		if !known {
			return nil, unknown("", name)
		}
		if at, want := c(o[name]); want != "" {
			return nil, must(name+at, want)
		}
	}
	if n, _ := whole(o["top_logprobs"]); n > 0 && string(o["logprobs"]) != "true" {
		return nil, must("top_logprobs", "needs logprobs to be true")
	}
	if len(o) > 0 {
		req.Params = o
	}
	return req, nil
}

func readModel(o object) (string, error) {
	raw := o.take("model")
	if raw == nil {
		return "", must("model", "is required")
	}
	name, _ := str(raw)
	if _, want := text(maxName)(raw); want != "" {
		return "", must("model", want)
	}
	if name == "" {
		return "", must("model", "must not be empty")
	}
	return name, nil
}

func readUser(o object) (string, error) {
	raw := o.take("user")
	if raw == nil {
		return "", nil
	}
	if _, want := text(maxName)(raw); want != "" {
		return "", must("user", want)
	}
	s, _ := str(raw)
	return s, nil
}

// readLimits reads what bounds an answer: n, stop and the maximum of tokens.
func readLimits(o object, req *engine.ChatRequest) error {
	if raw := o.take("n"); raw != nil {
		if _, want := integer(1, 128)(raw); want != "" {
			return must("n", want)
		}
		n, _ := whole(raw)
		req.N = int(n)
	}
	for _, name := range []string{"max_completion_tokens", "max_tokens"} {
		raw := o.take(name)
		if raw == nil {
			continue
		}
		if req.MaxTokens != nil {
			return must(name, "must not stand beside "+req.MaxTokensName)
		}
		if _, want := integer(1, math.MaxInt32)(raw); want != "" {
			return must(name, want)
		}
		n, _ := whole(raw)
		most := int(n)
		req.MaxTokens, req.MaxTokensName = &most, name
	}
	if raw := o.take("stop"); raw != nil {
		if s, ok := str(raw); ok {
			req.Stop = []string{s}
		} else if at, want := listOf(0, 4, anyText)(raw); want != "" {
			return must("stop"+at, want+" (or one string)")
		} else if err := json.Unmarshal(raw, &req.Stop); err != nil {
			return must("stop", "must be a string or an array of up to 4")
		}
		if slices.Contains(req.Stop, "") {
			return must("stop", "must not hold an empty string")
		}
	}
	return nil
}

func readStream(o object, req *engine.ChatRequest) error {
	if raw := o.take("stream"); raw != nil {
		if _, want := boolean(raw); want != "" {
			return must("stream", want)
		}
		req.Stream = string(raw) == "true"
	}
	raw := o.take("stream_options")
	if raw == nil {
		return nil
	}
	options, ok := obj(raw)
	if !ok {
		return must("stream_options", "must be an object")
	}
	if !req.Stream {
		return must("stream_options", "needs stream to be true")
	}
	options.dropNulls()
	for _, name := range options.names() {
		if name != "include_usage" && name != "include_obfuscation" {
			return unknown("stream_options", name)
		}
		if _, want := boolean(options[name]); want != "" {
			return must("stream_options."+name, want)
		}
	}
	req.IncludeUsage = string(options["include_usage"]) == "true"
	return nil
}

// ParseEmbed reads the body of an embeddings request, as ParseChat does. Tokens
// instead of text are refused: which text they stand for depends on the engine.
func ParseEmbed(body []byte) (*engine.EmbedRequest, EmbedFormat, error) {
	o, err := readObject(body)
	if err != nil {
		return nil, "", err
	}
	req := &engine.EmbedRequest{}
	if req.Model, err = readModel(o); err != nil {
		return nil, "", err
	}
	if req.User, err = readUser(o); err != nil {
		return nil, "", err
	}
	if req.Input, err = readInput(o.take("input")); err != nil {
		return nil, "", err
	}
	if raw := o.take("dimensions"); raw != nil {
		if _, want := integer(1, 1<<16)(raw); want != "" {
			return nil, "", must("dimensions", want)
		}
		n, _ := whole(raw)
		req.Dimensions = int(n)
	}
	if raw := o.take("store"); raw != nil {
		if _, want := boolean(raw); want != "" {
			return nil, "", must("store", want)
		}
		store := string(raw) == "true"
		req.Store = &store
	}
	format := Float
	if raw := o.take("encoding_format"); raw != nil {
		if _, want := oneOf(string(Float), string(Base64))(raw); want != "" {
			return nil, "", must("encoding_format", want)
		}
		s, _ := str(raw)
		format = EmbedFormat(s)
	}
	for _, name := range o.names() {
		return nil, "", unknown("", name)
	}
	return req, format, nil
}

func readInput(raw json.RawMessage) ([]string, error) {
	if raw == nil {
		return nil, must("input", "is required")
	}
	l := []json.RawMessage{raw}
	at := func(int) string { return "input" }
	if many, ok := list(raw); ok {
		l, at = many, func(i int) string { return place("input", i) }
	}
	if len(l) == 0 || len(l) > maxInput {
		return nil, must("input", "must be a string or an array of 1 to 2048 strings")
	}
	out := make([]string, len(l))
	for i, v := range l {
		s, ok := str(v)
		switch {
		case !ok && len(v) > 0 && (v[0] == '[' || v[0] >= '0' && v[0] <= '9'):
			return nil, must(at(i), "must be a string: arrays of tokens are not accepted")
		case !ok:
			return nil, must(at(i), "must be a string")
		case s == "":
			return nil, must(at(i), "must not be empty")
		}
		out[i] = s
	}
	return out, nil
}

// endUser is whom the tenant says it asks for; safety_identifier is OpenAI's newer
// name for user.
func endUser(req *engine.ChatRequest) string {
	if req.User != "" {
		return req.User
	}
	s, _ := str(req.Params["safety_identifier"])
	return s
}
