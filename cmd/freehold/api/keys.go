package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/tenantdb/fleet"
)

// Keys is what the door does with a tenant's own keys. All functions are required.
type Keys struct {
	List   func(ctx context.Context, id catalog.TenantID) ([]catalog.Key, error)
	Create func(ctx context.Context, id catalog.TenantID, spec catalog.KeySpec) (catalog.Key, string, error)
	// Revoke binds on every node before it returns: fleet.RevokeKey.
	Revoke func(ctx context.Context, id catalog.TenantID, key string) error
	// Audit writes down who did what to the tenant: catalog.AppendAudit.
	Audit func(ctx context.Context, actor, action string, id catalog.TenantID, detail map[string]any) error
}

func (k Keys) missing() bool {
	return k.List == nil || k.Create == nil || k.Revoke == nil || k.Audit == nil
}

// revocations is how many run at a time: each has a connection of the server's
// admin, which tenants shall not take from each other.
const revocations = 2

// auditTimeout bounds the writing of an audit row.
const auditTimeout = 5 * time.Second

type key struct {
	ID        string   `json:"id"`
	Object    string   `json:"object"` // api_key
	Name      string   `json:"name"`
	Scopes    []string `json:"scopes"`
	CreatedAt int64    `json:"created_at"`
	ExpiresAt *int64   `json:"expires_at"`
	RevokedAt *int64   `json:"revoked_at"`

	AllowedModels          []string `json:"allowed_models" doc:"Null: all that the tenant may use."`
	MonthlyTokenLimit      *int64   `json:"monthly_token_limit" doc:"Null: no other than the tenant's."`
	ConcurrentRequestLimit *int     `json:"concurrent_request_limit" doc:"Null: no other than the tenant's."`
}

func showKey(k catalog.Key) key {
	return key{
		ID: k.ID, Object: "api_key", Name: k.Name, Scopes: k.Scopes, CreatedAt: k.CreatedAt.Unix(),
		ExpiresAt: seconds(k.ExpiresAt), RevokedAt: seconds(k.RevokedAt), AllowedModels: k.AllowedModels,
		MonthlyTokenLimit: k.MonthlyTokenLimit, ConcurrentRequestLimit: k.ConcurrentRequestLimit,
	}
}

func seconds(t *time.Time) *int64 {
	if t == nil {
		return nil
	}
	s := t.Unix()
	return &s
}

type newKey struct {
	Name      string     `json:"name,omitempty"`
	Scopes    []string   `json:"scopes" doc:"Of those that the calling key holds."`
	ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"No later than the calling key does."`

	AllowedModels          []string `json:"allowed_models,omitempty" doc:"Names, or prefixes with an asterisk, of those that the calling key may use."`
	MonthlyTokenLimit      *int64   `json:"monthly_token_limit,omitempty"`
	ConcurrentRequestLimit *int     `json:"concurrent_request_limit,omitempty"`
}

type createdKey struct {
	key
	Token string `json:"token,omitempty" doc:"Shown once; left out when the same request was answered before."`
}

func (s *server) keys(ctx context.Context, who caller, r *rest.Request) (page rest.List[key], err error) {
	limit, after, err := r.Page(20, 100)
	if err != nil {
		return page, err
	}
	if err := s.confirmed(); err != nil {
		return page, err
	}
	list, err := s.manage.List(ctx, who.Tenant)
	if err != nil {
		return page, err
	}
	if after != "" {
		at := slices.IndexFunc(list, func(k catalog.Key) bool { return k.ID == after })
		if at < 0 {
			return page, rest.Bad("after", "No such key.")
		}
		list = list[at+1:]
	}
	shown := make([]key, 0, min(limit+1, len(list))) // one more tells that there are more
	for _, k := range list[:min(limit+1, len(list))] {
		shown = append(shown, showKey(k))
	}
	return rest.Page(shown, limit, func(k key) string { return k.ID }), nil
}

func (s *server) createKey(ctx context.Context, who caller, r *rest.Request, in newKey) (createdKey, error) {
	if err := s.confirmed(); err != nil {
		return createdKey{}, err
	}
	spec, err := who.Delegate(catalog.KeySpec{
		Name: in.Name, Scopes: in.Scopes, ExpiresAt: in.ExpiresAt, AllowedModels: in.AllowedModels,
		MonthlyTokenLimit: in.MonthlyTokenLimit, ConcurrentRequestLimit: in.ConcurrentRequestLimit,
	})
	if err != nil {
		return createdKey{}, notHeld(err)
	}
	spec.Actor = who.actor()
	if r.IdempotencyKey != "" {
		spec.RequestKey, spec.RequestHash = who.actor()+"/"+r.IdempotencyKey, r.Hash()
	}
	made, token, err := s.manage.Create(ctx, who.Tenant, spec)
	return createdKey{showKey(made), token}, err
}

// actor is how the audit names who calls.
func (c caller) actor() string { return "key:" + c.KeyID }

// notHeld answers for a key that would give more than it has.
func notHeld(err error) error {
	e, ok := errors.AsType[*catalog.NotHeld](err)
	if !ok {
		return err
	}
	return &rest.Error{
		Status: http.StatusForbidden, Code: "insufficient_scope", Type: "invalid_request_error", Param: e.Field,
		Message: "This API key can't give that: " + e.Text + ".", Err: err,
	}
}

// deleted is how a removal is answered.
type deleted struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Deleted bool   `json:"deleted"`
}

func (s *server) revokeKey(ctx context.Context, who caller, r *rest.Request) (deleted, error) {
	if err := s.confirmed(); err != nil {
		return deleted{}, err
	}
	select {
	case s.revoking <- struct{}{}:
		defer func() { <-s.revoking }()
	case <-ctx.Done():
		return deleted{}, ctx.Err()
	}
	id := r.Param("id")
	err := s.manage.Revoke(ctx, who.Tenant, id)
	if err == nil || errors.Is(err, fleet.ErrUnfenced) {
		// The change stands already: it is written down also when its caller has gone.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
		defer cancel()
		if aerr := s.manage.Audit(ctx, who.actor(), "key.revoke", who.Tenant, map[string]any{"key": id}); aerr != nil {
			s.log.ErrorContext(ctx, "change without an audit row", "action", "key.revoke", "request_id", r.ID, "error", aerr)
		}
	}
	return deleted{id, "api_key", true}, err
}
