package admin

import (
	"context"
	"fmt"
	"slices"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
)

var operationFilters = append([]rest.Query{
	{Name: "state", Type: "string", Summary: "Only operations in this state: waiting, running, done, failed or cancelled."},
	{Name: "kind", Type: "string", Summary: "Only operations of this kind, such as onboard or delete."},
	{Name: "tenant", Type: "string", Summary: "Only this tenant's operations."},
}, rest.Paging...)

func (s *server) operations(ctx context.Context, _ operator, r *rest.Request) (page rest.List[catalog.Operation], err error) {
	limit, after, err := r.Page(100, 1000)
	if err != nil {
		return page, err
	}
	state := r.Query("state")
	known := []string{
		"", catalog.OperationWaiting, catalog.OperationRunning, catalog.OperationDone, catalog.OperationFailed, catalog.OperationCancelled,
	}
	if !slices.Contains(known, state) {
		return page, rest.Bad("state", fmt.Sprintf("No such state: %q.", state))
	}
	// One more than asked for tells whether there are more.
	list, err := s.catalog.Operations(ctx, catalog.OperationFilter{
		State: state, Kind: r.Query("kind"), Tenant: r.Query("tenant"), After: after, Limit: limit + 1,
	})
	if err != nil {
		return page, err
	}
	return rest.Page(list, limit, func(o catalog.Operation) string { return o.ID }), nil
}

func (s *server) operation(ctx context.Context, _ operator, r *rest.Request) (catalog.Operation, error) {
	return s.catalog.Operation(ctx, r.Param("id"))
}

func (s *server) retryOperation(ctx context.Context, who operator, r *rest.Request) (catalog.Operation, error) {
	o, err := s.catalog.RetryOperation(ctx, r.Param("id"))
	return s.changed(ctx, who, r, "operation.retry", o, err)
}

func (s *server) cancelOperation(ctx context.Context, who operator, r *rest.Request) (catalog.Operation, error) {
	o, err := s.fleet.CancelOperation(ctx, r.Param("id"), string(who))
	return s.changed(ctx, who, r, "operation.cancel", o, err)
}

func (s *server) changed(ctx context.Context, who operator, r *rest.Request, action string, o catalog.Operation, err error) (catalog.Operation, error) {
	if err != nil {
		return catalog.Operation{}, err
	}
	s.audit(ctx, who, r, action, o.TenantID, map[string]any{"operation": o.ID, "kind": o.Kind})
	return o, nil
}
