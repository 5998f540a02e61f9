package inference

import (
	"context"

	"freehold/inference/engine"
	"freehold/tenantdb"
)

// Kinds of predictions.
const (
	kindChat       = "chat"
	kindEmbedding  = "embedding"
	kindPrediction = "prediction"
)

// Chat answers whole; it returns after the settlement. Errors: ErrModelNotFound,
// ErrModelNotAllowed, *BadRequest, *engine.Error of the kinds Failed and Timeout,
// and ctx's cause when ctx ended first.
func (s *Service) Chat(ctx context.Context, c Call, req *engine.ChatRequest) (*engine.ChatResponse, error) {
	resp, _, err := s.chat(ctx, c, kindChat, req)
	return resp, err
}

func (s *Service) chat(ctx context.Context, c Call, kind string, req *engine.ChatRequest) (*engine.ChatResponse, *Prediction, error) {
	m, sent, r, err := s.admitChat(ctx, c, kind, req, false)
	if err != nil {
		return nil, nil, err
	}
	var resp *engine.ChatResponse
	err = r.guard(ctx, func() (err error) {
		resp, err = m.engine.Chat(ctx, sent)
		if err == nil && (resp == nil || len(resp.Choices) == 0) {
			err = &engine.Error{Kind: engine.Failed, Message: "the engine gave no answer"}
		}
		return err
	})
	end := ending{err: err}
	if err == nil {
		end.usage = resp.Usage
		end.output = r.log(ctx, spoken(resp), resp.Usage.TotalTokens > 0)
	}
	end, err = outcome(ctx, end)
	settled := r.settle(ctx, end)
	if err != nil {
		return nil, nil, err
	}
	out := *resp
	out.ID, out.Object, out.Created, out.Model = r.chatID(), "chat.completion", r.created.Unix(), req.Model
	return &out, r.view(kind, req.Model, sent, end, settled), nil
}

// admitChat does what stands before an engine's work, whole or streamed.
func (s *Service) admitChat(ctx context.Context, c Call, kind string, req *engine.ChatRequest, streamed bool) (
	served, *engine.ChatRequest, *record, error,
) {
	m, err := s.serve(ctx, c, req.Model, chatModel)
	if err != nil {
		return served{}, nil, nil, err
	}
	sent := prepare(c, m, req)
	sent.Stream = streamed
	r, err := s.admit(ctx, c, tenantdb.Prediction{
		Kind: kind, Model: m.Name, Streamed: streamed, EndUser: endUser(sent), Input: storable(sent.Members()),
	})
	return m, sent, r, err
}

func (r *record) chatID() string { return "chatcmpl-" + r.id.String() }

// answer is what is kept of a chat's answer.
type answer struct {
	Choices []said `json:"choices"`
	// UsageReported is there, and false, when the engine counted no tokens: then
	// the prediction's zeros mean that nobody knows.
	UsageReported *bool `json:"usage_reported,omitempty"`
}

// said is one choice of it.
type said struct {
	Index        int    `json:"index"`
	Message      any    `json:"message"`
	FinishReason string `json:"finish_reason,omitempty"` // none: broken off
}

func spoken(resp *engine.ChatResponse) []said {
	out := make([]said, len(resp.Choices))
	for i, c := range resp.Choices {
		out[i] = said{c.Index, c.Message, c.FinishReason}
	}
	return out
}

// log makes what is kept of an answer, nil when nothing was said.
func (r *record) log(ctx context.Context, choices []said, counted bool) any {
	if len(choices) == 0 {
		return nil
	}
	a := answer{Choices: choices}
	if !counted {
		a.UsageReported = new(bool)
		r.s.cfg.Logger.WarnContext(ctx, "engine reported no usage", r.ids()...)
	}
	return a
}
