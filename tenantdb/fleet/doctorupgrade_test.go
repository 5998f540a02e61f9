package fleet_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/tenantdb/fleet"
)

// One line says whether to begin an upgrade, and names what stands against it with
// the command for it.
func TestDoctorUpgrade(t *testing.T) {
	t.Parallel()
	b := setup(t)
	db := b.catalogDB()
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := db.Exec(t.Context(), sql, args...)
		b.ok(err)
	}
	newer := b.newFleet(fleet.Config{Tenant: migrations.Tenant().With(fstest.MapFS{
		fmt.Sprintf("%05d_more.sql", latest+1): {Data: fmt.Appendf(nil, "-- freehold:needs %d\n-- +goose Up\ncreate table freehold.more (n integer);\n", latest)},
	})})
	look := func(f *fleet.Fleet, ready bool, texts ...string) {
		t.Helper()
		r, err := f.DoctorUpgrade(t.Context(), fleet.UpgradeOptions{SchemaMin: latest})
		b.ok(err)
		if r.Ready != ready || strings.HasPrefix(r.Verdict, "ready to upgrade") != ready || strings.Contains(r.Verdict, "\n") {
			t.Errorf("ready %t: %s", r.Ready, r.Verdict)
		}
		for _, text := range texts {
			if !strings.Contains(r.Verdict, text) {
				t.Errorf("lacks %q: %s", text, r.Verdict)
			}
		}
		bad := 0
		for _, f := range r.Findings {
			if !f.OK {
				bad++
				if f.Fix == "" {
					t.Errorf("no command: %+v", f)
				}
			}
		}
		if ready != (bad == 0) {
			t.Errorf("%d bad of %+v", bad, r.Findings)
		}
	}
	look(b.fleet, true, "only binaries are replaced") // no tenant yet

	exec(insertTenants, "pg-1", 3)
	exec(`update tenants set schema_version = $1`, latest)
	exec(`insert into nodes (id, name, version, seen, schema_min, schema_max) values (gen_random_uuid(), 'n-1', 'v', 0, 1, $1)`, latest)
	look(newer, false, "not yet: the catalog has no backup → freehold catalog backup")
	exec(`insert into catalog_backups (key, bytes, seq, made_at) values ('k', 1, 1, now() - interval '25 hours')`)
	look(newer, false, "the catalog's newest backup is 25h0m0s old")
	exec(`update catalog_backups set made_at = now() - interval '5 minutes'`)
	look(b.fleet, true, fmt.Sprintf("tenants are at schema %d already", latest))
	look(newer, true, fmt.Sprintf("from schema %d to %d: this release's binary in place of the nodes', then freehold migrate up", latest, latest+1))

	// A node that can't serve what will be is replaced before.
	exec(`update nodes set schema_max = 0, schema_min = 0`)
	look(newer, true, "put this release's binary in place of n-1 first, then freehold migrate up")
	exec(`update nodes set schema_min = $1, schema_max = $1`, latest+1)
	look(newer, false, fmt.Sprintf("tenants at schema %d are refused by: n-1", latest))
	exec(`update nodes set schema_min = 1, schema_max = $1`, latest)

	contracts := b.newFleet(fleet.Config{Tenant: migrations.Tenant().With(fstest.MapFS{
		fmt.Sprintf("%05d_more.sql", latest+1): {Data: fmt.Appendf(nil, "-- freehold:needs %d\n-- +goose Up\ncreate table freehold.more (n integer);\n", latest)},
		fmt.Sprintf("%05d_less.sql", latest+2): {Data: fmt.Appendf(nil, "-- freehold:contracts %d\n-- +goose Up\ndrop table freehold.files;\n", latest+1)},
	})})
	look(contracts, true, fmt.Sprintf("put this release's binary in place of n-1, freehold migrate up --to %d, then freehold migrate up", latest+1))

	// What stands against it.
	exec(`update tenants set schema_version = $1 where slug = 'pg-1-1'`, latest-1)
	look(newer, false, fmt.Sprintf("below schema %d, the oldest that this binary serves: pg-1-1 → freehold migrate up, with the release before", latest))
	exec(`update tenants set schema_version = $1 where slug = 'pg-1-1'`, latest+5)
	look(newer, false, fmt.Sprintf("beyond schema %d", latest+1), "pg-1-1 → use the newer freehold")
	exec(`update tenants set schema_version = $1`, latest)

	exec(`insert into tenant_schemas (tenant, fingerprint, schema_version, product_version, drifted, invalid_indexes)
		select id, '', 4, 0, slug = 'pg-1-2', case slug when 'pg-1-3' then array['app.i'] else '{}' end from tenants`)
	look(newer, false, "1 tenant are not what the migrations make: pg-1-2 → freehold migrate drift;", "invalid indexes: pg-1-3 → freehold migrate drift --rebuild")
	exec(`update tenant_schemas set drifted = false, invalid_indexes = '{}'`)

	b.registered("far", 2)
	exec(`update tenants set schema_version = $1`, latest)
	look(newer, false, "server far can't be reached", "→ freehold server show far")
	exec(`update servers set state = 'down' where name = 'far'`)
	look(newer, false, "server far is down, with 2 tenants")
	exec(`delete from tenants where slug like 'far-%'`)
	look(newer, true)

	// Another release rolled another text out under this number.
	exec(`insert into migration_files (stream, version, name, sha256) values ('freehold', $1, 'x.sql', decode(repeat('00', 32), 'hex'))`, latest)
	look(newer, false, "was edited")
	exec(`delete from migration_files`)

	_, err := b.cat.BeginRollout(t.Context(), catalog.RolloutSpec{
		Stream: catalog.StreamProduct, Target: 1, Actor: "ann", Waves: []catalog.WaveSpec{{Name: "100%"}},
		Options: catalog.RolloutOptions{Parallel: 1, Budget: "1%"},
	}, catalog.Taker{})
	b.ok(err)
	look(newer, false, "of product is running → wait for it: freehold migrate status ")
	exec(`update rollouts set state = 'halted'`)
	look(newer, false, "of product is halted → freehold migrate status ")
}
