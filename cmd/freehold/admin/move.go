package admin

import (
	"context"
	"errors"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/tenantdb/fleet"
)

var moveQuery = []rest.Query{
	{Name: "to", Type: "string", Summary: "The server to live on; the least loaded of the region that takes it when left out."},
	{Name: "way", Type: "string", Summary: "auto, replication or copy."},
	{Name: "region", Type: "string", Summary: "Leave the tenant's region for this one."},
	{Name: "max_pause", Type: "string", Summary: "Longest that requests may wait, such as 10s."},
}

type moveRequest struct {
	To       string `json:"to,omitempty" doc:"A server's name; the least loaded of the region that takes it when left out."`
	Way      string `json:"way,omitempty" doc:"auto, replication or copy."`
	Region   string `json:"region,omitempty" doc:"Leave the tenant's region for this one."`
	Grace    string `json:"grace,omitempty" doc:"How long the old database is kept, such as 24h; a day when left out."`
	MaxPause string `json:"max_pause,omitempty" doc:"Longest that requests may wait, such as 10s; what takes longer is taken back."`
}

// options are what the fleet is told.
func (m moveRequest) options(who operator) (o fleet.MoveOptions, err error) {
	o = fleet.MoveOptions{To: m.To, Way: m.Way, Region: m.Region, Actor: string(who)}
	var errs []error
	for _, f := range []struct {
		name, text string
		into       *time.Duration
	}{{"grace", m.Grace, &o.Grace}, {"max_pause", m.MaxPause, &o.MaxPause}} {
		if f.text != "" {
			d, err := catalog.ParseAge(f.name, f.text)
			errs = append(errs, err)
			*f.into = d
		}
	}
	return o, errors.Join(errs...)
}

func (s *server) planMove(ctx context.Context, who operator, r *rest.Request) (fleet.MovePlan, error) {
	o, err := moveRequest{To: r.Query("to"), Way: r.Query("way"), Region: r.Query("region"), MaxPause: r.Query("max_pause")}.options(who)
	if err != nil {
		return fleet.MovePlan{}, err
	}
	t, err := s.catalog.TenantBySlug(ctx, r.Param("slug"))
	if err != nil {
		return fleet.MovePlan{}, err
	}
	plan, err := s.fleet.PlanMove(ctx, t.ID, o)
	return plan, noServer(o.To, err)
}

func (s *server) moveTenant(ctx context.Context, who operator, r *rest.Request, in moveRequest) (catalog.Operation, error) {
	o, err := in.options(who)
	if err != nil {
		return catalog.Operation{}, err
	}
	t, err := s.catalog.TenantBySlug(ctx, r.Param("slug"))
	if err != nil {
		return catalog.Operation{}, err
	}
	op, err := s.fleet.BeginMove(ctx, t.ID, o)
	if err != nil {
		return op, noServer(o.To, err)
	}
	s.audit(ctx, who, r, "tenant.move", t.ID, map[string]any{"slug": t.Slug, "operation": op.ID, "from": t.Server, "to": in.To})
	return op, nil
}

// noServer says that what isn't there is the server, when the tenant is.
func noServer(to string, err error) error {
	if to == "" || !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	e := *rest.Describe(err)
	e.Param, e.Message = "to", "No such server."
	return &e
}
