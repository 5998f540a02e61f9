package inference

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"freehold/inference/engine"
	"freehold/tenantdb"
)

// Prediction is an answered (or failed) request of any kind, as the tenant sees it.
type Prediction struct {
	ID        string `json:"id"`     // pred_<uuid>
	Object    string `json:"object"` // prediction
	CreatedAt int64  `json:"created_at"`
	Kind      string `json:"kind"` // chat, embedding or prediction
	Model     string `json:"model"`
	State     string `json:"state"` // in_progress, succeeded, failed, cancelled or interrupted
	// Inputs is what was sent to the engine, in the shape of a request.
	Inputs json.RawMessage `json:"inputs,omitempty"`
	// Output is null or an object: text and, of chats, choices; of classifiers, label,
	// scores and abstained too; of embeddings, count and dimensions.
	Output    json.RawMessage `json:"output"`
	Usage     *engine.Usage   `json:"usage"` // null until settled
	ErrorCode string          `json:"error_code,omitempty"`
	SettledAt *int64          `json:"settled_at"`
}

// PredictionPrefix begins the id of a Prediction; a uuid follows.
const PredictionPrefix = "pred_"

// Predictions lists newest first, those older than after unless it is zero; more
// says whether there are others. limit is 20 when it isn't positive, and at most 100.
func (s *Service) Predictions(ctx context.Context, c Call, after uuid.UUID, limit int) (list []Prediction, more bool, err error) {
	if limit <= 0 {
		limit = 20
	}
	limit = min(limit, 100)
	var rows []tenantdb.Prediction
	err = c.Tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) (err error) {
		rows, err = db.Predictions(ctx, after, limit+1)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	if more = len(rows) > limit; more {
		rows = rows[:limit]
	}
	list = make([]Prediction, len(rows))
	for i, row := range rows {
		list[i] = shown(row)
	}
	return list, more, nil
}

// Prediction reads one; tenantdb.ErrNotFound.
func (s *Service) Prediction(ctx context.Context, c Call, id uuid.UUID) (*Prediction, error) {
	var row tenantdb.Prediction
	err := c.Tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) (err error) {
		row, err = db.Prediction(ctx, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	p := shown(row)
	return &p, nil
}

// view is the prediction as it is about to be settled, with the output as its
// client gets it.
func (r *record) view(model string, e ending, output any) *Prediction {
	state, code := e.state()
	now := time.Now()
	row := tenantdb.Prediction{
		ID: r.id, Kind: r.kind, Model: model, State: state, ErrorCode: code, Output: storable(output),
		PromptTokens: e.usage.PromptTokens, CompletionTokens: e.usage.CompletionTokens, CreatedAt: r.created, SettledAt: &now,
	}
	if r.keep {
		row.Input = r.input
	}
	p := shown(row)
	return &p
}

func shown(row tenantdb.Prediction) Prediction {
	p := Prediction{
		ID: PredictionPrefix + row.ID.String(), Object: "prediction", CreatedAt: row.CreatedAt.Unix(),
		Kind: row.Kind, Model: row.Model, State: row.State, Inputs: row.Input, Output: row.Output, ErrorCode: row.ErrorCode,
	}
	if row.SettledAt != nil {
		at := row.SettledAt.Unix()
		p.SettledAt = &at
	}
	if row.State != "in_progress" {
		p.Usage = &engine.Usage{
			PromptTokens: row.PromptTokens, CompletionTokens: row.CompletionTokens,
			TotalTokens: row.PromptTokens + row.CompletionTokens,
		}
	}
	if row.Kind != kindEmbedding && row.Output != nil {
		p.Output = shownAnswer(row.Kind, row.Output)
	}
	return p
}

// shownAnswer puts the first choice's text beside the choices; a prediction has
// one, so that its text is all.
func shownAnswer(kind string, output json.RawMessage) json.RawMessage {
	var kept struct {
		Choices []struct {
			Index        int             `json:"index"`
			Message      json.RawMessage `json:"message"`
			FinishReason string          `json:"finish_reason,omitempty"`
			*engine.Class
		} `json:"choices"`
		UsageReported *bool `json:"usage_reported,omitempty"`
	}
	if json.Unmarshal(output, &kept) != nil || len(kept.Choices) == 0 {
		return output
	}
	var first engine.Message
	if json.Unmarshal(kept.Choices[0].Message, &first) != nil {
		return output
	}
	out := map[string]any{"text": first.Text()}
	if kept.UsageReported != nil {
		out["usage_reported"] = *kept.UsageReported
	}
	if class := kept.Choices[0].Class; class != nil && class.Label != "" {
		out["label"], out["scores"] = class.Label, class.Scores
		if class.Abstained {
			out["abstained"] = true
		}
	}
	if kind == kindPrediction {
		out["finish_reason"] = kept.Choices[0].FinishReason
	} else {
		out["choices"] = kept.Choices
	}
	return marshal(out)
}
