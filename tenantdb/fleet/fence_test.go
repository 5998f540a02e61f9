package fleet_test

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/tenantdb"
	"freehold/tenantdb/fleet"
)

// After each binding change a node that knows the old truth only is refused.
func TestChangesFence(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.create("acme")
	keys, err := b.cat.Keys(t.Context(), acme.ID)
	b.ok(err)
	conn := b.super(acme.Database) // which suspending doesn't end
	limit := int64(5)
	for _, change := range []struct {
		name string
		do   func() error
	}{
		{"patch", func() error {
			cfg, err := b.fleet.PatchConfig(t.Context(), acme.ID, catalog.ConfigPatch{MonthlyTokenLimit: &limit})
			if cfg.MonthlyTokenLimit != limit {
				t.Errorf("configuration %+v", cfg)
			}
			return err
		}},
		{"patch key", func() error {
			key, err := b.fleet.PatchKey(t.Context(), acme.ID, keys[0].ID, catalog.KeyPatch{MonthlyTokenLimit: catalog.Change[int64]{Set: true, To: &limit}})
			if err == nil && *key.MonthlyTokenLimit != limit {
				t.Errorf("key %+v", key)
			}
			return err
		}},
		{"revoke", func() error { return b.fleet.RevokeKey(t.Context(), acme.ID, keys[0].ID) }},
		{"suspend", func() error { return b.fleet.Suspend(t.Context(), acme.ID) }},
		{"resume", func() error { return b.fleet.Resume(t.Context(), acme.ID) }},
	} {
		before, err := b.cat.Tenant(t.Context(), acme.ID)
		b.ok(err)
		b.ok(change.do())
		after, err := b.cat.Tenant(t.Context(), acme.ID)
		b.ok(err)
		if err := b.admit(conn, before.Epoch); !errors.Is(err, tenantdb.ErrFenced) {
			t.Errorf("%s: the old epoch: %v", change.name, err)
		}
		if err := b.admit(conn, after.Epoch); err != nil {
			t.Errorf("%s: the new epoch: %v", change.name, err)
		}
		b.ok(change.do()) // twice is no error
	}
	if err := b.fleet.RevokeKey(t.Context(), acme.ID, "nosuchkey"); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("unknown key: %v", err)
	}
	if err := b.fleet.Suspend(t.Context(), catalog.NewTenantID()); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("unknown tenant: %v", err)
	}
}

// When the database can't be told, the change stands and the caller hears of it;
// the same call later finishes it, also for a caller who had left.
func TestChangeWithoutDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.create("acme")
	super := b.super("postgres")
	allow := func(yes string) {
		_, err := super.Exec(t.Context(), "alter database "+acme.Database+" with allow_connections "+yes)
		b.ok(err)
	}
	allow("false")
	const patience = time.Second
	b.fleet.Patience(patience)
	began := time.Now()
	model := []string{"only"}
	cfg, err := b.fleet.PatchConfig(t.Context(), acme.ID, catalog.ConfigPatch{AllowedModels: &model})
	if !errors.Is(err, fleet.ErrUnfenced) || !errors.Is(err, tenantdb.ErrUnavailable) || len(cfg.AllowedModels) != 1 {
		t.Errorf("%+v, %v", cfg, err)
	}
	if took := time.Since(began); took < patience/2 || took > patience+2*time.Second {
		t.Errorf("took %v", took)
	}
	kept, err := b.cat.TenantConfig(t.Context(), acme.ID)
	b.ok(err)
	if len(kept.AllowedModels) != 1 || kept.AllowedModels[0] != "only" {
		t.Errorf("the catalog has %q", kept.AllowedModels)
	}
	allow("true")
	_, err = b.fleet.PatchConfig(t.Context(), acme.ID, catalog.ConfigPatch{AllowedModels: &model})
	b.ok(err)
	now, err := b.cat.Tenant(t.Context(), acme.ID)
	b.ok(err)
	if fence := one[int64](b, b.super(acme.Database), "select fence from freehold.tenant_identity"); fence != now.Epoch {
		t.Errorf("fence %d, epoch %d", fence, now.Epoch)
	}
}

// The real psql reads as the tenant and can't write; with write it is the owner.
func TestPsqlEnv(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.create("acme")
	psql := func(write bool, sql string) (string, error) {
		env, cleanup, err := b.fleet.PsqlEnv(t.Context(), acme.ID, write)
		b.ok(err)
		defer cleanup()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql)
		cmd.Env = append(cmd.Environ(), env...)
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	const who = "select current_user || ' ' || current_database() || ' ' || count(*) from freehold.predictions"
	if out, err := psql(false, who); err != nil || out != acme.Role+" "+acme.Database+" 0" {
		t.Errorf("read: %s %v", out, err)
	}
	if out, err := psql(false, "delete from freehold.predictions"); err == nil || !strings.Contains(out, "read-only") {
		t.Errorf("write without the right to: %s %v", out, err)
	}
	if out, err := psql(true, who); err != nil || out != "freehold_owner "+acme.Database+" 0" {
		t.Errorf("as owner: %s %v", out, err)
	}
	if out, err := psql(true, "create table freehold.by_hand (); drop table freehold.by_hand"); err != nil {
		t.Errorf("owner's DDL: %s %v", out, err)
	}
	// The role of a suspended tenant can't log in; it can be looked at all the same.
	b.ok(b.fleet.Suspend(t.Context(), acme.ID))
	if out, err := psql(false, who); err != nil || out != "freehold_owner "+acme.Database+" 0" {
		t.Errorf("suspended: %s %v", out, err)
	}
	if out, err := psql(false, "delete from freehold.predictions"); err == nil || !strings.Contains(out, "read-only") {
		t.Errorf("suspended, a write without the right to: %s %v", out, err)
	}
}
