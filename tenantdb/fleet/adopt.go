package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb"
)

// Adopt takes in a tenant's database that is on a server and that the catalog
// doesn't know, as after a restore: row, default configuration, its role with a new
// password, marks and names, isolation proof, active, and an API key of scope all,
// shown now or never. slug is the one in its identity row when empty. Killed at any
// step, the same call goes on. Errors: catalog.ErrConflict when the slug is taken,
// the catalog knows the tenant, or the database bears another catalog's mark;
// *NotUpgraded when it can't be brought to the fleet's schema; catalog.ErrNotFound when server or database isn't there, or the database has no
// identity row; tenantdb.ErrForeign when that is another tenant's;
// catalog.ErrInvalid without a slug; tenantdb.ErrUnavailable.
func (f *Fleet) Adopt(ctx context.Context, server string, id catalog.TenantID, slug string) (catalog.Tenant, string, error) {
	t, token, err := f.adopt(ctx, server, id, slug)
	if err != nil {
		return t, "", fmt.Errorf("adopt tenant %s: %w", id, err)
	}
	f.log.InfoContext(ctx, "tenant adopted", "tenant", id.String(), "slug", t.Slug, "server", server)
	return t, token, nil
}

func (f *Fleet) adopt(ctx context.Context, server string, id catalog.TenantID, slug string) (t catalog.Tenant, token string, err error) {
	conn, err := f.lockTenant(ctx, server, id)
	if err != nil {
		return t, "", err
	}
	defer closeConn(ctx, conn)
	found, err := f.findling(ctx, conn, server, id)
	if err != nil {
		return t, "", err
	}
	if slug != "" {
		found.Slug = slug
	}
	if found.Slug == "" {
		return t, "", &catalog.Invalid{Field: "slug", Text: "slug: the database doesn't know its own: say which"}
	}
	if t, err = f.cat.AdoptTenant(ctx, found); err != nil {
		return t, "", err
	}
	h := &home{
		Fleet: f, id: id, server: server, conn: conn, named: t,
		at: catalog.Versions{Freehold: found.SchemaVersion, Product: found.ProductVersion},
		login: func(ctx context.Context) (*pgx.ConnConfig, error) {
			route, err := f.cat.Route(ctx, id)
			return route.Config, err
		},
	}
	if err := h.takeIn(ctx); err != nil {
		return t, "", err
	}
	if t.State == catalog.Provisioning {
		err := f.bringUp(ctx, t)
		if err == nil {
			err = f.upToDate(ctx, t, func() error {
				_, err := f.cat.SetState(ctx, id, catalog.Active, catalog.Provisioning)
				return err
			})
		}
		if err != nil {
			return t, "", err
		}
	}
	if err := f.fence(ctx, id); err != nil {
		return t, "", err
	}
	_, token, err = f.cat.CreateKey(ctx, id, catalog.KeySpec{Name: "adopted", Scopes: []string{catalog.ScopeAll}})
	if err != nil {
		return t, "", err
	}
	t, err = f.cat.Tenant(ctx, id)
	return t, token, err
}

// findling reads whose database it is that the server has.
func (f *Fleet) findling(ctx context.Context, conn *pgx.Conn, server string, id catalog.TenantID) (catalog.Adoption, error) {
	var none catalog.Adoption
	ours, err := f.mark(ctx)
	if err != nil {
		return none, err
	}
	mark, there, err := markOf(ctx, conn, thingDatabase, id.DatabaseName())
	switch {
	case err != nil:
		return none, err
	case !there:
		return none, fmt.Errorf("database %s on server %s: %w", id.DatabaseName(), server, catalog.ErrNotFound)
	case mark != ours && strings.HasPrefix(mark, catalogMark):
		return none, fmt.Errorf("database %s on server %s is another catalog's: %w", id.DatabaseName(), server, catalog.ErrConflict)
	}
	found, own, err := f.who(ctx, server, id.DatabaseName())
	if errors.Is(err, tenantdb.ErrNotFound) {
		return none, fmt.Errorf("identity row of database %s: %w", id.DatabaseName(), catalog.ErrNotFound)
	}
	if err != nil {
		return none, err
	}
	defer closeConn(ctx, own)
	if found.ID != id {
		return none, tenantdb.ErrForeign
	}
	has, err := f.versionsOn(ctx, own)
	if err != nil {
		return none, err
	}
	return catalog.Adoption{
		ID: id, Server: server, Slug: found.Slug, Name: found.Name, Email: found.Email, Plan: found.Plan,
		Fence: found.Fence, SchemaVersion: has.Freehold, ProductVersion: has.Product,
	}, nil
}

// takeIn makes of a database that is there one that is this catalog's tenant's.
func (h *home) takeIn(ctx context.Context) error {
	for _, do := range []func(context.Context) error{h.makeRole, h.setPrivileges} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	has, err := h.writeIdentity(ctx)
	if err != nil {
		return err
	}
	if has.Freehold >= namesSince {
		if err := h.cat.SetNamed(ctx, h.id); err != nil {
			return err
		}
	}
	if err := h.makePrefix(ctx); err != nil {
		return err
	}
	return h.prove(ctx)
}
