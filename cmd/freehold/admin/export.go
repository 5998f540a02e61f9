package admin

import (
	"context"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/tenantdb/fleet"
)

// exportView is an export with the address that it can be downloaded from.
type exportView struct {
	catalog.Export

	URL string `json:"url,omitempty" doc:"Whoever has it can download the export, for at most 15 minutes."`
}

func (s *server) beginExport(ctx context.Context, who operator, r *rest.Request) (catalog.Operation, error) {
	t, err := s.catalog.TenantBySlug(ctx, r.Param("slug"))
	if err != nil {
		return catalog.Operation{}, err
	}
	e, err := s.fleet.BeginExport(ctx, t.ID, fleet.ExportOptions{Actor: "operator:" + string(who)}) // tells the audit
	if err != nil {
		return catalog.Operation{}, err
	}
	return s.catalog.Operation(ctx, e.ID)
}

func (s *server) exports(ctx context.Context, _ operator, r *rest.Request) (page rest.List[catalog.Export], err error) {
	limit, after, err := r.Page(100, 1000)
	if err != nil {
		return page, err
	}
	t, err := s.catalog.TenantBySlug(ctx, r.Param("slug"))
	if err != nil {
		return page, err
	}
	list, err := s.catalog.Exports(ctx, t.ID, after, limit+1) // one more tells that there are more
	if err != nil {
		return page, err
	}
	return rest.Page(list, limit, func(e catalog.Export) string { return e.ID }), nil
}

func (s *server) export(ctx context.Context, _ operator, r *rest.Request) (v exportView, err error) {
	t, err := s.catalog.TenantBySlug(ctx, r.Param("slug"))
	if err != nil {
		return v, err
	}
	if v.Export, err = s.catalog.Export(ctx, t.ID, r.Param("id")); err != nil || v.State != catalog.ExportDone {
		return v, err
	}
	v.URL, err = s.fleet.ExportURL(ctx, v.Export)
	return v, err
}
