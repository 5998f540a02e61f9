package admin

import (
	"context"
	"time"

	"freehold/cmd/freehold/need"
	"freehold/cmd/freehold/rest"
	"freehold/router"
)

// status is what an operator looks at first.
type status struct {
	Version   string       `json:"version"`
	Confirmed bool         `json:"catalog_confirmed" doc:"The catalog answered this node within the last second."`
	Router    router.Stats `json:"router" doc:"Of the node that answers."`
	need.Status
}

func (s *server) status(ctx context.Context, _ operator, _ *rest.Request) (status, error) {
	now, err := need.Look(ctx, s.catalog)
	if err != nil {
		return status{}, err
	}
	return status{Version: s.version, Confirmed: s.cache.Confirmed(time.Second), Router: s.router.View(0).Stats, Status: now}, nil
}
