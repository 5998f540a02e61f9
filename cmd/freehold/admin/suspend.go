package admin

import (
	"context"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
)

func (s *server) suspend(ctx context.Context, who operator, r *rest.Request) (catalog.Tenant, error) {
	return s.change(ctx, who, r, "tenant.suspend", s.fleet.Suspend)
}

func (s *server) resume(ctx context.Context, who operator, r *rest.Request) (catalog.Tenant, error) {
	return s.change(ctx, who, r, "tenant.resume", s.fleet.Resume)
}

// change moves the tenant to another state and answers it as it is then.
func (s *server) change(ctx context.Context, who operator, r *rest.Request, action string, to func(context.Context, catalog.TenantID) error) (catalog.Tenant, error) {
	t, err := s.catalog.TenantBySlug(ctx, r.Param("slug"))
	if err != nil {
		return t, err
	}
	err = to(ctx, t.ID)
	if err == nil || stands(err) {
		s.audit(ctx, who, r, action, t.ID, map[string]any{"slug": t.Slug})
	}
	if err != nil {
		return t, err
	}
	return s.catalog.Tenant(ctx, t.ID)
}
