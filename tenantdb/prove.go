package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

const selectIdentity = `
select i.tenant, current_database(), session_user, current_user
  from freehold.tenant_identity i`

// Prove checks, in one round trip on a new connection, that it stands in the
// tenant's own database as the tenant's own role: identity row, database, session
// user. ErrForeign otherwise; the caller closes the connection then.
func Prove(ctx context.Context, conn *pgx.Conn, id catalog.TenantID) error {
	var (
		tenant                  catalog.TenantID
		database, session, role string
	)
	// The simple protocol: a statement that runs once isn't worth a round trip to prepare.
	err := conn.QueryRow(ctx, selectIdentity, pgx.QueryExecModeSimpleProtocol).
		Scan(&tenant, &database, &session, &role)
	if err = Translate(ctx, err); err != nil {
		if unreadable(err) || errors.Is(err, ErrNotFound) {
			// No identity that this role can read: whatever it is, it isn't this tenant's.
			return fmt.Errorf("prove identity: %w: %s", ErrForeign, err.Error())
		}
		return fmt.Errorf("prove identity: %w", err)
	}
	own := id.DatabaseName()
	if tenant != id || database != own || session != own || role != own {
		return fmt.Errorf("prove identity: %w", ErrForeign)
	}
	return nil
}

// unreadable reports whether the server said that there is no such table, schema
// or column, or that they aren't this role's to read.
func unreadable(err error) bool {
	refused, ok := errors.AsType[*StateError](err)
	return ok && (strings.HasPrefix(refused.State, "42") || strings.HasPrefix(refused.State, "3F"))
}
