package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"freehold/cmd/freehold/app"
	"freehold/migrations"
	"freehold/tenantdb/fleet"
)

func (e *env) driftCmd() *cobra.Command {
	var o fleet.DriftOptions
	var dir string
	c := &cobra.Command{
		Use: "drift [SLUG...]", Short: "Compare the schemas of tenants' databases with what their migrations make",
		Long: `Compare the schemas of tenants' databases with what their migrations make.

On each server a database is migrated from zero, looked at and dropped; each tenant's
is compared with it: tables, columns, constraints, indexes and their validity, views,
sequences, functions, triggers, policies, types, extensions, owners and grants. Without
a SLUG, those of all active tenants. What differs is told and never changed, but for
indexes that aren't valid, with --rebuild.`,
		RunE: func(c *cobra.Command, args []string) error {
			if o.Parallel < 1 {
				return fmt.Errorf("%w: --parallel is at least 1", errUsage)
			}
			if dir != "" {
				set, err := migrations.ReadDir(dir)
				if err != nil {
					return err
				}
				o.Set = &set
			}
			o.Tenants = args
			return e.with(func(ctx context.Context, p *app.Platform, _ []string) error { return e.drift(ctx, p, o) })(c, args)
		},
	}
	c.Flags().BoolVar(&o.Rebuild, "rebuild", false, "rebuild the indexes that aren't valid, without blocking reads or writes")
	c.Flags().IntVar(&o.Parallel, "parallel", 4, "databases at once on each server")
	c.Flags().StringVar(&dir, "dir", "", "folder with the product's migrations, to be compared with what was rolled out")
	return c
}

func (e *env) drift(ctx context.Context, p *app.Platform, o fleet.DriftOptions) error {
	b := e.bar()
	o.Progress = func(done, total int) { b.draw("comparing", done, total) }
	report, err := p.Fleet.Drift(ctx, o)
	b.end()
	if err != nil && !errors.Is(err, fleet.ErrPartial) {
		return err
	}
	if e.output == "json" {
		return errors.Join(e.json(report), err)
	}
	for _, line := range driftLines(report) {
		e.say("%s", line)
	}
	return err
}

// mostNamed is how many tenants a line names.
const mostNamed = 10

// driftLines is the report for a person.
func driftLines(r fleet.DriftReport) []string {
	lines := []string{fmt.Sprintf("%d of %s as their migrations make them", r.Same, plural(r.Compared, "compared tenant"))}
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, g := range r.Groups {
		at := fmt.Sprintf("schema %d", g.Versions.Freehold)
		if g.Versions.Product > 0 {
			at += fmt.Sprintf(", product %d", g.Versions.Product)
		}
		add("")
		add("%s (%s) not as they should be: %s", plural(len(g.Tenants), "tenant"), at, someOf(g.Tenants))
		for _, d := range g.Differences {
			add("  %s", d)
		}
	}
	if len(r.Groups) > 0 {
		add("  → change it by hand (freehold tenant psql --write SLUG), or by a migration for all, then: freehold migrate drift")
	}
	if len(r.Invalid) > 0 {
		add("")
		add("indexes that aren't valid, and that nothing uses")
		for _, i := range r.Invalid {
			add("  %s: %s", i.Tenant, someOf(i.Indexes))
		}
		add("  → freehold migrate drift --rebuild")
	}
	if len(r.Rebuilt) > 0 {
		add("")
	}
	for _, i := range r.Rebuilt {
		if i.Done != "" {
			add("%s %s of %s", i.Done, i.Index, i.Tenant)
		} else {
			add("not rebuilt: %s of %s: %s", i.Index, i.Tenant, i.Reason)
		}
	}
	if len(r.Unseen) > 0 {
		add("")
	}
	for _, u := range r.Unseen {
		add("not compared: %s: %s", u.Tenant, u.Reason)
	}
	if len(r.Edited) > 0 {
		add("")
	}
	for _, f := range r.Edited {
		add("edited since it was rolled out: %s of stream %s → take the edit back, and write a new migration", f.Name, f.Stream)
	}
	return lines
}

// someOf names the first of a list, and how many more there are.
func someOf(list []string) string {
	if len(list) <= mostNamed {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:mostNamed], ", "), len(list)-mostNamed)
}
