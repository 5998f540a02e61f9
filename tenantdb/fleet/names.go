package fleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb"
)

// namesSince is the schema version whose identity row has room for names.
const namesSince = 3

const updateNames = `
update freehold.tenant_identity set slug = $1, name = $2, email = $3, plan = $4`

// writeNames tells a database whose it is in words, for whoever loses the catalog.
func writeNames(ctx context.Context, conn *pgx.Conn, t catalog.Tenant, version int64) error {
	if version < namesSince {
		return nil
	}
	_, err := conn.Exec(ctx, updateNames, t.Slug, t.Name, t.Email, t.Plan)
	return translate(ctx, err)
}

// namesAtOnce bounds one pass of NameDatabases.
const namesAtOnce = 200

// NameDatabases tells the databases that were claimed, or are of an older release,
// whose they are. Those of a server that is away are told in a later pass; the error
// names the first of them.
func (f *Fleet) NameDatabases(ctx context.Context) error {
	tenants, err := f.cat.Unnamed(ctx, namesSince, namesAtOnce)
	if err != nil {
		return fmt.Errorf("name databases: %w", err)
	}
	var errs []error
	away := map[string]bool{} // one that takes no connection is waited for once
	for _, t := range tenants {
		if away[t.Server] || ctx.Err() != nil {
			continue
		}
		if err := f.nameDatabase(ctx, t); err != nil {
			away[t.Server] = errors.Is(err, tenantdb.ErrUnavailable)
			errs = append(errs, fmt.Errorf("name database: tenant %s: %s", t.Slug, reason(ctx, err)))
		}
	}
	return errors.Join(errs...)
}

func (f *Fleet) nameDatabase(ctx context.Context, t catalog.Tenant) error {
	conn, err := f.owner(ctx, t)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	if err := writeNames(ctx, conn, t, t.SchemaVersion); err != nil {
		return err
	}
	return f.cat.SetNamed(ctx, t.ID)
}
