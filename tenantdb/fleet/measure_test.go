package fleet_test

import (
	"bytes"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/fleet"
)

// What is estimated by any role is what a superuser counts in the folders.
func TestMeasureServers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	super := b.super("postgres")
	before, err := b.cat.Server(t.Context(), "pg-1")
	b.ok(err)
	if before.MeasuredAt == nil || before.SyncMethod != "off" || before.UsedBytes == 0 {
		t.Errorf("not measured when it was added: %+v", before)
	}
	var counted float64
	var ours int64 // bytes; other tests' databases come and go
	for _, slug := range []string{"aa", "bb", "cc", "dd"} {
		tenant := b.create(slug)
		if slug == "dd" {
			conn := b.super(tenant.Database)
			_, err := conn.Exec(t.Context(), "vacuum")
			b.ok(err)
		}
		ours += one[int64](b, super, "select pg_database_size($1)", tenant.Database)
		if slug != "cc" { // the oldest, the newest and the one in between are looked into
			counted += files(b, super, tenant.Database)
		}
	}
	b.ok(b.fleet.MeasureServers(t.Context()))
	s, err := b.cat.Server(t.Context(), "pg-1")
	b.ok(err)
	if got, want := float64(s.FilesADatabase), counted/3; got < 0.9*want || got > 1.1*want {
		t.Errorf("%.0f files a database, there are %.0f", got, want)
	}
	if s.Files < int64(8*s.FilesADatabase) || s.Files%int64(s.FilesADatabase) != 0 { // four of ours, a template, three of Postgres
		t.Errorf("%d files in all, %d a database", s.Files, s.FilesADatabase)
	}
	if s.UsedBytes < ours || s.Recovery < 1 || !s.MeasuredAt.After(*before.MeasuredAt) {
		t.Errorf("measured %+v, before %+v", s, before)
	}
}

// files counts what is in a database's folder.
func files(b *bench, super *pgx.Conn, database string) float64 {
	b.Helper()
	return float64(one[int64](b, super, `
		select count(*) from pg_database d, pg_ls_dir('base/' || d.oid) where d.datname = $1`, database))
}

func TestMeasureServers_oneIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.cat.AddServer(t.Context(), catalog.ServerSpec{
		Name: "away", Host: "127.0.0.1", Port: 1, SSLMode: "disable", AdminUser: "a", Version: 160000, MaxConnections: 100,
	})
	b.ok(err)
	_, err = b.cat.AddServer(t.Context(), catalog.ServerSpec{
		Name: "down", Host: "127.0.0.1", Port: 1, SSLMode: "disable", AdminUser: "a", Version: 160000, MaxConnections: 100,
	})
	b.ok(err)
	down := catalog.ServerDown
	_, err = b.cat.SetServer(t.Context(), "down", catalog.ServerPatch{State: &down})
	b.ok(err)
	before, err := b.cat.Server(t.Context(), "pg-1")
	b.ok(err)
	var log bytes.Buffer
	b.ok(b.newFleet(fleet.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}).MeasureServers(t.Context()))
	if lines := strings.Count(log.String(), "server not measured"); lines != 1 || !strings.Contains(log.String(), "server=away") {
		t.Errorf("log:\n%s", log.String())
	}
	after, err := b.cat.Server(t.Context(), "pg-1")
	b.ok(err)
	if !after.MeasuredAt.After(*before.MeasuredAt) {
		t.Error("the server that answers wasn't measured")
	}
	if s, err := b.cat.Server(t.Context(), "away"); err != nil || s.MeasuredAt != nil {
		t.Errorf("away: %+v, %v", s, err)
	}
}

