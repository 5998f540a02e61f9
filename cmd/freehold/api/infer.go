package api

import (
	"context"
	"encoding/json"

	"freehold/cmd/freehold/rest"
	"freehold/inference"
	"freehold/inference/engine"
)

func (s *server) chat(ctx context.Context, who caller, r *rest.Request) (*rest.Reply, error) {
	req, err := inference.ParseChat(r.Body)
	if err != nil {
		return nil, err
	}
	var standing inference.Standing
	call := who.asks(r, &standing)
	if !req.Stream {
		answer, err := s.inference.Chat(ctx, call, req)
		return limited(rest.OK(answer), standing), err
	}
	st, err := s.inference.ChatStream(ctx, call, req)
	if err != nil {
		return nil, err
	}
	return limited(rest.Stream(func(ctx context.Context, send func(any) error) error {
		return st.Run(ctx, func(c *engine.ChatChunk) error { return send(c) })
	}), standing), nil
}

func (s *server) embed(ctx context.Context, who caller, r *rest.Request) (*rest.Reply, error) {
	req, format, err := inference.ParseEmbed(r.Body)
	if err != nil {
		return nil, err
	}
	var standing inference.Standing
	answer, err := s.inference.Embed(ctx, who.asks(r, &standing), req, format)
	return limited(rest.OK(answer), standing), err
}

func (s *server) predict(ctx context.Context, who caller, r *rest.Request) (*rest.Reply, error) {
	var standing inference.Standing
	p, err := s.inference.Predict(ctx, who.asks(r, &standing), r.Body)
	return limited(rest.OK(p), standing), err
}

// limited adds the headers that tell how the caller stands.
func limited(reply *rest.Reply, st inference.Standing) *rest.Reply {
	for name, value := range rest.RateHeader(st) {
		reply.With(name, value)
	}
	return reply
}

// What follows is for the document: the pipeline reads the bodies itself.

type chatBody struct {
	Model    string `json:"model"`
	Messages []struct {
		Role    string          `json:"role" doc:"system, developer, user, assistant or tool"`
		Content json.RawMessage `json:"content,omitempty" doc:"A string, or an array of parts."`
	} `json:"messages"`
	Stream        bool `json:"stream,omitempty"`
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage,omitempty"`
	} `json:"stream_options,omitempty"`
	MaxCompletionTokens int             `json:"max_completion_tokens,omitempty"`
	N                   int             `json:"n,omitempty"`
	Stop                json.RawMessage `json:"stop,omitempty" doc:"A string, or up to four."`
	Temperature         float64         `json:"temperature,omitempty"`
	TopP                float64         `json:"top_p,omitempty"`
	Seed                int64           `json:"seed,omitempty"`
	Tools               json.RawMessage `json:"tools,omitempty"`
	ToolChoice          json.RawMessage `json:"tool_choice,omitempty"`
	ResponseFormat      json.RawMessage `json:"response_format,omitempty" doc:"text, json_object or json_schema."`
	Metadata            json.RawMessage `json:"metadata,omitempty"`
	Store               *bool           `json:"store,omitempty" doc:"False: input and output are not kept."`
	User                string          `json:"user,omitempty" doc:"Your end user: their predictions can be erased by it."`
}

type embedBody struct {
	Model          string          `json:"model"`
	Input          json.RawMessage `json:"input" doc:"A string, or an array of strings."`
	Dimensions     int             `json:"dimensions,omitempty"`
	EncodingFormat string          `json:"encoding_format,omitempty" doc:"float (default) or base64: little-endian float32"`
	Store          *bool           `json:"store,omitempty" doc:"False: the input is not kept."`
	User           string          `json:"user,omitempty"`
}

type embedAnswer struct {
	Object string `json:"object"`
	Data   []struct {
		Object    string          `json:"object"`
		Index     int             `json:"index"`
		Embedding json.RawMessage `json:"embedding" doc:"An array of numbers, or base64."`
	} `json:"data"`
	Model string `json:"model"`
	Usage struct {
		PromptTokens int64 `json:"prompt_tokens"`
		TotalTokens  int64 `json:"total_tokens"`
	} `json:"usage"`
}

type predictBody struct {
	Model       string          `json:"model"`
	Inputs      json.RawMessage `json:"inputs" doc:"A string, an array of messages, or an object with prompt, text or messages, and system."`
	Temperature float64         `json:"temperature,omitempty"`
	Store       *bool           `json:"store,omitempty" doc:"False: input and output are not kept."`
	User        string          `json:"user,omitempty"`
}
