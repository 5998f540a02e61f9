package fleet_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb/fleet"
)

func TestDoctorFindsServerTooSmall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	catalogDB, err := pgx.Connect(t.Context(), b.cfg.URL)
	b.ok(err)
	b.closeLater(catalogDB)
	// As if max_connections had been more when the server was added.
	_, err = catalogDB.Exec(t.Context(), "update servers set max_connections = 400, budget = 290")
	b.ok(err)
	findings, err := b.fleet.Doctor(t.Context())
	b.ok(err)
	f := finding(findings, "budget 290 and reserve 29 exceed its max_connections 300, of which 3 are kept")
	if f == nil || f.OK || f.Fix == "" {
		t.Errorf("%+v", findings)
	}
}

func TestDoctorFindsExposedCatalog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const what = "may go unencrypted"
	findings, err := b.fleet.Doctor(t.Context())
	b.ok(err)
	if f := finding(findings, what); f != nil {
		t.Errorf("on this machine: %+v", f)
	}
	// A second host, to which the first falls back.
	u, err := url.Parse(b.cfg.URL)
	b.ok(err)
	cfg := b.cfg
	cfg.URL = strings.Replace(cfg.URL, u.Host, u.Host+",db.invalid:5432", 1)
	cat, err := catalog.Open(t.Context(), cfg)
	b.ok(err)
	t.Cleanup(cat.Close)
	f, err := fleet.New(fleet.Config{Catalog: cat})
	b.ok(err)
	findings, err = f.Doctor(t.Context())
	b.ok(err)
	if f := finding(findings, what); f == nil || f.OK || !strings.Contains(f.Fix, "sslmode") {
		t.Errorf("%+v", findings)
	}
}

// A change while the doctor looks isn't a catalog that is older than a database, and
// a tenant that a worker makes isn't half made.
func TestDoctorWhileThingsChange(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme, gone, ahead := b.create("acme"), b.create("gone"), b.create("ahead")
	rows := b.catalogDB()
	_, err := rows.Exec(t.Context(), "update tenants set state = 'provisioning' where slug = 'gone'")
	b.ok(err)
	_, err = rows.Exec(t.Context(), "insert into operations (id, kind, tenant, actor) values ($1, 'onboard', $2, 'x')", catalog.NewTenantID(), gone.ID)
	b.ok(err)
	_, err = b.super(ahead.Database).Exec(t.Context(), "update freehold.tenant_identity set fence = fence + 1000000")
	b.ok(err)
	b.fleet.Crash(func(point string) {
		if point == "doctor/read" {
			b.ok(b.fleet.Suspend(t.Context(), acme.ID))
		}
	})
	findings, err := b.fleet.Doctor(t.Context())
	b.ok(err)
	f := finding(findings, "the catalog is older than the databases of: ")
	if f == nil || strings.Contains(f.What, "acme") || !strings.Contains(f.What, "ahead") {
		t.Errorf("%+v", f)
	}
	if f := finding(findings, "half made"); f != nil {
		t.Errorf("%+v", f)
	}
	_, err = rows.Exec(t.Context(), "update operations set state = 'failed' where tenant = $1", gone.ID)
	b.ok(err)
	findings, err = b.fleet.Doctor(t.Context())
	b.ok(err)
	if f := finding(findings, "tenant gone is half made"); f == nil || f.OK {
		t.Errorf("%+v", findings)
	}
}