// What a server takes is kept when it is added again, as with another password.
func TestAddServer_takes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	add := b.server()
	add.Labels, add.Plans, add.Ready, add.MaxDatabases, add.MaxRecovery, add.DiskBytes = map[string]string{"rack": "a"},
		[]string{"gold"}, 2, 50, 60, 1e12
	for range 2 {
		s, err := b.fleet.AddServer(t.Context(), add)
		b.ok(err)
		if s.Labels["rack"] != "a" || len(s.Plans) != 1 || s.Ready != 2 || s.MaxDatabases != 50 || s.MaxRecovery != 60 || s.DiskBytes != 1e12 {
			t.Errorf("%+v", s)
		}
		add = b.server()
	}
}

func TestDoctor_servers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create("acme")
	catalogDB, err := pgx.Connect(t.Context(), b.cfg.URL)
	b.ok(err)
	b.closeLater(catalogDB)
	set := func(p catalog.ServerPatch) {
		t.Helper()
		_, err := b.cat.SetServer(t.Context(), "pg-1", p)
		b.ok(err)
	}
	doctor := func() []fleet.Finding {
		t.Helper()
		findings, err := b.fleet.Doctor(t.Context())
		b.ok(err)
		return findings
	}
	want := func(findings []fleet.Finding, ok bool, what, fix string) {
		t.Helper()
		if f := finding(findings, what); f == nil || f.OK != ok || !strings.Contains(f.Fix, fix) {
			t.Errorf("want %q (%v, %q) among %+v", what, ok, fix, findings)
		}
	}
	found := doctor()
	want(found, true, "of 120 s allowed (recovery_init_sync_method is off)", "")
	want(found, true, "what its disk holds isn't known", "")
	want(found, true, "1 databases of at most ", "")
	want(found, true, "reads every server", "")
	want(found, true, "every tenant's database answers", "")
	for _, f := range found {
		if !f.OK && !strings.Contains(f.What, "everybody can connect") { // the server is other tests', too
			t.Errorf("nothing is wrong: %+v", f)
		}
	}

	one, two, disk := 1, 2, int64(1000)
	set(catalog.ServerPatch{MaxRecovery: &one, Ready: &two, DiskBytes: &disk, MaxDatabases: &one})
	_, err = catalogDB.Exec(t.Context(), "update servers set files = 200000, version = 990000, used_bytes = 850")
	b.ok(err)
	found = doctor()
	want(found, false, "back about 2 s after a crash, 1 s are allowed", "--max-recovery")
	want(found, false, "850 B of data, 85 % of its disk", "another server")
	want(found, false, "1 databases of at most 0", "another server") // the files leave no room
	want(found, false, "0 of 2 ready databases", "freehold worker")
	want(found, false, "is older than server pg-1, Postgres 99", "client programs")

	draining, down := catalog.ServerDraining, catalog.ServerDown
	set(catalog.ServerPatch{State: &draining})
	want(doctor(), true, "draining: takes no new tenants", "")
	set(catalog.ServerPatch{State: &down})
	found = doctor()
	want(found, false, "server pg-1: is down, with 1 tenants on it", "--state active")
	want(found, false, "the databases of 1 tenants were not looked at", "servers")
	if f := finding(found, "no answer from the databases"); f != nil {
		t.Errorf("a database of a server that is down was looked at: %+v", f)
	}
}

// A server that swallows connections costs one timeout, not one for each tenant.
func TestDoctor_serverAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	u, err := url.Parse(pgtest.AdminURL(t))
	b.ok(err)
	b.create("acme")
	catalogDB, err := pgx.Connect(t.Context(), b.cfg.URL)
	b.ok(err)
	b.closeLater(catalogDB)
	_, err = catalogDB.Exec(t.Context(), "update servers set port = 1")
	b.ok(err)
	findings, err := b.fleet.Doctor(t.Context())
	b.ok(err)
	if f := finding(findings, "server pg-1: can't be reached"); f == nil || f.OK || strings.Contains(f.What, u.User.Username()) {
		t.Errorf("%+v", findings)
	}
	if f := finding(findings, "the databases of 1 tenants were not looked at"); f == nil || f.OK {
		t.Errorf("%+v", findings)
	}
}
