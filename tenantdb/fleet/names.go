package fleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
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
// whose they are. One that is away is told in the next pass; the error names those.
func (f *Fleet) NameDatabases(ctx context.Context) error {
	tenants, err := f.cat.Unnamed(ctx, namesSince, namesAtOnce)
	if err != nil {
		return fmt.Errorf("name databases: %w", err)
	}
	var errs []error
	for _, t := range tenants {
		if err := f.nameDatabase(ctx, t); err != nil {
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
