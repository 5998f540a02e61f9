package api

import (
	"context"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
)

// configuration is the policy in force, the tenant's and below it the key's own.
type configuration struct {
	Object string `json:"object"` // config
	catalog.TenantConfig
	// CustomModels are allowed beside allowed_models.
	CustomModels []string  `json:"custom_models" doc:"The tenant's own models: allowed as soon as they are made."`
	Key          keyPolicy `json:"api_key"`
}

type keyPolicy struct {
	ID                     string   `json:"id"`
	Scopes                 []string `json:"scopes"`
	AllowedModels          []string `json:"allowed_models" doc:"Null: all that the tenant may use."`
	MonthlyTokenLimit      *int64   `json:"monthly_token_limit" doc:"Null: no other than the tenant's."`
	ConcurrentRequestLimit *int     `json:"concurrent_request_limit" doc:"Null: no other than the tenant's."`
}

func (s *server) config(ctx context.Context, who caller, r *rest.Request) (configuration, error) {
	if err := s.confirmed(); err != nil {
		return configuration{}, err
	}
	list, err := s.inference.OwnModels(ctx, who.call(r))
	if err != nil {
		return configuration{}, err
	}
	own := make([]string, len(list))
	for i, m := range list {
		own[i] = m.Name
	}
	return configuration{Object: "config", TenantConfig: who.Config, CustomModels: own, Key: keyPolicy{
		ID: who.KeyID, Scopes: who.Scopes, AllowedModels: who.Limits.AllowedModels,
		MonthlyTokenLimit: who.Limits.MonthlyTokenLimit, ConcurrentRequestLimit: who.Limits.ConcurrentRequestLimit,
	}}, nil
}
