package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"
)

const appendAudit = `select append_operator_audit($1, $2, $3, $4)`

// AppendAudit adds a row to what operators did, bound to the row before it. The
// zero tenant is none. Detail holds names and figures, never a secret.
func (c *Catalog) AppendAudit(ctx context.Context, actor, action string, tenant TenantID, detail map[string]any) error {
	if detail == nil {
		detail = map[string]any{}
	}
	text, err := json.Marshal(detail)
	errs := []error{
		line("actor", actor, maxName),
		line("action", action, maxShort),
	}
	if action == "" {
		errs = append(errs, errors.New("action: missing"))
	}
	if err != nil || len(text) > maxAuditDetails {
		errs = append(errs, errors.New("detail: not JSON, or too much of it"))
	}
	if err := invalid(errs...); err != nil {
		return fmt.Errorf("append audit: %w", err)
	}
	_, err = c.writer.Exec(ctx, appendAudit, actor, action,
		pgtype.UUID{Bytes: tenant.u, Valid: !tenant.IsZero()}, text)
	return wrap("append audit", err)
}
