package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"freehold/catalog"
)

// Finding is one thing that was looked at: what is so, and when it isn't OK the
// command or change that mends it.
type Finding struct {
	OK   bool   `json:"ok"`
	What string `json:"what"`
	Fix  string `json:"fix,omitempty"`
}

// Doctor looks at the catalog, each server and each tenant's database. What can't
// be reached is a finding, not an error; the error is the catalog's alone.
func (f *Fleet) Doctor(ctx context.Context) ([]Finding, error) {
	servers, err := f.cat.Servers(ctx)
	if err != nil {
		return []Finding{{What: "catalog can't be read", Fix: "check FREEHOLD_CATALOG_URL and the database behind it"}},
			fmt.Errorf("doctor: %w", err)
	}
	d := &diagnosis{Fleet: f}
	d.ok("catalog answers, and its schema fits this binary")
	if f.cat.Exposed() {
		d.bad("the catalog is on another machine, and what goes there may go unencrypted",
			"add sslmode=verify-full to FREEHOLD_CATALOG_URL")
	}
	if len(servers) == 0 {
		d.bad("no server to put tenants on", "freehold server add NAME --url postgres://ADMIN@HOST:5432/postgres?sslmode=verify-full")
	}
	for _, s := range servers {
		d.server(ctx, s)
	}
	tenants, err := f.tenants(ctx, func(catalog.Tenant) bool { return true })
	if err != nil {
		return d.findings, fmt.Errorf("doctor: %w", err)
	}
	d.creations(tenants)
	d.schemas(tenants)
	d.fences(ctx, tenants)
	return d.findings, nil
}

type diagnosis struct {
	*Fleet
	findings []Finding
}

func (d *diagnosis) ok(format string, args ...any) {
	d.findings = append(d.findings, Finding{OK: true, What: fmt.Sprintf(format, args...)})
}

func (d *diagnosis) bad(what, fix string) {
	d.findings = append(d.findings, Finding{What: what, Fix: fix})
}

func (d *diagnosis) server(ctx context.Context, s catalog.Server) {
	at := "server " + s.Name + ": "
	conn, err := d.admin(ctx, s.Name, maintenance)
	if err != nil {
		d.bad(at+"can't be reached: "+reason(ctx, err), "check that it runs, and its password: freehold server add "+s.Name+" …")
		return
	}
	defer closeConn(ctx, conn)
	found, err := readFacts(ctx, conn)
	if err != nil {
		d.bad(at+"can't be read: "+reason(ctx, err), "")
		return
	}
	if err := found.fit(); err != nil {
		d.bad(at+strings.ReplaceAll(err.Error(), "\n", "; "), "move its tenants to a server that fits")
	} else {
		d.ok("%sPostgres %d.%d answers", at, found.Version/10000, found.Version%10000)
	}
	if _, _, err := found.share(s.Budget, s.Reserve); err != nil {
		d.bad(fmt.Sprintf("%sbudget %d and reserve %d exceed its max_connections %d, of which %d are kept for superusers",
			at, s.Budget, s.Reserve, found.MaxConnections, found.Kept),
			"freehold server add "+s.Name+" … --budget N (or raise max_connections)")
	} else {
		d.ok("%sbudget %d and reserve %d of %d connections", at, s.Budget, s.Reserve, found.MaxConnections)
	}
	if found.WALLevel != "logical" {
		d.bad(at+"wal_level is "+found.WALLevel+": tenants can be moved off it by dump only, not while they write",
			"alter system set wal_level = 'logical'; then restart it")
	} else {
		d.ok("%swal_level is logical", at)
	}
	if found.SyncMethod == "fsync" && s.Tenants > manyTenants {
		d.bad(fmt.Sprintf("%srecovery_init_sync_method is fsync with %d tenants: minutes to come back from a crash", at, s.Tenants),
			"alter system set recovery_init_sync_method = 'syncfs'; select pg_reload_conf();")
	}
	d.strangers(ctx, conn, s)
}

// manyTenants is where walking all files of a server after a crash begins to take
// long: some 300 files a database.
const manyTenants = 200

func (d *diagnosis) strangers(ctx context.Context, conn *pgx.Conn, s catalog.Server) {
	open, err := openTo(ctx, conn, "public")
	switch {
	case err != nil:
		d.bad("server "+s.Name+": privileges can't be read: "+reason(ctx, err), "")
	case len(open) > 0:
		d.bad("server "+s.Name+": everybody can connect to "+strings.Join(open, ", "),
			"as a superuser: "+SuperuserStatement(s.AdminUser, open...))
	default:
		d.ok("server %s: strangers can connect to nothing", s.Name)
	}
}

func (d *diagnosis) creations(tenants []catalog.Tenant) {
	for _, t := range tenants {
		if t.State == catalog.Provisioning {
			d.bad("tenant "+t.Slug+" is half made", "freehold tenant create "+t.Slug)
		}
	}
}

func (d *diagnosis) schemas(tenants []catalog.Tenant) {
	behind, ahead := 0, 0
	for _, t := range tenants {
		switch {
		case t.State == catalog.Provisioning:
		case t.SchemaVersion < d.latest:
			behind++
		case t.SchemaVersion > d.latest:
			ahead++
		}
	}
	if behind > 0 {
		d.bad(fmt.Sprintf("%d of %d tenants are behind schema %d", behind, len(tenants), d.latest), "freehold migrate up")
	}
	if ahead > 0 {
		d.bad(fmt.Sprintf("%d of %d tenants are ahead of schema %d", ahead, len(tenants), d.latest),
			"run the newer freehold that migrated them")
	}
	if behind+ahead == 0 {
		d.ok("%d tenants, all at schema %d", len(tenants), d.latest)
	}
}

const selectFence = `select fence from freehold.tenant_identity`

// fences finds databases that have seen a later truth than the catalog tells: the
// catalog was restored from before it.
func (d *diagnosis) fences(ctx context.Context, tenants []catalog.Tenant) {
	var (
		mu    sync.Mutex // guards ahead, away
		ahead []string
		away  []string
		group errgroup.Group
	)
	group.SetLimit(proveParallel)
	for _, t := range tenants {
		if t.State == catalog.Provisioning {
			continue
		}
		group.Go(func() error {
			fence, err := d.readFence(ctx, t)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				away = append(away, t.Slug)
			case fence > t.Epoch:
				ahead = append(ahead, t.Slug)
			}
			return nil
		})
	}
	_ = group.Wait() // failures are in away
	if len(away) > 0 {
		d.bad("no answer from the databases of: "+few(away), "freehold tenant prove SLUG, and look at their server")
	}
	if len(ahead) > 0 {
		d.bad("the catalog is older than the databases of: "+few(ahead), "restore the newest backup: freehold catalog restore")
	}
	if len(away)+len(ahead) == 0 {
		d.ok("every tenant's database answers, none ahead of the catalog")
	}
}

func (d *diagnosis) readFence(ctx context.Context, t catalog.Tenant) (fence int64, err error) {
	conn, err := d.owner(ctx, t)
	if err != nil {
		return 0, err
	}
	defer closeConn(ctx, conn)
	return fence, conn.QueryRow(ctx, selectFence).Scan(&fence)
}

// few keeps a line readable when a whole server is away.
func few(slugs []string) string {
	slices.Sort(slugs)
	const most = 5
	if len(slugs) <= most {
		return strings.Join(slugs, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(slugs[:most], ", "), len(slugs)-most)
}
