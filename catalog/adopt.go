package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Adoption is a database that is to be a tenant's, as it was found on a server.
type Adoption struct {
	ID                      TenantID
	Server                  string // its name
	Slug, Name, Email, Plan string
	Fence                   int64 // of its identity row: the tenant's epochs begin above it
	SchemaVersion           int64
	ProductVersion          int64
}

// Who has a key, or an operation, is no adoption that was left half done.
const (
	selectAdopted = `
select t.slug, t.state,
       exists (select from api_keys k where k.tenant = t.id) or exists (select from operations o where o.tenant = t.id) as whole
  from tenants t where t.id = $1 for no key update of t`

	selectAdoptServer = `select id::text, region from servers where name = $1`

	selectReadyOne = `select true from ready_databases where id = $1`

	insertAdopted = `
insert into tenants (id, slug, name, email, plan, region, state, server_id, database, role, secret, secret_key_id,
                     epoch, schema_version, product_version)
values ($1, $2, $3, $4, $5, $6, 'provisioning', $7, $8, $8, $9, $10, 0, $11, $12)`
)

// AdoptTenant registers a database as a tenant that is being made: row, default
// configuration, a new sealed secret, an epoch above the fence. Who makes its role
// fit then activates it and gives it a key. Called again before that, with the same
// slug, it answers the same tenant. ErrConflict when the catalog knows the tenant
// or the slug is taken, ErrNotFound for an unknown server.
func (c *Catalog) AdoptTenant(ctx context.Context, a Adoption) (t Tenant, err error) {
	a.Name, a.Plan = orDefault(a.Name, a.Slug), orDefault(a.Plan, "standard")
	if err := (TenantSpec{Slug: a.Slug, Name: a.Name, Email: a.Email, Plan: a.Plan, Server: a.Server}).validate(); err != nil {
		return t, fmt.Errorf("adopt tenant: %w", err)
	}
	sealed, keyID, err := c.keyset.Seal([]byte(newPassword()), tenantAAD(a.ID))
	if err != nil {
		return t, err
	}
	err = pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
		var slug string
		var state State
		var whole, ready bool
		switch err := tx.QueryRow(ctx, selectAdopted, a.ID).Scan(&slug, &state, &whole); {
		case err == nil && !whole && slug == a.Slug && (state == Provisioning || state == Active):
			t, err = queryTenant(ctx, tx, selectTenant+` where t.id = $1`, a.ID)
			return err
		case err == nil:
			return fmt.Errorf("adopt tenant: it is tenant %s, which is %s: %w", slug, state, ErrConflict)
		case !errors.Is(err, pgx.ErrNoRows):
			return err
		}
		switch err := tx.QueryRow(ctx, selectReadyOne, a.ID).Scan(&ready); {
		case err == nil:
			return fmt.Errorf("adopt tenant: it is a ready database: %w", ErrConflict)
		case !errors.Is(err, pgx.ErrNoRows):
			return err
		}
		var server, region string
		if err := tx.QueryRow(ctx, selectAdoptServer, a.Server).Scan(&server, &region); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, insertAdopted, a.ID, a.Slug, a.Name, a.Email, a.Plan, region, server, a.ID.DatabaseName(),
			sealed, keyID, a.SchemaVersion, a.ProductVersion)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, insertTenantConfig, a.ID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, raiseClock, a.Fence); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, tickTenant, a.ID); err != nil {
			return err
		}
		t, err = queryTenant(ctx, tx, selectTenant+` where t.id = $1`, a.ID)
		return err
	})
	if err = wrap("adopt tenant", err); errors.Is(err, ErrExists) {
		err = fmt.Errorf("adopt tenant: slug %s is taken: %w", a.Slug, ErrConflict)
	}
	return t, err
}
