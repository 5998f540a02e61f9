package admin

import (
	"context"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/tenantdb/fleet"
)

var graceQuery = []rest.Query{{
	Name: "grace", Type: "string", Summary: "How long it can be taken back, such as 24h or 3d; 0 is not at all. A week when left out.",
}}

func (s *server) deleteTenant(ctx context.Context, who operator, r *rest.Request) (catalog.Operation, error) {
	o := fleet.DeleteOptions{Actor: string(who)}
	if text := r.Query("grace"); text != "" {
		if zero, err := time.ParseDuration(text); err == nil && zero == 0 {
			o.Now = true
		} else if o.Grace, err = catalog.ParseAge("grace", text); err != nil {
			return catalog.Operation{}, err
		}
	}
	t, err := s.catalog.TenantBySlug(ctx, r.Param("slug"))
	if err != nil {
		return catalog.Operation{}, err
	}
	op, err := s.fleet.Delete(ctx, t.ID, o)
	if err == nil || stands(err) {
		s.audit(ctx, who, r, "tenant.delete", t.ID, map[string]any{"slug": t.Slug, "operation": op.ID, "run_at": op.RunAt.UTC()})
	}
	return op, err
}

func (s *server) undelete(ctx context.Context, who operator, r *rest.Request) (catalog.Tenant, error) {
	return s.change(ctx, who, r, "tenant.undelete", s.fleet.Undelete)
}

func (s *server) receipt(ctx context.Context, _ operator, r *rest.Request) (fleet.SignedReceipt, error) {
	signed, _, err := s.fleet.Receipt(ctx, r.Param("slug"))
	return signed, err
}
