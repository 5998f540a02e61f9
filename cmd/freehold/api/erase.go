package api

import (
	"context"
	"time"

	"freehold/cmd/freehold/rest"
	"freehold/inference"
)

// eraseTime bounds the erasure of an end user: it goes batch by batch, and the same
// call goes on.
const eraseTime = 10 * time.Minute

type erasedPrediction struct {
	ID      string `json:"id"`
	Object  string `json:"object"` // prediction
	Deleted bool   `json:"deleted"`
}

func (s *server) erasePrediction(ctx context.Context, who caller, r *rest.Request) (erasedPrediction, error) {
	id, err := predictionID("id", r.Param("id"))
	if err != nil {
		return erasedPrediction{}, err
	}
	if err := s.inference.Erase(ctx, who.call(r), id); err != nil {
		return erasedPrediction{}, err
	}
	return erasedPrediction{r.Param("id"), "prediction", true}, nil
}

func (s *server) eraseUser(ctx context.Context, who caller, r *rest.Request) (inference.Erasure, error) {
	user := r.Query("user")
	if user == "" {
		return inference.Erasure{}, rest.Bad("user", "user must name the end user whose predictions are to be erased.")
	}
	return s.inference.EraseUser(ctx, who.call(r), user)
}
