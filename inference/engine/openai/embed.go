package openai

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"

	"freehold/inference/engine"
)

// Embed implements engine.Engine.
func (c *client) Embed(ctx context.Context, req *engine.EmbedRequest) (*engine.EmbedResponse, error) {
	body := map[string]any{"model": req.Model, "input": req.Input, "encoding_format": "float"}
	if req.Dimensions > 0 {
		body["dimensions"] = req.Dimensions
	}
	if req.User != "" {
		body["user"] = req.User
	}
	var got struct {
		Data []struct {
			Index     *int   `json:"index"`
			Embedding vector `json:"embedding"`
		} `json:"data"`
		Usage *engine.Usage   `json:"usage"`
		Error json.RawMessage `json:"error"`
	}
	if err := c.call(ctx, "/embeddings", body, &got); err != nil {
		return nil, err
	}
	if reported(got.Error) {
		return nil, c.inBand(wrap(got.Error))
	}
	if len(got.Data) != len(req.Input) {
		return nil, malformed("the engine did not answer each input")
	}
	out := &engine.EmbedResponse{Vectors: make([][]float32, len(req.Input)), Usage: counted(got.Usage)}
	out.Usage.CompletionTokens, out.Usage.TotalTokens = 0, out.Usage.PromptTokens
	for i, d := range got.Data {
		if d.Index != nil {
			i = *d.Index
		}
		if i < 0 || i >= len(out.Vectors) || out.Vectors[i] != nil || len(d.Embedding) == 0 {
			return nil, malformed("the engine's vectors are not one for each input")
		}
		out.Vectors[i] = d.Embedding
	}
	return out, nil
}

// vector is an embedding: an array of numbers or, from servers that ignore what
// was asked, base64 of little-endian float32.
type vector []float32

// UnmarshalJSON implements json.Unmarshaler.
func (v *vector) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] != '"' {
		return json.Unmarshal(b, (*[]float32)(v))
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return err
	}
	if len(raw)%4 != 0 {
		return malformed("a vector's length is not a multiple of 4 bytes")
	}
	*v = make(vector, len(raw)/4)
	for i := range *v {
		(*v)[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return nil
}
