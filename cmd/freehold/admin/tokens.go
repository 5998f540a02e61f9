package admin

import (
	"context"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
)

type newOperator struct {
	Name      string     `json:"name"`
	Role      string     `json:"role" doc:"owner, operator or viewer."`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

type createdOperator struct {
	Operator catalog.Operator `json:"operator"`
	Token    string           `json:"token"`
}

func (s *server) tokens(ctx context.Context, _ operator, _ *rest.Request) (page rest.List[catalog.Operator], err error) {
	list, err := s.catalog.Operators(ctx)
	return rest.NewList(list, false, nil), err
}

func (s *server) createToken(ctx context.Context, who operator, r *rest.Request, in newOperator) (createdOperator, error) {
	o, token, err := s.catalog.CreateOperator(ctx, in.Name, in.Role, in.ExpiresAt)
	if err != nil {
		return createdOperator{}, err
	}
	s.audit(ctx, who, r, "token.create", catalog.TenantID{}, map[string]any{"operator": o.Name, "role": o.Role, "id": o.ID})
	return createdOperator{o, token}, nil
}

func (s *server) rotateToken(ctx context.Context, who operator, r *rest.Request) (createdOperator, error) {
	o, token, err := s.catalog.RotateOperator(ctx, r.Param("name"))
	if err != nil {
		return createdOperator{}, err
	}
	s.audit(ctx, who, r, "token.rotate", catalog.TenantID{}, map[string]any{"operator": o.Name, "id": o.ID})
	return createdOperator{o, token}, nil
}

func (s *server) revokeToken(ctx context.Context, who operator, r *rest.Request) (deleted, error) {
	o, err := s.catalog.RevokeOperator(ctx, r.Param("name"))
	if err != nil {
		return deleted{}, err
	}
	s.audit(ctx, who, r, "token.revoke", catalog.TenantID{}, map[string]any{"operator": o.Name})
	return deleted{o.Name, "operator", true}, nil
}
