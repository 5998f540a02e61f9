package inference

import (
	"context"

	"freehold/inference/engine"
)

// Kinds of predictions.
const (
	kindChat       = "chat"
	kindEmbedding  = "embedding"
	kindPrediction = "prediction"
)

// Chat answers whole; it returns after the settlement. Errors: ErrModelNotFound,
// ErrModelNotAllowed, *BadRequest, *Refusal, ErrMismatch, ErrNotKept, *engine.Error
// of the kinds Failed and Timeout, and ctx's cause when ctx ended first.
func (s *Service) Chat(ctx context.Context, c Call, req *engine.ChatRequest) (*engine.ChatResponse, error) {
	r, kept, err := s.chat(ctx, c, kindChat, req)
	if err != nil {
		return nil, err
	}
	if kept != nil {
		return decode[engine.ChatResponse](kept)
	}
	return r.resp, nil
}

// chatted is a chat that was answered whole.
type chatted struct {
	resp *engine.ChatResponse
	view *Prediction
}

// chat answers, or returns what was answered before under the Idempotency-Key: a
// ChatResponse, or a Prediction when kind is that.
func (s *Service) chat(ctx context.Context, c Call, kind string, req *engine.ChatRequest) (out chatted, kept []byte, err error) {
	var (
		sent *engine.ChatRequest
		r    *record
	)
	kept, err = s.first(ctx, c, func() (err error) {
		sent, r, err = s.admitChat(ctx, c, kind, req, false)
		return err
	})
	if err != nil || kept != nil {
		return out, kept, err
	}
	ctx, done := s.outlive(ctx, c)
	defer done()
	var resp *engine.ChatResponse
	begun, err := r.guard(ctx, func() (err error) {
		resp, err = r.model.engine.Chat(ctx, sent)
		if err == nil && (resp == nil || len(resp.Choices) == 0) {
			err = &engine.Error{Kind: engine.Failed, Message: "the engine gave no answer"}
		}
		return err
	})
	end := ending{err: err, unasked: !begun}
	if err == nil {
		end.usage, end.counted = resp.Usage, resp.Usage.TotalTokens > 0
		end.output = r.log(ctx, spoken(resp), end.counted)
		out.resp = r.privacy.restore(resp)
		out.resp.ID, out.resp.Object, out.resp.Created, out.resp.Model = r.chatID(), "chat.completion", r.created.Unix(), req.Model
		end.answer = out.resp
		if kind == kindPrediction {
			out.view = r.view(req.Model, end, r.log(ctx, spoken(out.resp), true))
			end.answer = out.view
		}
	}
	end, err = outcome(ctx, end)
	settled := r.settle(ctx, end)
	if err != nil {
		return chatted{}, nil, err
	}
	if out.view != nil && settled.IsZero() {
		out.view.SettledAt = nil // it is spooled
	}
	return out, nil, nil
}

// admitChat does what stands before an engine's work, whole or streamed: the model,
// the tenant's prompt, personal data, the bound of what will be sent, the limits.
func (s *Service) admitChat(ctx context.Context, c Call, kind string, req *engine.ChatRequest, streamed bool) (
	*engine.ChatRequest, *record, error,
) {
	m, err := s.serve(ctx, c, req.Model, chatModel)
	if err != nil {
		return nil, nil, err
	}
	p := s.privacy(c, true)
	sent, err := p.hide(prepare(c, m, req))
	if err != nil {
		return nil, nil, err
	}
	sent.Stream = streamed
	prompt, err := promptBound(m.Model, sent)
	if err != nil {
		return nil, nil, err
	}
	each, n := answerBound(m.Model, sent)
	r, err := s.record(c, m, kind, p, sent.Members())
	if err != nil {
		return nil, nil, err
	}
	grant, err := r.admit(ctx, asked{
		least: prompt + n, most: prompt + n*each, streamed: streamed, endUser: endUser(sent), store: stored(req),
	})
	if err != nil {
		return nil, nil, err
	}
	st := c.standing(grant)
	if left := (grant.Granted - prompt) / n; left < each {
		each = left
		st.MaxTokens = int(each)
	}
	most := int(each)
	bounded := *sent
	bounded.MaxTokens = &most
	c.tell(st)
	return &bounded, r, nil
}

// stored reports whether the request lets its payload be kept.
func stored(req *engine.ChatRequest) bool { return string(req.Params["store"]) != "false" }

func (r *record) chatID() string { return "chatcmpl-" + r.id.String() }

// answer is what is kept of a chat's answer.
type answer struct {
	Choices []said `json:"choices"`
	// UsageReported is there, and false, when the engine counted no tokens: then the
	// prediction's are the least that it can have been.
	UsageReported *bool `json:"usage_reported,omitempty"`
}

// said is one choice of it.
type said struct {
	Index        int    `json:"index"`
	Message      any    `json:"message"`
	FinishReason string `json:"finish_reason,omitempty"` // none: broken off

	*engine.Class // nil but for classifiers
}

func spoken(resp *engine.ChatResponse) []said {
	out := make([]said, len(resp.Choices))
	for i, c := range resp.Choices {
		out[i] = said{c.Index, c.Message, c.FinishReason, c.Class}
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
