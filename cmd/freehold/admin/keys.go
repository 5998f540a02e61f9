package admin

import (
	"context"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
)

type newKey struct {
	Name      string     `json:"name,omitempty"`
	Scopes    []string   `json:"scopes"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`

	AllowedModels          []string `json:"allowed_models,omitempty" doc:"Names, or prefixes with an asterisk; all of the tenant's when left out."`
	MonthlyTokenLimit      *int64   `json:"monthly_token_limit,omitempty" doc:"No other than the tenant's when left out."`
	ConcurrentRequestLimit *int     `json:"concurrent_request_limit,omitempty" doc:"No other than the tenant's when left out."`
}

type createdKey struct {
	Key   catalog.Key `json:"key"`
	Token string      `json:"token" doc:"Shown once; empty when the same request was answered before."`
}

func (s *server) keys(ctx context.Context, _ operator, r *rest.Request) (page rest.List[catalog.Key], err error) {
	t, err := s.catalog.TenantBySlug(ctx, r.Param("slug"))
	if err != nil {
		return page, err
	}
	list, err := s.catalog.Keys(ctx, t.ID)
	return rest.NewList(list, false, nil), err
}

func (s *server) createKey(ctx context.Context, who operator, r *rest.Request, in newKey) (createdKey, error) {
	t, err := s.catalog.TenantBySlug(ctx, r.Param("slug"))
	if err != nil {
		return createdKey{}, err
	}
	spec := catalog.KeySpec{
		Name: in.Name, Scopes: in.Scopes, ExpiresAt: in.ExpiresAt, Actor: string(who), AllowedModels: in.AllowedModels,
		MonthlyTokenLimit: in.MonthlyTokenLimit, ConcurrentRequestLimit: in.ConcurrentRequestLimit,
	}
	if r.IdempotencyKey != "" {
		spec.RequestKey, spec.RequestHash = "operator:"+string(who)+"/"+r.IdempotencyKey, r.Hash()
	}
	key, token, err := s.catalog.CreateKey(ctx, t.ID, spec)
	return createdKey{key, token}, err
}

func (s *server) patchKey(ctx context.Context, who operator, r *rest.Request, in catalog.KeyPatch) (catalog.Key, error) {
	t, err := s.catalog.TenantBySlug(ctx, r.Param("slug"))
	if err != nil {
		return catalog.Key{}, err
	}
	id := r.Param("id")
	key, err := s.fleet.PatchKey(ctx, t.ID, id, in)
	if err == nil || stands(err) {
		s.audit(ctx, who, r, "key.set", t.ID, map[string]any{"key": id, "names": in.Names()})
	}
	return key, err
}

func (s *server) revokeKey(ctx context.Context, who operator, r *rest.Request) (deleted, error) {
	t, err := s.catalog.TenantBySlug(ctx, r.Param("slug"))
	if err != nil {
		return deleted{}, err
	}
	id := r.Param("id")
	err = s.fleet.RevokeKey(ctx, t.ID, id)
	if err == nil || stands(err) {
		s.audit(ctx, who, r, "key.revoke", t.ID, map[string]any{"key": id})
	}
	return deleted{id, "api_key", true}, err
}
