package catalog

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// CreateTenant registers a tenant as provisioning on a server: spec.Server by
// name, else the least loaded active one (of spec.Region when set). With the
// same slug still provisioning it returns that row and created=false, so that a
// killed creation goes on. ErrExists when the slug is taken, ErrNotFound for an
// unknown server, ErrConflict when none can take it. It makes the secret (32
// random bytes, base64url), seals it, writes the default configuration too.
func (c *Catalog) CreateTenant(ctx context.Context, spec TenantSpec) (t Tenant, created bool, err error) {
	if spec.Name == "" {
		spec.Name = spec.Slug
	}
	spec.Plan = orDefault(spec.Plan, "standard")
	if spec.Labels == nil {
		spec.Labels = map[string]string{}
	}
	if err := spec.validate(); err != nil {
		return Tenant{}, false, fmt.Errorf("create tenant: %w", err)
	}
	err = pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
		t, created, err = c.createTenant(ctx, tx, spec)
		return err
	})
	if err != nil {
		return Tenant{}, false, wrap("create tenant", err)
	}
	return t, created, nil
}

const insertTenant = `
insert into tenants (id, slug, name, email, plan, labels, region, state, server_id, database, role,
                     secret, secret_key_id, epoch)
values ($1, $2, $3, $4, $5, $6, $7, 'provisioning', $8, $9, $9, $10, $11, 0)
on conflict (slug) where state <> 'deleted' do nothing`

const insertTenantConfig = `insert into tenant_config (tenant) values ($1)`

func (c *Catalog) createTenant(ctx context.Context, tx pgx.Tx, spec TenantSpec) (t Tenant, created bool, err error) {
	// First, so that a creation goes on although its server takes no new tenants.
	switch t, err := tenantBeingMade(ctx, tx, spec.Slug); {
	case err == nil:
		return t, false, nil
	case !errors.Is(err, ErrNotFound):
		return Tenant{}, false, err
	}
	server, err := place(ctx, tx, spec)
	if err != nil {
		return Tenant{}, false, err
	}
	id := NewTenantID()
	sealed, keyID, err := c.keyset.Seal([]byte(newPassword()), tenantAAD(id))
	if err != nil {
		return Tenant{}, false, err
	}
	tag, err := tx.Exec(ctx, insertTenant, id, spec.Slug, spec.Name, spec.Email, spec.Plan, spec.Labels,
		orDefault(spec.Region, server.region), server.id, id.DatabaseName(), sealed, keyID)
	if err != nil {
		return Tenant{}, false, err
	}
	if tag.RowsAffected() == 0 {
		// Another process was quicker; what it wrote is visible now.
		t, err := tenantBeingMade(ctx, tx, spec.Slug)
		return t, false, err
	}
	if _, err := tx.Exec(ctx, insertTenantConfig, id); err != nil {
		return Tenant{}, false, err
	}
	if t, err = queryTenant(ctx, tx, selectTenant+` where t.id = $1`, id); err != nil {
		return Tenant{}, false, err
	}
	err = tx.QueryRow(ctx, tickTenant, id).Scan(&t.Epoch)
	return t, true, err
}

// tenantBeingMade is the tenant of the slug as long as it is provisioning.
func tenantBeingMade(ctx context.Context, tx pgx.Tx, slug string) (Tenant, error) {
	t, err := queryTenant(ctx, tx, selectTenant+` where t.slug = $1 and t.state <> 'deleted'`, slug)
	if err == nil && t.State != Provisioning {
		return Tenant{}, fmt.Errorf("create tenant: slug: %w", ErrExists)
	}
	return t, err
}

// newPassword is 32 random bytes in 43 characters that need no quoting.
func newPassword() string {
	var b [32]byte
	rand.Read(b[:]) // never fails: it ends the process instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

type placement struct{ id, region string }

const selectNamedServer = `select id::text, region, state from servers where name = $1`

// Load is tenants for each connection of the budget, so that a server twice as
// large takes twice as many.
const selectLeastLoaded = `
select s.id::text, s.region
  from servers s left join tenants t on t.server_id = s.id and t.state <> 'deleted'
 where s.state = 'active' and ($1 = '' or s.region = $1)
 group by s.id order by count(t.id)::float8 / s.budget, s.name limit 1`

func place(ctx context.Context, tx pgx.Tx, spec TenantSpec) (p placement, err error) {
	if spec.Server == "" {
		err = tx.QueryRow(ctx, selectLeastLoaded, spec.Region).Scan(&p.id, &p.region)
		if errors.Is(err, pgx.ErrNoRows) {
			return p, fmt.Errorf("create tenant: no active server (region %q): %w", spec.Region, ErrConflict)
		}
		return p, err
	}
	var state string
	err = tx.QueryRow(ctx, selectNamedServer, spec.Server).Scan(&p.id, &p.region, &state)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return p, fmt.Errorf("create tenant: server %s: %w", spec.Server, ErrNotFound)
	case err != nil:
		return p, err
	case state != "active":
		return p, fmt.Errorf("create tenant: server %s is %s: %w", spec.Server, state, ErrConflict)
	case spec.Region != "" && spec.Region != p.region:
		return p, invalid(wrong("region", "server %s is in %q", spec.Server, p.region))
	}
	return p, nil
}
