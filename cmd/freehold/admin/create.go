package admin

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/tenantdb/fleet"
)

type newTenant struct {
	Slug   string            `json:"slug"`
	Name   string            `json:"name,omitempty"`
	Email  string            `json:"email,omitempty" doc:"Where the welcome mail goes; none without it."`
	Plan   string            `json:"plan,omitempty"`
	Region string            `json:"region,omitempty"`
	Server string            `json:"server,omitempty" doc:"A server's name; the least loaded one that takes it when left out."`
	Labels map[string]string `json:"labels,omitempty"`
	Pin    map[string]string `json:"pin,omitempty" doc:"Labels that its server must have."`
}

type createdTenant struct {
	Tenant catalog.Tenant `json:"tenant"`
	APIKey string         `json:"api_key" doc:"Shown once; empty when the same request was answered before."`
	// Operation is what makes the tenant, when the answer doesn't wait for it. The
	// key lets nobody in before that is done.
	Operation *catalog.Operation `json:"operation,omitempty"`
}

func (s *server) createTenant(ctx context.Context, who operator, r *rest.Request, in newTenant) (createdTenant, bool, error) {
	spec := catalog.TenantSpec{
		Slug: in.Slug, Name: in.Name, Email: in.Email, Plan: in.Plan, Region: in.Region, Server: in.Server, Labels: in.Labels,
		Pin: in.Pin, Actor: string(who), RequestKey: r.IdempotencyKey,
	}
	if spec.RequestKey != "" {
		sum := sha256.Sum256(r.Body)
		spec.RequestHash = sum[:]
	}
	var out createdTenant
	var err error
	if r.Async {
		var made catalog.Creation
		made, err = s.fleet.Register(ctx, spec)
		out.Tenant, out.APIKey = made.Tenant, made.Token
		if made.Operation.ID != "" {
			out.Operation = &made.Operation
		}
	} else {
		out.Tenant, out.APIKey, err = s.fleet.Create(ctx, spec)
	}
	_, unfinished := errors.AsType[*fleet.Unfinished](err)
	if err == nil || unfinished { // registered, and a worker goes on with it
		s.audit(ctx, who, r, "tenant.create", out.Tenant.ID, map[string]any{"slug": out.Tenant.Slug, "server": out.Tenant.Server})
	}
	if !unfinished && spec.Server != "" && errors.Is(err, catalog.ErrNotFound) {
		e := *rest.Describe(err)
		e.Param, e.Message = "server", "No such server."
		err = &e
	}
	if err != nil {
		return createdTenant{}, false, notMade(err)
	}
	return out, out.Operation != nil, nil
}

// notMade names the operation that goes on with a creation, in the words of what
// went wrong.
func notMade(err error) error {
	unfinished, ok := errors.AsType[*fleet.Unfinished](err)
	if !ok {
		return err
	}
	e := *rest.Describe(unfinished.Err)
	e.Message += " Operation " + unfinished.Operation.ID + " is " + unfinished.Operation.State + "."
	if unfinished.Operation.State == catalog.OperationWaiting {
		e.RetryAfter = max(time.Second, time.Until(unfinished.Operation.RunAt).Round(time.Second))
	}
	return &e
}
