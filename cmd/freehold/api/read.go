package api

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/inference"
)

func (s *server) predictions(ctx context.Context, who caller, r *rest.Request) (page rest.List[inference.Prediction], err error) {
	limit, from, err := r.Page(20, 100)
	if err != nil {
		return page, err
	}
	// Erasure takes it. Who looks first at what would go must not be shown everybody's.
	if r.Query("user") != "" {
		return page, rest.Bad("user", "Predictions are not listed by user: what is kept of a user's name is a pseudonym.")
	}
	var after uuid.UUID
	if from != "" {
		if after, err = predictionID("after", from); err != nil {
			return page, err
		}
	}
	list, more, err := s.inference.Predictions(ctx, who.call(r), after, limit)
	return rest.NewList(list, more, func(p inference.Prediction) string { return p.ID }), err
}

func (s *server) prediction(ctx context.Context, who caller, r *rest.Request) (*inference.Prediction, error) {
	id, err := predictionID("id", r.Param("id"))
	if err != nil {
		return nil, err
	}
	return s.inference.Prediction(ctx, who.call(r), id)
}

// predictionID reads pred_<uuid>, in the one form that we write.
func predictionID(param, s string) (uuid.UUID, error) {
	bare, ok := strings.CutPrefix(s, inference.PredictionPrefix)
	id, err := uuid.Parse(bare)
	if !ok || err != nil || id.String() != bare {
		return uuid.Nil, rest.Bad(param, "Not the id of a prediction.")
	}
	return id, nil
}

// model is OpenAI's shape of a catalog.Model: of the engine behind it, nothing.
type model struct {
	ID      string `json:"id"`
	Object  string `json:"object"` // model
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func show(slug string, m catalog.Model) model {
	owner := "freehold"
	if strings.HasPrefix(m.Name, inference.TunedPrefix) {
		owner = slug
	}
	return model{ID: m.Name, Object: "model", Created: m.CreatedAt.Unix(), OwnedBy: owner}
}

func (s *server) models(ctx context.Context, who caller, r *rest.Request) (page rest.List[model], err error) {
	if err := s.confirmed(); err != nil {
		return page, err
	}
	list, err := s.inference.Models(ctx, who.call(r))
	shown := make([]model, len(list))
	for i, m := range list {
		shown[i] = show(who.Slug, m)
	}
	return rest.NewList(shown, false, nil), err
}

func (s *server) model(ctx context.Context, who caller, r *rest.Request) (model, error) {
	if err := s.confirmed(); err != nil {
		return model{}, err
	}
	m, err := s.inference.Model(ctx, who.call(r), r.Param("name"))
	return show(who.Slug, m), err
}

// confirmed refuses what no tenant's database would: with no fence to be asked,
// only the catalog can say that the caller may still be served.
func (s *server) confirmed() error {
	if !s.cache.Confirmed(time.Second) {
		return catalog.ErrUnavailable
	}
	return nil
}
