package inference

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"

	"freehold/inference/engine"
)

// EmbedFormat is how vectors are written.
type EmbedFormat string

// Float is an array of numbers; Base64 is base64 of little-endian float32, which
// the Node and Python SDKs always ask for.
const (
	Float  EmbedFormat = "float"
	Base64 EmbedFormat = "base64"
)

// Embed answers in OpenAI's list shape, after the settlement. Its errors are
// Chat's.
func (s *Service) Embed(ctx context.Context, c Call, req *engine.EmbedRequest, f EmbedFormat) (json.RawMessage, error) {
	m, err := s.serve(ctx, c, req.Model, embeddingModel)
	if err != nil {
		return nil, err
	}
	p := s.privacy(c, false) // the same text must give the same vector
	sent := *req
	sent.Model, sent.Scope, sent.User = m.upstream(), c.Scope, p.user(req.User)
	sent.Input = make([]string, len(req.Input))
	for i, text := range req.Input {
		sent.Input[i] = p.text(text)
	}
	if err := p.refuse(); err != nil {
		return nil, err
	}
	var r *record
	kept, err := s.first(ctx, c, func() error {
		if r, err = s.record(c, m, kindEmbedding, p, embedInput(&sent)); err != nil {
			return err
		}
		tokens := embedBound(m.Model, sent.Input)
		grant, err := r.admit(ctx, asked{
			least: tokens, most: tokens, endUser: sent.User, store: req.Store == nil || *req.Store,
		})
		if err == nil {
			c.tell(c.standing(grant))
		}
		return err
	})
	if err != nil || kept != nil {
		return kept, err
	}
	ctx, done := s.outlive(ctx, c)
	defer done()
	var resp *engine.EmbedResponse
	begun, err := r.guard(ctx, func() (err error) {
		if resp, err = m.engine.Embed(ctx, &sent); err != nil {
			return err
		}
		return checkVectors(&sent, resp)
	})
	end := ending{err: err, unasked: !begun}
	var out json.RawMessage
	if err == nil {
		end.usage, end.counted = resp.Usage, resp.Usage.PromptTokens > 0
		end.usage.CompletionTokens = 0
		end.output = map[string]int{"count": len(resp.Vectors), "dimensions": len(resp.Vectors[0])}
		out = embedList(req.Model, resp, f)
		end.answer = out
	}
	end, err = outcome(ctx, end)
	r.settle(ctx, end)
	if err != nil {
		return nil, err
	}
	return out, nil
}

func embedInput(req *engine.EmbedRequest) map[string]any {
	in := map[string]any{"input": req.Input}
	if req.Dimensions > 0 {
		in["dimensions"] = req.Dimensions
	}
	return in
}

// checkVectors makes sure that an engine kept its contract: what follows writes
// numbers without looking.
func checkVectors(req *engine.EmbedRequest, resp *engine.EmbedResponse) error {
	wrong := &engine.Error{Kind: engine.Failed, Message: "the engine's vectors are not one for each input, all of one length"}
	if resp == nil || len(resp.Vectors) != len(req.Input) || len(resp.Vectors) == 0 {
		return wrong
	}
	want := len(resp.Vectors[0])
	if req.Dimensions > 0 {
		want = req.Dimensions
	}
	for _, v := range resp.Vectors {
		if len(v) == 0 || len(v) != want {
			return wrong
		}
		for _, x := range v {
			if f := float64(x); math.IsNaN(f) || math.IsInf(f, 0) {
				return &engine.Error{Kind: engine.Failed, Message: "the engine's vectors hold what is not a number"}
			}
		}
	}
	return nil
}

// embedList writes the answer by hand: reflection over a few hundred thousand
// numbers would cost more than the rest of the request.
func embedList(model string, resp *engine.EmbedResponse, f EmbedFormat) json.RawMessage {
	size := 256
	for _, v := range resp.Vectors {
		size += 64 + 12*len(v)
	}
	b := append(make([]byte, 0, size), `{"object":"list","data":[`...)
	for i, v := range resp.Vectors {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"object":"embedding","index":`...)
		b = strconv.AppendInt(b, int64(i), 10)
		b = append(b, `,"embedding":`...)
		if f == Base64 {
			b = appendBase64(b, v)
		} else {
			b = appendFloats(b, v)
		}
		b = append(b, '}')
	}
	b = append(append(b, `],"model":`...), marshal(model)...)
	b = append(append(b, `,"usage":`...), marshal(map[string]int64{
		"prompt_tokens": resp.Usage.PromptTokens, "total_tokens": resp.Usage.TotalTokens,
	})...)
	return append(b, '}')
}

func appendFloats(b []byte, v []float32) []byte {
	b = append(b, '[')
	for i, x := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, float64(x), 'g', -1, 32)
	}
	return append(b, ']')
}

func appendBase64(b []byte, v []float32) []byte {
	raw := make([]byte, 0, 4*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	b = append(b, '"')
	b = base64.StdEncoding.AppendEncode(b, raw)
	return append(b, '"')
}
