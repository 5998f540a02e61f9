package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/fleet"
)

// What -mb means here: the large tenant that moves has so many megabytes, and these
// parts of them have
const (
	smallPart = 10 // the small one, whose pause is compared: a tenth
	filedPart = 4  // the one that is backed up and restored: a fourth

	minMB = 32
)

// moveContests measures what moving, copying and draining tenants cost, and what who
// asks a moving tenant feels of it. Each contest has servers of its own, which go with
// it: the disk has to bear one at a time.
func moveContests(_ context.Context, b *bench) ([]contest, func(), error) {
	return []contest{
		{"pause", []string{"move_failed", "move_lost", "move_pause_p99_ms", "pause_growth"}, movePause},
		{"backup", []string{"backup_vs_pg_dump"}, moveBackup},
		{"restore", []string{"restore_vs_pg_restore"}, moveRestore},
		{"drain", []string{"drain_parallel"}, moveDrain},
	}, nil, nil
}

// docks are a catalog on a server of its own, and servers for tenants, on which
// Freehold's admin is the superuser: before Postgres 16 nobody else may replicate.
// Close it.
type docks struct {
	*estate
	*domain
	quays []*ground
	nodes []*serving
	logs  []*statementLog // once statements are logged
}

func quayName(i int) string { return fmt.Sprintf("pg-%d", i+1) }

func openDocks(ctx context.Context, b *bench, quays, nodes int) (_ *docks, err error) {
	d := &docks{}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.estate, err = openEstate(ctx, b); err != nil {
		return nil, err
	}
	if d.domain, err = d.openBareDomain(ctx, "freehold_docks"); err != nil {
		return nil, err
	}
	for i := range quays {
		g, err := openGround(ctx, b)
		if err != nil {
			return nil, err
		}
		d.quays = append(d.quays, g)
		at, err := url.Parse(g.server.URL("postgres"))
		if err != nil {
			return nil, err
		}
		password, _ := at.User.Password()
		if _, err := d.fleet.AddServer(ctx, fleet.ServerAdd{
			Name: quayName(i), Password: password, Budget: 200, MaxRecovery: 24 * 60 * 60,
			URL: "postgres://" + at.User.Username() + "@" + at.Host + "/postgres?sslmode=disable",
		}); err != nil {
			return nil, err
		}
	}
	alone := *d.domain // this process is the worker
	alone.env = append(alone.env[:len(alone.env):len(alone.env)], nodeAloneEnv+"=1")
	for range nodes {
		n, err := d.serve(ctx, &alone)
		if err != nil {
			return nil, err
		}
		d.nodes = append(d.nodes, n)
	}
	return d, nil
}

func (d *docks) close() {
	for _, g := range d.quays {
		g.close()
	}
	if d.estate != nil {
		d.estate.close()
	}
}

// dockTenant makes a tenant of so many megabytes on the first server.
func (d *docks) dockTenant(ctx context.Context, b *bench, slug string, mb float64) (who customer, err error) {
	who.Tenant, who.token, err = d.fleet.Create(ctx, catalog.TenantSpec{Slug: slug, Server: quayName(0), Actor: "bench"})
	if err != nil {
		return who, err
	}
	tokens, slots := int64(1e12), 1000 // that nobody reaches
	if _, err := d.fleet.PatchConfig(ctx, who.ID, catalog.ConfigPatch{MonthlyTokenLimit: &tokens, ConcurrentRequestLimit: &slots}); err != nil {
		return who, err
	}
	began := time.Now()
	size, err := d.quays[0].furnish(ctx, who.Database, mb)
	if err != nil {
		return who, fmt.Errorf("fill tenant %s: %w", slug, err)
	}
	b.progress("  %s has %d MB, written in %s", slug, size>>20, time.Since(began).Round(time.Second/10))
	return who, nil
}

// calm is done between turns: none pays for what the one before it left behind.
func (d *docks) calm(ctx context.Context) error {
	if err := d.dropKept(ctx); err != nil {
		return err
	}
	for _, g := range append([]*ground{d.estate.ground}, d.quays...) {
		if _, err := g.super.Exec(ctx, "checkpoint"); err != nil {
			return err
		}
	}
	return nil
}

// dropKept drops what tenants have left, before its time.
func (d *docks) dropKept(ctx context.Context) error {
	list, err := d.cat.KeptDatabases(ctx, catalog.KeptFilter{})
	if err != nil {
		return err
	}
	past := time.Now().Add(-time.Hour)
	for _, k := range list {
		k.DropAt = &past
		if err := d.cat.KeepDatabase(ctx, k); err != nil {
			return err
		}
	}
	return d.fleet.DropKept(ctx)
}

// where is the server that a tenant lives on, by its place among the quays.
func (d *docks) where(ctx context.Context, id catalog.TenantID) (int, error) {
	t, err := d.cat.Tenant(ctx, id)
	if err != nil {
		return 0, err
	}
	for i := range d.quays {
		if t.Server == quayName(i) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("tenant %s lives on server %s", t.Slug, t.Server)
}

var errNotMoved = errors.New("not moved")

// fileBytes is a file's size.
func fileBytes(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
