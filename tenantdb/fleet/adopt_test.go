package fleet_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb"
)

func TestAdopt_refuses(t *testing.T) {
	t.Parallel()
	b, store := stored(t)
	here, _ := b.onboard("here")
	mine, _ := b.onboard("mine")
	b.anonymous(mine)
	to := b.anew(store)
	_, err := to.fleet.AddServer(t.Context(), to.server())
	b.ok(err)
	empty := pgtest.Tenant(t)
	emptyID, err := catalog.ParseTenantID(empty.ID.String())
	b.ok(err)
	_, err = b.super(empty.Database).Exec(t.Context(), "delete from freehold.tenant_identity")
	b.ok(err)
	for _, c := range []struct {
		what   string
		server string
		id     catalog.TenantID
		slug   string
		want   error
	}{
		{"another catalog's", "pg-1", here.ID, "", catalog.ErrConflict},
		{"no such server", "pg-9", mine.ID, "", catalog.ErrNotFound},
		{"no such database", "pg-1", catalog.NewTenantID(), "", catalog.ErrNotFound},
		{"no identity row", "pg-1", emptyID, "slug", catalog.ErrNotFound},
		{"a bad slug", "pg-1", mine.ID, "Not A Slug", catalog.ErrInvalid},
	} {
		if _, token, err := to.fleet.Adopt(t.Context(), c.server, c.id, c.slug); !errors.Is(err, c.want) || token != "" {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	_, err = b.super(mine.Database).Exec(t.Context(), "update freehold.tenant_identity set slug = ''")
	b.ok(err)
	if _, _, err := to.fleet.Adopt(t.Context(), "pg-1", mine.ID, ""); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("nobody's slug: %v", err)
	}
	_, _, err = to.fleet.Adopt(t.Context(), "pg-1", mine.ID, "taken")
	b.ok(err)
	if _, _, err := to.fleet.Adopt(t.Context(), "pg-1", mine.ID, "taken"); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("twice: %v", err)
	}
	b.anonymous(here)
	if _, _, err := to.fleet.Adopt(t.Context(), "pg-1", here.ID, "taken"); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("a slug that is taken: %v", err)
	}
	_, err = b.super(here.Database).Exec(t.Context(), "update freehold.tenant_identity set tenant = gen_random_uuid()")
	b.ok(err)
	if _, _, err := to.fleet.Adopt(t.Context(), "pg-1", here.ID, "other"); !errors.Is(err, tenantdb.ErrForeign) {
		t.Errorf("another tenant's identity: %v", err)
	}
}

// anonymous takes the catalog's mark off a tenant's database.
func (b *bench) anonymous(t catalog.Tenant) {
	b.Helper()
	_, err := b.super("postgres").Exec(b.Context(), "comment on database "+t.Database+" is null")
	b.ok(err)
}

// Cut off again and again, an adoption comes to its end: one tenant, served, with
// one key.
func TestAdopt_cutOff(t *testing.T) {
	t.Parallel()
	b, store := stored(t)
	young, _ := b.onboard("young")
	b.anonymous(young)
	to := b.anew(store)
	_, err := to.fleet.AddServer(t.Context(), to.server())
	b.ok(err)
	cuts := 6
	if pgtest.Long() {
		cuts = 60
	}
	token := ""
	for try := 0; token == ""; try++ {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		if try < cuts {
			time.AfterFunc(time.Duration(try*200/cuts)*time.Millisecond, cancel)
		}
		_, token, err = to.fleet.Adopt(ctx, "pg-1", young.ID, "")
		cancel()
		if errors.Is(err, catalog.ErrConflict) {
			break // cut off behind its last step
		}
		if err != nil && try >= cuts {
			t.Fatal(err)
		}
	}
	keys, err := to.cat.Keys(t.Context(), young.ID)
	if err != nil || len(keys) != 1 {
		t.Errorf("%d keys: %v", len(keys), err)
	}
	b.ok(to.served(young.ID))
}
