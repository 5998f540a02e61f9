package fleet_test

import (
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/fleet"
)

// whole checks that a tenant has everything once; without a store, all but its
// objects.
func (b *bench) whole(t catalog.Tenant, store *blob.Store) {
	b.Helper()
	if t.State != catalog.Active || t.SchemaVersion == 0 {
		b.Errorf("%s: %+v", t.Slug, t)
	}
	keys, err := b.cat.Keys(b.Context(), t.ID)
	b.ok(err)
	if len(keys) != 1 || len(keys[0].Scopes) != 1 || keys[0].Scopes[0] != catalog.ScopeAll {
		b.Errorf("%s: keys %+v", t.Slug, keys)
	}
	conn, err := b.as(t, t.Database)
	b.ok(err)
	b.ok(tenantdb.Prove(b.Context(), conn, t.ID))
	b.ok(b.admit(conn, t.Epoch))
	super := b.super(t.Database)
	if n := one[int](b, super, "select count(*)::int from freehold.tenant_identity"); n != 1 {
		b.Errorf("%s: %d identities", t.Slug, n)
	}
	if n := one[int](b, super, "select count(*)::int from pg_inherits where inhparent = 'freehold.predictions'::regclass"); n != 6 {
		b.Errorf("%s: %d partitions, want five weeks and the rest", t.Slug, n)
	}
	if owner := one[string](b, super, "select datdba::regrole::text from pg_database where datname = $1", t.Database); owner != "freehold_owner" {
		b.Errorf("%s: owned by %s", t.Slug, owner)
	}
	if store == nil {
		return
	}
	r, _, err := store.Tenant(t.ID).Get(b.Context(), blob.Marker)
	b.ok(err)
	defer r.Close()
	if text, _ := io.ReadAll(r); strings.TrimSpace(string(text)) != t.ID.String() {
		b.Errorf("%s: marker %q", t.Slug, text)
	}
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create("acme")
	for _, c := range []struct {
		spec catalog.TenantSpec
		want error
	}{
		{catalog.TenantSpec{Slug: "acme"}, catalog.ErrExists},
		{catalog.TenantSpec{Slug: "Not A Slug"}, catalog.ErrInvalid},
		{catalog.TenantSpec{Slug: "new", Server: "pg-9"}, catalog.ErrNotFound},
	} {
		if _, _, err := b.fleet.Create(t.Context(), c.spec); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.spec, err)
		}
	}
}

// Called at once by several, one makes the tenant and the others learn that it exists.
func TestCreateAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const callers = 4
	tokens, errs := make([]string, callers), make([]error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() { _, tokens[i], errs[i] = b.fleet.Create(t.Context(), catalog.TenantSpec{Slug: "acme"}) })
	}
	wg.Wait()
	won := 0
	for i := range callers {
		if tokens[i] != "" && errs[i] == nil {
			won++
		} else if !errors.Is(errs[i], catalog.ErrExists) && !errors.Is(errs[i], catalog.ErrConflict) {
			t.Errorf("caller %d: %v", i, errs[i])
		}
	}
	if won != 1 {
		t.Errorf("%d callers got a key", won)
	}
}

// A template that was left half-made is made again.
func TestTemplateLeftHalfMade(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.newFleet(fleet.Config{Tenant: with("create table freehold.half (n integer);")})
	super := b.super("postgres")
	// As a killed worker leaves it: open, it would be open to other tests' strangers too.
	_, err := super.Exec(t.Context(), "create database "+f.Template()+" owner freehold_owner allow_connections false")
	b.ok(err)
	_, _, err = f.Create(t.Context(), catalog.TenantSpec{Slug: "acme"})
	b.ok(err)
	acme, err := b.cat.TenantBySlug(t.Context(), "acme")
	b.ok(err)
	if acme.SchemaVersion != latest+1 {
		t.Errorf("schema version %d", acme.SchemaVersion)
	}
	if !one[bool](b, b.super(acme.Database), "select to_regclass('freehold.half') is not null") {
		t.Error("the clone lacks the second migration")
	}
	if !one[bool](b, super, "select datistemplate and not datallowconn from pg_database where datname = $1", f.Template()) {
		t.Error("the template isn't sealed")
	}
}

// The server knows a verifier with one iteration, and a login with the password works.
func TestVerifier(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.create("acme")
	route, err := b.cat.Route(t.Context(), acme.ID)
	b.ok(err)
	kept := one[string](b, b.super("postgres"), "select rolpassword from pg_authid where rolname = $1", acme.Role)
	if !strings.HasPrefix(kept, "SCRAM-SHA-256$1:") || strings.Contains(kept, route.Config.Password) {
		t.Errorf("the server keeps %.20s…", kept)
	}
	wrong := route.Config.Copy()
	wrong.Password += "x"
	if _, err := pgx.ConnectConfig(t.Context(), wrong); sqlstate(err) != "28P01" {
		t.Errorf("a wrong password: %v", err)
	}
	v1, err1 := fleet.Verifier("secret")
	v2, err2 := fleet.Verifier("secret")
	if err := errors.Join(err1, err2); err != nil || v1 == v2 {
		t.Errorf("one salt for two verifiers: %v", err)
	}
}
