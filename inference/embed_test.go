package inference_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"

	"freehold/inference"
	"freehold/inference/engine"
)

func TestEmbed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	vectors := [][]float32{{0.1, -2, 3e-9}, {1e20, 0, -0.33333334}}
	b.engine.embed = func(_ context.Context, r *engine.EmbedRequest) (*engine.EmbedResponse, error) {
		if b.lender.leased.Load() != 0 || r.Model != "embed" || r.Scope != b.call.Scope || len(r.Input) != 2 {
			t.Errorf("the engine got %+v", r)
		}
		return &engine.EmbedResponse{Vectors: vectors, Usage: engine.Usage{PromptTokens: 4, TotalTokens: 4}}, nil
	}
	for _, format := range []inference.EmbedFormat{inference.Float, inference.Base64} {
		req, f, err := inference.ParseEmbed([]byte(`{"model":"embed","input":["a","b"],"user":"u","encoding_format":"` + string(format) + `"}`))
		if err != nil || f != format {
			t.Fatal(f, err)
		}
		raw, err := b.Embed(t.Context(), b.call, req, f)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Object, Model string
			Data          []struct {
				Object    string
				Index     int
				Embedding json.RawMessage
			}
			Usage struct {
				Prompt int64 `json:"prompt_tokens"`
				Total  int64 `json:"total_tokens"`
			}
		}
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Fatal(err)
		}
		if got.Object != "list" || got.Model != "embed" || len(got.Data) != 2 || got.Usage.Prompt != 4 || got.Usage.Total != 4 {
			t.Errorf("got %s", raw)
		}
		for i, d := range got.Data {
			if d.Object != "embedding" || d.Index != i || !reflect.DeepEqual(decode(t, d.Embedding), vectors[i]) {
				t.Errorf("%s: vector %d is %s", format, i, d.Embedding)
			}
		}
	}
	list, _, err := b.Predictions(t.Context(), b.call, [16]byte{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "output", list[0].Output, `{"count":2,"dimensions":3}`)
	same(t, "inputs", list[0].Inputs, `{"input":["a","b"]}`)
	if list[0].Kind != "embedding" || list[0].State != "succeeded" || list[0].Usage.PromptTokens != 4 {
		t.Errorf("got %+v", list[0])
	}
}

// decode reads a vector in either format.
func decode(t *testing.T, raw json.RawMessage) (v []float32) {
	t.Helper()
	if raw[0] == '[' {
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	var b []byte
	if err := json.Unmarshal(raw, &b); err != nil {
		t.Fatal(err)
	}
	if base64.StdEncoding.EncodeToString(b) != strings.Trim(string(raw), `"`) {
		t.Errorf("not canonical: %s", raw)
	}
	for ; len(b) >= 4; b = b[4:] {
		v = append(v, math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}
	return v
}

func TestVectorsThatAreNone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, vectors := range [][][]float32{
		nil, {{1}}, {{1}, {}}, {{1}, {1, 2}}, {{1}, {float32(math.NaN())}}, {{1}, {float32(math.Inf(1))}}, {{1, 2}, {3, 4}},
	} {
		b.engine.embed = func(context.Context, *engine.EmbedRequest) (*engine.EmbedResponse, error) {
			return &engine.EmbedResponse{Vectors: vectors}, nil
		}
		req := &engine.EmbedRequest{Model: "embed", Input: []string{"a", "b"}, Dimensions: 1}
		if _, err := b.Embed(t.Context(), b.call, req, inference.Base64); err == nil || engine.KindOf(err) != engine.Failed {
			t.Errorf("%v: %v", vectors, err)
		}
	}
}
