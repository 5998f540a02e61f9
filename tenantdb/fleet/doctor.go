package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"freehold/catalog"
)

// Finding is one thing that was looked at: what is so, and when it isn't OK the
// command or change that mends it.
type Finding struct {
	OK   bool   `json:"ok"`
	What string `json:"what"`
	Fix  string `json:"fix,omitempty"`
}

// Doctor looks at the catalog, this machine, each server and each tenant's
// database. What can't be reached is a finding, not an error, and so is a server
// that is down: nothing on it is looked at. The error is the catalog's alone.
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
	d.clients(servers)
	away := d.servers(ctx, servers)
	if err := d.links(ctx, servers, away); err != nil {
		return d.findings, err
	}
	tenants, err := f.tenants(ctx, func(catalog.Tenant) bool { return true })
	if err != nil {
		return d.findings, fmt.Errorf("doctor: %w", err)
	}
	f.dieAt("doctor/read")
	if err := d.creations(ctx, tenants); err != nil {
		return d.findings, err
	}
	if err := d.schemas(ctx, tenants); err != nil {
		return d.findings, err
	}
	d.fences(ctx, tenants, away)
	strays, err := f.cat.Findings(ctx)
	if err != nil {
		return d.findings, fmt.Errorf("doctor: %w", err)
	}
	d.strays(strays)
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

// strays are what the reconciler found when it last looked.
func (d *diagnosis) strays(list []catalog.Finding) {
	for _, s := range list {
		fix := s.Fix
		if fix == "" {
			fix = "nothing: the next reconciliation mends it"
		}
		d.bad(s.What+" (since "+s.Since.UTC().Format("2006-01-02 15:04")+" UTC)", fix)
	}
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
