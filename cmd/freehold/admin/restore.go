package admin

import (
	"context"
	"errors"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/tenantdb/fleet"
)

type restoreRequest struct {
	Backup string `json:"backup" doc:"A backup's id, latest, or a moment as in RFC 3339: the newest that isn't later."`
	Lost   bool   `json:"lost,omitempty" doc:"The database of now can't be read any more: nothing is taken along from it."`
}

func (s *server) restoreTenant(ctx context.Context, who operator, r *rest.Request, in restoreRequest) (op catalog.Operation, err error) {
	t, b, err := s.backupOf(ctx, r, in.Backup)
	if err != nil {
		return op, err
	}
	op, err = s.fleet.BeginRestore(ctx, t.ID, fleet.TenantRestore{Backup: b.ID, Actor: string(who), Lost: in.Lost})
	if err != nil {
		return op, err
	}
	s.audit(ctx, who, r, "tenant.restore", t.ID, map[string]any{
		"slug": t.Slug, "operation": op.ID, "backup": b.ID, "made_at": b.MadeAt.UTC(), "lost": in.Lost,
	})
	return op, nil
}

// backupOf finds the tenant that a route names, and one of its backups.
func (s *server) backupOf(ctx context.Context, r *rest.Request, which string) (t catalog.Tenant, b catalog.TenantBackup, err error) {
	if t, err = s.catalog.TenantBySlug(ctx, r.Param("slug")); err != nil {
		return t, b, err
	}
	b, err = s.catalog.TenantBackup(ctx, t.ID, which)
	if errors.Is(err, catalog.ErrNotFound) {
		e := *rest.Describe(err)
		e.Param, e.Message = "backup", "The tenant has no such backup."
		err = &e
	}
	return t, b, err
}

type restoreAsRequest struct {
	Backup string `json:"backup" doc:"A backup's id, latest, or a moment as in RFC 3339: the newest that isn't later."`
	Slug   string `json:"slug" doc:"The new tenant's."`
	Name   string `json:"name,omitempty"`
	Email  string `json:"email,omitempty"`
	Plan   string `json:"plan,omitempty" doc:"That of the tenant whose backup it is when left out."`
	Region string `json:"region,omitempty"`
	Server string `json:"server,omitempty" doc:"A server's name; the least loaded one that takes it when left out."`
}

func (s *server) restoreAs(ctx context.Context, who operator, r *rest.Request, in restoreAsRequest) (createdTenant, error) {
	from, b, err := s.backupOf(ctx, r, in.Backup)
	if err != nil {
		return createdTenant{}, err
	}
	made, err := s.fleet.RegisterRestoreAs(ctx, from.ID, catalog.TenantSpec{
		Slug: in.Slug, Name: in.Name, Email: in.Email, Plan: in.Plan, Region: in.Region, Server: in.Server, Actor: string(who),
	}, fleet.TenantRestore{Backup: b.ID, Actor: string(who)})
	if errors.Is(err, catalog.ErrNotFound) && in.Server != "" {
		e := *rest.Describe(err)
		e.Param, e.Message = "server", "No such server."
		err = &e
	}
	if err != nil {
		return createdTenant{}, err
	}
	s.audit(ctx, who, r, "tenant.restore", made.Tenant.ID, map[string]any{
		"slug": made.Tenant.Slug, "operation": made.Operation.ID, "from": from.Slug, "backup": b.ID,
	})
	return createdTenant{made.Tenant, made.Token, &made.Operation}, nil
}

func (s *server) confirmTenant(ctx context.Context, who operator, r *rest.Request) (catalog.Tenant, error) {
	return s.change(ctx, who, r, "tenant.confirm", func(ctx context.Context, id catalog.TenantID) error {
		return s.fleet.ConfirmTenant(ctx, id, string(who))
	})
}

func (s *server) revertTenant(ctx context.Context, who operator, r *rest.Request) (catalog.Operation, error) {
	t, err := s.catalog.TenantBySlug(ctx, r.Param("slug"))
	if err != nil {
		return catalog.Operation{}, err
	}
	op, err := s.fleet.BeginRevert(ctx, t.ID, string(who))
	if err != nil {
		return op, err
	}
	s.audit(ctx, who, r, "tenant.revert", t.ID, map[string]any{"slug": t.Slug, "operation": op.ID})
	return op, nil
}
