package fleet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/catalog/catalogtest"
	"freehold/migrations/pgtest"
	"freehold/tenantdb"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/fleet"
)

// stored is setup with an object store.
func stored(t *testing.T) (*bench, *blob.Store) {
	t.Helper()
	b := setup(t)
	store := b.store()
	b.fleet = b.newFleet(fleet.Config{Blob: store})
	return b, store
}

// catalogAdmin looks at the catalog as its owner.
func (b *bench) catalogAdmin() *pgx.Conn {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), b.cfg.URL)
	b.ok(err)
	b.closeLater(conn)
	return conn
}

// anew is an empty catalog with the same keyset, and a fleet on the same store.
func (b *bench) anew(store *blob.Store) *bench {
	b.Helper()
	to := &bench{TB: b.TB}
	to.cat, to.cfg = catalogtest.Open(b)
	to.fleet = to.newFleet(fleet.Config{Blob: store})
	return to
}

// stranger is anew with another keyset.
func (b *bench) stranger(store *blob.Store) *bench {
	b.Helper()
	keys, err := catalog.NewKeyset()
	b.ok(err)
	to := &bench{TB: b.TB, cfg: catalog.Config{URL: pgtest.Catalog(b.TB), Keyset: keys}}
	_, _, err = catalog.Migrate(b.Context(), to.cfg)
	b.ok(err)
	to.cat, err = catalog.Open(b.Context(), to.cfg)
	b.ok(err)
	b.Cleanup(to.cat.Close)
	to.fleet = to.newFleet(fleet.Config{Blob: store})
	return to
}

// onboard makes a tenant and returns its key.
func (b *bench) onboard(slug string) (catalog.Tenant, string) {
	b.Helper()
	t, token, err := b.fleet.Create(b.Context(), catalog.TenantSpec{Slug: slug, Name: "Name of " + slug, Email: slug + "@example.com", Plan: "gold"})
	b.ok(err)
	return t, token
}

// served asks the tenant's database as a node does that has read the catalog now.
func (b *bench) served(id catalog.TenantID) error {
	b.Helper()
	route, err := b.cat.Route(b.Context(), id)
	b.ok(err)
	conn, err := pgx.ConnectConfig(b.Context(), route.Config)
	if err != nil {
		return err
	}
	defer conn.Close(b.Context())
	if err := tenantdb.Prove(b.Context(), conn, id); err != nil {
		return err
	}
	return b.admit(conn, route.Epoch)
}

// authenticates asks a cache that has just started.
func (b *bench) authenticates(token string, id catalog.TenantID) {
	b.Helper()
	cache := catalog.NewCache(b.cat, catalog.CacheConfig{})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- cache.Run(ctx) }()
	defer func() {
		cancel()
		b.ok(<-done)
	}()
	for deadline := time.Now().Add(5 * time.Second); !cache.Ready(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatal("the cache isn't ready within 5 s")
		}
	}
	if who, err := cache.Authenticate(ctx, token); err != nil || who.Tenant != id {
		b.Errorf("key of %s: %+v, %v", id, who, err)
	}
}

// notice finds what a restore told of a tenant of this test's own; "" when nothing.
func notice(r fleet.Restored, id catalog.TenantID) (n fleet.Notice) {
	for _, one := range r.Notes {
		if one.ID == id {
			n = one
		}
	}
	return n
}

