package fleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

// Create onboards a tenant, synchronously: catalog row → role and database (clone
// of a sealed template at this binary's schema) → identity → proof → object prefix
// → active → API key of scope all. Killed at any step, the same call goes on (same
// slug, still provisioning, or active without ever having had a key). It returns
// the key's token once. Errors: catalog.CreateTenant's, tenantdb.ErrUnavailable.
func (f *Fleet) Create(ctx context.Context, spec catalog.TenantSpec) (catalog.Tenant, string, error) {
	t, err := f.register(ctx, spec)
	if err != nil {
		return catalog.Tenant{}, "", err
	}
	c := &creation{Fleet: f, tenant: t}
	token, err := c.run(ctx)
	if err != nil {
		return c.tenant, "", fmt.Errorf("create tenant %s: %w", t.Slug, err)
	}
	f.log.InfoContext(ctx, "tenant created", "tenant", t.ID.String(), "slug", t.Slug, "server", t.Server)
	return c.tenant, token, nil
}

// register makes the catalog's row, or finds the one of a creation that was killed.
func (f *Fleet) register(ctx context.Context, spec catalog.TenantSpec) (catalog.Tenant, error) {
	t, _, err := f.cat.CreateTenant(ctx, spec)
	if errors.Is(err, catalog.ErrExists) {
		// Perhaps all but the key was done.
		if made, ferr := f.cat.TenantBySlug(ctx, spec.Slug); ferr == nil && made.State == catalog.Active {
			return made, nil
		}
	}
	return t, err
}

// creation is one run of Create. Each step looks at what is there and does the
// rest, so that it doesn't matter which run did what.
type creation struct {
	*Fleet
	tenant catalog.Tenant
	conn   *pgx.Conn // the admin's, on database postgres; holds the tenant's lock
	token  string
}

func (c *creation) run(ctx context.Context) (token string, err error) {
	if c.conn, err = c.admin(ctx, c.tenant.Server, maintenance); err != nil {
		return "", err
	}
	defer closeConn(ctx, c.conn)
	// Two calls for one slug must not both go on: there would be two keys.
	if _, err := c.conn.Exec(ctx, lockName, "freehold tenant "+c.tenant.ID.String()); err != nil {
		return "", fmt.Errorf("lock: %w", translate(ctx, err))
	}
	if c.tenant, err = c.cat.Tenant(ctx, c.tenant.ID); err != nil {
		return "", err
	}
	steps := []struct {
		name string
		run  func(context.Context) error
	}{
		{"template", c.prepareTemplate},
		{"role", c.makeRole},
		{"database", c.makeDatabase},
		{"privileges", c.setPrivileges},
		{"identity", c.writeIdentity},
		{"proof", c.proveLogin},
		{"prefix", c.makePrefix},
		{"active", c.activate},
		{"key", c.makeKey},
	}
	if c.tenant.State != catalog.Provisioning {
		steps = steps[len(steps)-1:]
	}
	for _, step := range steps {
		if err := step.run(ctx); err != nil {
			return "", fmt.Errorf("%s: %w", step.name, err)
		}
		if c.afterStep != nil {
			if err := c.afterStep(step.name); err != nil {
				return "", err
			}
		}
	}
	c.tenant, err = c.cat.Tenant(ctx, c.tenant.ID)
	return c.token, err
}

func (c *creation) makePrefix(ctx context.Context) error {
	if c.blob == nil {
		return nil
	}
	return c.blob.CreatePrefix(ctx, c.tenant.ID)
}

func (c *creation) activate(ctx context.Context) error {
	_, err := c.cat.SetState(ctx, c.tenant.ID, catalog.Active, catalog.Provisioning)
	return err
}

// makeKey comes last, and only for a tenant that never had a key: one that has
// is finished, and its slug is taken.
func (c *creation) makeKey(ctx context.Context) error {
	keys, err := c.cat.Keys(ctx, c.tenant.ID)
	if err != nil {
		return err
	}
	if len(keys) > 0 {
		return catalog.ErrExists
	}
	_, c.token, err = c.cat.CreateKey(ctx, c.tenant.ID,
		catalog.KeySpec{Name: "first", Scopes: []string{catalog.ScopeAll}})
	return err
}
