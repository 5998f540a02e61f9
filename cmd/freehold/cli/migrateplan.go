package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/tenantdb/fleet"
)

func (e *env) migratePlanCmd() *cobra.Command {
	var all bool
	var dry fleet.DryRunOptions
	c := &cobra.Command{
		Use: "plan", Short: "Show which tenants a rollout would migrate, in which waves, and try it on a clone", Args: usageArgs(cobra.NoArgs),
		Long: `Show which tenants a rollout would migrate, in which waves, and try it on a clone.

It takes the flags of "migrate up". With --dry-run TENANT the pending migrations are
run on a clone of that tenant's database, on its server, which is dropped at the end:
locks taken, rewrites, durations and size are reported.

Exit status 1: "migrate up" would refuse, or a migration failed on the clone.`,
		Example: "  freehold migrate plan --dir migrations --canary acme\n  freehold migrate plan --dir migrations --dry-run acme",
	}
	spec := e.rolloutFlags(c)
	c.Flags().BoolVar(&all, "tenants", false, "list every tenant of each wave")
	c.Flags().StringVar(&dry.Tenant, "dry-run", "", "run it on a clone of this tenant's database")
	c.Flags().BoolVar(&dry.SchemaOnly, "schema-only", false, "a clone without rows: quicker, and tells no durations")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if dry.SchemaOnly && dry.Tenant == "" || c.Flags().Changed("dry-run") && dry.Tenant == "" {
			return fmt.Errorf("%w: --dry-run names a tenant", errUsage)
		}
		s, err := spec()
		if err != nil {
			return err
		}
		p, err := e.open(c, app.NeedCatalog)
		if err != nil {
			return err
		}
		defer p.Close()
		plan, err := p.Fleet.Plan(c.Context(), s)
		if err != nil {
			return err
		}
		if err := e.lintPending(c, plan); err != nil {
			return err
		}
		if dry.Tenant != "" {
			if err := e.dryRun(c.Context(), p, s, dry); err != nil {
				return err
			}
			return e.onlyProblems(plan)
		}
		return e.showPlan(plan, all)
	}
	return c
}

func (e *env) showPlan(plan fleet.Plan, all bool) error {
	if e.output == "json" {
		if err := e.json(plan); err != nil {
			return err
		}
	} else {
		for _, line := range planLines(plan, all) {
			e.say("%s", line)
		}
	}
	if plan.Refusal() != nil {
		return exitError(exitFailed) // its problems are told
	}
	return nil
}

// onlyProblems tells, on stderr, why the rollout of a plan that isn't shown can't begin.
func (e *env) onlyProblems(plan fleet.Plan) error {
	for _, problem := range plan.Problems {
		sayTo(e.err, "problem: %s", problem)
	}
	if plan.Refusal() != nil {
		return exitError(exitFailed)
	}
	return nil
}

// planLines is a plan for people.
func planLines(p fleet.Plan, all bool) []string {
	n := p.Tenants()
	head := fmt.Sprintf("%s: %s to version %d", p.Stream, plural(n, "tenant"), p.Target)
	if p.Target < p.Latest {
		head += fmt.Sprintf(" (the latest is %d)", p.Latest)
	}
	if p.Nothing() {
		head = fmt.Sprintf("%s: nothing to do, all are at version %d", p.Stream, p.Target)
	}
	lines := []string{head}
	if p.Current > 0 && !p.Nothing() {
		lines = append(lines, fmt.Sprintf("already there: %d", p.Current))
	}
	if p.Suspended > 0 {
		lines = append(lines, fmt.Sprintf("suspended, brought up when resumed: %d", p.Suspended))
	}
	if len(p.Pending) > 0 {
		lines = append(lines, "migrations: "+strings.Join(pendingNames(p), ", "))
	}
	if n > 0 {
		lines = append(append(lines, ""), waveTable(p, all)...)
		servers := table{head: []string{"server", "tenants", "at once", "reserve"}}
		for _, s := range p.Servers {
			servers.add(s.Name, strconv.Itoa(s.Tenants), strconv.Itoa(s.Parallel), strconv.Itoa(s.Reserve))
		}
		lines = append(append(lines, ""), servers.lines()...)
	}
	if len(p.Warnings)+len(p.Problems) > 0 {
		lines = append(lines, "")
	}
	for _, w := range p.Warnings {
		lines = append(lines, "warning: "+w)
	}
	for _, problem := range p.Problems {
		lines = append(lines, "problem: "+problem)
	}
	switch {
	case len(p.Problems) > 0:
		lines = append(lines, "it can't be begun like this")
	case !p.Nothing():
		lines = append(lines, "", "begin it: freehold migrate up, with the same flags")
	}
	return lines
}

func pendingNames(p fleet.Plan) []string {
	names := make([]string, len(p.Pending))
	for i, file := range p.Pending {
		names[i] = file.Name
		if file.NoTx {
			names[i] += " (no transaction)"
		}
		if file.Contracts > 0 {
			names[i] += fmt.Sprintf(" (contracts %d)", file.Contracts)
		}
	}
	return names
}

func waveTable(p fleet.Plan, all bool) []string {
	t := table{head: []string{"wave", "tenants", "from", "servers", "who"}}
	for _, w := range p.Waves {
		servers := map[string]int{}
		low, high := int64(0), int64(0)
		var slugs []string
		for i, tenant := range w.Tenants {
			servers[tenant.Server]++
			slugs = append(slugs, tenant.Slug)
			if i == 0 {
				low = tenant.From
			}
			low, high = min(low, tenant.From), max(high, tenant.From)
		}
		from := strconv.FormatInt(low, 10)
		if low != high {
			from += "–" + strconv.FormatInt(high, 10)
		}
		var where []string
		for _, name := range slices.SortedFunc(maps.Keys(servers), cmp.Compare[string]) {
			where = append(where, fmt.Sprintf("%s %d", name, servers[name]))
		}
		t.add(w.Name, strconv.Itoa(len(w.Tenants)), from, strings.Join(where, ", "), fewOf(slugs, all))
	}
	return t.lines()
}

// fewOf names the first few, or all.
func fewOf(names []string, all bool) string {
	const few = 4
	if all || len(names) <= few {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:few], ", ") + fmt.Sprintf(" and %d more", len(names)-few)
}

func (e *env) dryRun(ctx context.Context, p *app.Platform, s fleet.RolloutSpec, o fleet.DryRunOptions) error {
	r, err := p.Fleet.DryRun(ctx, s, o)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return named("tenant", o.Tenant, err)
	case err != nil && r.Failure == nil:
		return err
	}
	if e.output == "json" {
		if jerr := e.json(r); jerr != nil {
			return jerr
		}
	} else {
		for _, line := range dryRunLines(r) {
			e.say("%s", line)
		}
	}
	return err
}