// The catalog is lost. From an empty one, the newest backup and the keyset every
// tenant serves again, and what the backup can't know is told.
func TestRestoreCatalog(t *testing.T) {
	t.Parallel()
	b, store := stored(t)
	same, sameKey := b.onboard("same")
	changed, changedKey := b.onboard("changed")
	gone, _ := b.onboard("gone")
	backup, err := b.fleet.BackupCatalog(t.Context())
	b.ok(err)
	if list, err := b.cat.Backups(t.Context()); err != nil || len(list) != 1 || list[0].Key != backup.Key || list[0].Bytes != backup.Bytes || backup.Bytes == 0 {
		t.Fatalf("recorded %+v, made %+v: %v", list, backup, err)
	}

	// What the backup doesn't know.
	limit := int64(7)
	for range 3 {
		limit++
		_, err = b.fleet.PatchConfig(t.Context(), changed.ID, catalog.ConfigPatch{MonthlyTokenLimit: &limit})
		b.ok(err)
	}
	young, youngKey := b.onboard("young")
	nameless, _ := b.onboard("nameless")
	blank := b.super(nameless.Database)
	_, err = blank.Exec(t.Context(), "update freehold.tenant_identity set slug = '', name = ''")
	b.ok(err)
	_, err = b.super("postgres").Exec(t.Context(), "drop database "+gone.Database+" with (force)")
	b.ok(err)
	before, err := b.cat.Tenant(t.Context(), changed.ID)
	b.ok(err)

	to := b.anew(store)
	r, err := to.fleet.RestoreCatalog(t.Context(), fleet.RestoreOptions{Actor: "op@host"})
	b.ok(err)
	if r.Backup != backup.Key || r.Tenants != 3 || r.Servers != 1 || r.Confirmed != 1 || !r.NeedsPerson() || r.Resumed || r.Seq <= before.Epoch {
		t.Errorf("restored %+v", r)
	}
	for _, want := range []struct {
		tenant    catalog.Tenant
		kind, fix string
	}{
		{same, "", ""}, {changed, "changed", "freehold key list changed"}, {gone, "missing", "freehold tenant show gone"},
		{young, "found", "freehold tenant adopt " + young.ID.String() + " --server pg-1"},
		{nameless, "unnamed", "--slug SLUG"},
	} {
		if n := notice(r, want.tenant.ID); n.Kind != want.kind || !strings.Contains(n.Fix, want.fix) {
			t.Errorf("%s: told %+v", want.tenant.Slug, n)
		}
	}
	for _, old := range []struct {
		tenant catalog.Tenant
		token  string
	}{{same, sameKey}, {changed, changedKey}} {
		if err := to.served(old.tenant.ID); err != nil {
			t.Errorf("%s: %v", old.tenant.Slug, err)
		}
		to.authenticates(old.token, old.tenant.ID)
	}
	// A change binds as before.
	b.ok(to.fleet.Suspend(t.Context(), changed.ID))
	if list, err := to.cat.Backups(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("the restored catalog knows of backups %+v: %v", list, err)
	}
	if _, err := to.fleet.RestoreCatalog(t.Context(), fleet.RestoreOptions{}); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("restored over a catalog: %v", err)
	}

	// The one that is younger is taken in.
	adopted, token, err := to.fleet.Adopt(t.Context(), "pg-1", young.ID, "")
	b.ok(err)
	if adopted.Slug != "young" || adopted.Name != young.Name || adopted.Email != young.Email || adopted.Plan != "gold" ||
		adopted.State != catalog.Active || adopted.SchemaVersion != young.SchemaVersion || token == "" || token == youngKey {
		t.Errorf("adopted %+v", adopted)
	}
	b.ok(to.served(young.ID))
	to.authenticates(token, young.ID)
	if lines, err := to.fleet.Prove(t.Context(), young.ID); err != nil || len(lines) == 0 || !lines[0].OK {
		t.Errorf("prove: %v", err)
	}
}

