package fleet

import (
	"context"
	"errors"
	"fmt"

	"freehold/catalog"
	"freehold/tenantdb"
)

// schemaTuning is the first schema of Freehold's that has files, jobs and models.
const schemaTuning = 5

// inTenantTries is how often fn is called when the tenant's truth moves on meanwhile.
const inTenantTries = 3

// InTenant runs fn in a tenant's database, as its owner: what workers record. The
// connection lasts as long as fn. catalog.ErrConflict unless the tenant is active and
// its schema has what workers need; tenantdb.ErrUnavailable; fn's own error.
//
// What fn does is decided on the tenant as it is passed. When that has moved on, fn's
// tenantdb.ErrFenced has done nothing, and fn is called once more with the tenant as
// it is then: all that it does must bear to be done twice.
func (f *Fleet) InTenant(ctx context.Context, id catalog.TenantID,
	fn func(ctx context.Context, t catalog.Tenant, db *tenantdb.DB) error,
) error {
	for try := 1; ; try++ {
		err := f.inTenant(ctx, id, fn)
		if !errors.Is(err, tenantdb.ErrFenced) || try == inTenantTries {
			return err
		}
	}
}

func (f *Fleet) inTenant(ctx context.Context, id catalog.TenantID,
	fn func(ctx context.Context, t catalog.Tenant, db *tenantdb.DB) error,
) error {
	t, err := f.cat.Tenant(ctx, id)
	if err != nil {
		return err
	}
	if t.State != catalog.Active {
		return fmt.Errorf("work in tenant: it is %s: %w", t.State, catalog.ErrConflict)
	}
	if t.SchemaVersion < schemaTuning {
		return fmt.Errorf("work in tenant: its schema is %d: %w", t.SchemaVersion, catalog.ErrConflict)
	}
	v, err := f.enter(ctx, t)
	if err != nil {
		return fmt.Errorf("work in tenant: %w", err)
	}
	defer closeConn(ctx, v.conn)
	return fn(ctx, t, v.db)
}
