package admin

import (
	"context"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/tenantdb/fleet"
)

type newDrain struct {
	To          string `json:"to,omitempty" doc:"The server that they go to; wherever there is room for each when left out."`
	Way         string `json:"way,omitempty" doc:"auto, replication or copy; auto when left out."`
	Parallel    int    `json:"parallel,omitempty" doc:"Moves at a time; 4 when left out."`
	MaxFailures *int   `json:"max_failures,omitempty" doc:"Moves that may fail before it is halted; 3 when left out."`
}

// beginDrain begins a drain that workers do, or has an open one go on.
func (s *server) beginDrain(ctx context.Context, who operator, r *rest.Request, in newDrain) (catalog.DrainStatus, error) {
	spec := catalog.DrainSpec{
		Server: r.Param("name"), Actor: string(who), To: in.To, Way: in.Way, Parallel: in.Parallel, MaxFailures: fleet.DefaultDrainFailures,
	}
	if spec.Parallel == 0 {
		spec.Parallel = fleet.DefaultDrainParallel
	}
	if in.MaxFailures != nil {
		spec.MaxFailures = *in.MaxFailures
	}
	d, err := s.catalog.BeginDrain(ctx, spec, catalog.Taker{})
	if err != nil {
		return catalog.DrainStatus{}, err
	}
	return s.catalog.DrainStatus(ctx, d.ID)
}

func (s *server) showDrain(ctx context.Context, _ operator, r *rest.Request) (catalog.DrainStatus, error) {
	d, err := s.catalog.DrainOf(ctx, r.Param("name"))
	if err != nil {
		return catalog.DrainStatus{}, err
	}
	return s.catalog.DrainStatus(ctx, d.ID)
}

func (s *server) cancelDrain(ctx context.Context, who operator, r *rest.Request) (catalog.DrainStatus, error) {
	d, err := s.catalog.CancelDrain(ctx, r.Param("name"), string(who))
	if err != nil {
		return catalog.DrainStatus{}, err
	}
	return s.catalog.DrainStatus(ctx, d.ID)
}
