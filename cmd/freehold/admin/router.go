package admin

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/router"
)

// How many of the busiest tenants are shown, and how many may be asked for.
const (
	defaultTop = 20
	maxTop     = 1000
)

var topQuery = []rest.Query{{Name: "top", Type: "integer", Summary: "How many of the busiest tenants; 20, at most 1000."}}

// nodeView is the router of the node that answers: each node has its own.
type nodeView struct {
	Node   string      `json:"node" doc:"Its name; nodes lists them."`
	NodeID string      `json:"node_id"`
	View   router.View `json:"view"`
}

func (s *server) routerView(_ context.Context, _ operator, r *rest.Request) (nodeView, error) {
	top := defaultTop
	if given := r.Query("top"); given != "" {
		var err error
		if top, err = strconv.Atoi(given); err != nil || top < 0 || top > maxTop {
			return nodeView{}, rest.Bad("top", "top is a whole number from 0 to 1000.")
		}
	}
	v := s.router.View(top)
	v.Servers, v.Tenants = listed(v.Servers), listed(v.Tenants)
	for i, t := range v.Tenants {
		v.Tenants[i] = complete(t)
	}
	return nodeView{cmp.Or(s.node, s.cache.NodeID()), s.cache.NodeID(), v}, nil
}

// listed makes an empty list of none at all: what is documented as a list is
// never null.
func listed[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func complete(t router.TenantView) router.TenantView {
	t.Errors, t.Decisions = listed(t.Errors), listed(t.Decisions)
	return t
}

func (s *server) explain(ctx context.Context, _ operator, r *rest.Request) (router.TenantView, error) {
	id, err := s.tenantID(ctx, r.Param("slug"))
	if err != nil {
		return router.TenantView{}, err
	}
	return s.explained(ctx, id)
}

func (s *server) reconnect(ctx context.Context, who operator, r *rest.Request) (router.TenantView, error) {
	slug := r.Param("slug")
	id, err := s.tenantID(ctx, slug)
	if err != nil {
		return router.TenantView{}, err
	}
	s.router.Reconnect(id)
	s.audit(ctx, who, r, "router.reconnect", id, map[string]any{"slug": slug, "node": s.cache.NodeID()})
	return s.explained(ctx, id)
}

func (s *server) explained(ctx context.Context, id catalog.TenantID) (router.TenantView, error) {
	t, err := s.router.Explain(ctx, id)
	if errors.Is(err, router.ErrUnknown) {
		// To a tenant's caller that is a bad key; the operator's key is good.
		return t, &rest.Error{
			Status: http.StatusConflict, Code: "conflict", Type: "invalid_request_error",
			Message: "The router doesn't serve this tenant: it is being made or deleted.", Err: err,
		}
	}
	return complete(t), err
}

// tenantID finds a tenant by its slug; while the catalog is away, among those
// that the router holds connections of. That is when somebody asks.
func (s *server) tenantID(ctx context.Context, slug string) (catalog.TenantID, error) {
	t, err := s.catalog.TenantBySlug(ctx, slug)
	if !errors.Is(err, catalog.ErrUnavailable) {
		return t.ID, err
	}
	for _, held := range s.router.View(maxTop).Tenants {
		if held.Slug == slug {
			return catalog.ParseTenantID(held.ID)
		}
	}
	return catalog.TenantID{}, err
}

func (s *server) prometheus(context.Context, operator, *rest.Request) ([]byte, error) {
	return s.metrics()
}
