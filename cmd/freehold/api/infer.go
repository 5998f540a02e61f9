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
	if !req.Stream {
		answer, err := s.inference.Chat(ctx, who.call(r), req)
		return rest.OK(answer), err
	}
	st, err := s.inference.ChatStream(ctx, who.call(r), req)
	if err != nil {
		return nil, err
	}
	return rest.Stream(func(ctx context.Context, send func(any) error) error {
		return st.Run(ctx, func(c *engine.ChatChunk) error { return send(c) })
	}), nil
}

func (s *server) embed(ctx context.Context, who caller, r *rest.Request) (*rest.Reply, error) {
	req, format, err := inference.ParseEmbed(r.Body)
	if err != nil {
		return nil, err
	}
	answer, err := s.inference.Embed(ctx, who.call(r), req, format)
	return rest.OK(answer), err
}

func (s *server) predict(ctx context.Context, who caller, r *rest.Request) (*rest.Reply, error) {
	p, err := s.inference.Predict(ctx, who.call(r), r.Body)
	return rest.OK(p), err
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
	User                string          `json:"user,omitempty"`
}

type embedBody struct {
	Model          string          `json:"model"`
	Input          json.RawMessage `json:"input" doc:"A string, or an array of strings."`
	Dimensions     int             `json:"dimensions,omitempty"`
	EncodingFormat string          `json:"encoding_format,omitempty" doc:"float (default) or base64: little-endian float32"`
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
	Inputs      json.RawMessage `json:"inputs" doc:"A string, an array of messages, or an object with prompt or messages, and system."`
	Temperature float64         `json:"temperature,omitempty"`
	User        string          `json:"user,omitempty"`
}
