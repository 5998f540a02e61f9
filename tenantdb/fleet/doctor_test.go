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