// A backup that isn't whole, or isn't this keyset's, leaves the catalog empty, so
// that another one can be restored.
func TestRestoreCatalog_refuses(t *testing.T) {
	t.Parallel()
	b, store := stored(t)
	acme, _ := b.onboard("acme")
	backup, err := b.fleet.BackupCatalog(t.Context())
	b.ok(err)
	platform := store.Platform()
	object, _, err := platform.Get(t.Context(), strings.TrimPrefix(backup.Key, "platform/"))
	b.ok(err)
	text, err := io.ReadAll(object)
	b.ok(errors.Join(err, object.Close()))
	put := func(key string, text []byte) string {
		b.ok(platform.Put(t.Context(), strings.TrimPrefix(key, "platform/"), bytes.NewReader(text)))
		return key
	}
	flipped := bytes.Clone(text)
	flipped[len(flipped)/2] ^= 1
	newer := put("platform/catalog/29991231T000000Z-9.fhc", text)

	to := b.anew(store)
	// Another's name, and it would be the newest.
	restore := func(to *bench, key string, want error) {
		t.Helper()
		if _, err := to.fleet.RestoreCatalog(t.Context(), fleet.RestoreOptions{Key: key}); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", key, err, want)
		}
		if list, err := to.cat.Servers(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("%q left %d servers: %v", key, len(list), err)
		}
	}
	restore(to, "", catalog.ErrSealBroken)
	restore(to, newer, catalog.ErrSealBroken)
	restore(to, "platform/catalog/20200101T000000Z-1.fhc", catalog.ErrNotFound)
	restore(to, "../"+backup.Key, catalog.ErrInvalid)
	restore(b.stranger(store), backup.Key, catalog.ErrSealBroken)
	for _, broken := range [][]byte{nil, text[:10], text[:len(text)-1], text[:len(text)/2], flipped} {
		put(backup.Key, broken)
		restore(to, backup.Key, catalog.ErrSealBroken)
	}
	put(backup.Key, text)

	// Stopped behind the loading: it is told, nothing is backed up, and it goes on.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dying := to.newFleet(fleet.Config{Blob: store})
	dying.Crash(func(string) { cancel() })
	if _, err := dying.RestoreCatalog(ctx, fleet.RestoreOptions{Key: backup.Key}); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	if _, err := to.fleet.BackupCatalog(t.Context()); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("backed up what isn't restored: %v", err)
	}
	b.ok(to.fleet.KeepCatalogBackups(t.Context()))
	if _, err := to.fleet.RestoreCatalog(t.Context(), fleet.RestoreOptions{Key: newer}); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("another backup on top: %v", err)
	}
	r, err := to.fleet.RestoreCatalog(t.Context(), fleet.RestoreOptions{})
	if err != nil || !r.Resumed || r.Confirmed != 1 {
		t.Errorf("resumed %+v: %v", r, err)
	}
	b.ok(to.served(acme.ID))
}

// A server that is away isn't in the way of the others, and is told once.
func TestRestoreCatalog_serverAway(t *testing.T) {
	t.Parallel()
	b, store := stored(t)
	acme, _ := b.onboard("acme")
	_, err := b.cat.AddServer(t.Context(), catalog.ServerSpec{
		Name: "pg-away", Host: "127.0.0.1", Port: 1, SSLMode: "disable", AdminUser: "admin", Password: "p",
		Version: 150000, MaxConnections: 100,
	})
	b.ok(err)
	_, err = b.catalogAdmin().Exec(t.Context(), `
insert into tenants (id, slug, name, state, server_id, database, role, secret, secret_key_id, epoch)
select gen_random_uuid(), 'away-' || n, 'away', 'active', s.id, 'away' || n, 'away' || n, '', 0, 1
  from generate_series(1, 50) n, servers s where s.name = 'pg-away'`)
	b.ok(err)
	_, err = b.fleet.BackupCatalog(t.Context())
	b.ok(err)
	to := b.anew(store)
	r, err := to.fleet.RestoreCatalog(t.Context(), fleet.RestoreOptions{})
	b.ok(err)
	told := 0
	for _, n := range r.Notes {
		if n.Server == "pg-away" {
			told++
			if n.Kind != "unreachable" || !strings.Contains(n.What, "50 tenants") {
				t.Errorf("told %+v", n)
			}
		}
	}
	if told != 1 || r.Tenants != 51 || r.Confirmed != 1 || !r.NeedsPerson() {
		t.Errorf("told %d times; %d tenants, %d confirmed", told, r.Tenants, r.Confirmed)
	}
	b.ok(to.served(acme.ID))
}
