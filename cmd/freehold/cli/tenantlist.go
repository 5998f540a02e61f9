package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
)

// states are those that a tenant can be listed by.
var states = []string{
	string(catalog.Provisioning), string(catalog.Active), string(catalog.Suspended),
	string(catalog.Moving), string(catalog.Deleting), string(catalog.Deleted),
}

func (e *env) tenantList() *cobra.Command {
	var (
		f            catalog.TenantFilter
		older, newer string
	)
	c := &cobra.Command{
		Use: "list", Short: "List tenants", Args: usageArgs(cobra.NoArgs),
		Example: "  freehold tenant list --schema '<3' --older-than 30d",
		RunE: e.with(func(ctx context.Context, p *app.Platform, _ []string) (err error) {
			if f.Limit < 0 {
				return fmt.Errorf("%w: --limit is not negative", errUsage)
			}
			if f.State != "" && !slices.Contains(states, f.State) {
				return fmt.Errorf("%w: --state is one of %s", errUsage, strings.Join(states, ", "))
			}
			if f.OlderThan, err = age("older-than", older); err != nil {
				return err
			}
			if f.NewerThan, err = age("newer-than", newer); err != nil {
				return err
			}
			all, err := allTenants(ctx, p, f)
			if err != nil {
				return err
			}
			return e.showTenants(all, all)
		}),
	}
	fl := c.Flags()
	fl.StringVar(&f.State, "state", "", "only in this state")
	fl.StringVar(&f.Server, "server", "", "only on this server")
	fl.StringVar(&f.Region, "region", "", "only in this region")
	fl.StringVar(&f.Plan, "plan", "", "only of this plan")
	fl.StringVar(&f.Label, "label", "", "only with this label, KEY=VALUE or KEY")
	fl.StringVar(&f.Schema, "schema", "", "only at this `version` of the schema: 3, '<3', '<=3', '>3' or '>=3'")
	fl.StringVar(&older, "older-than", "", "only those registered longer ago than this `age`: 90m, 12h, 30d")
	fl.StringVar(&newer, "newer-than", "", "only those registered within this `age`")
	fl.IntVar(&f.Limit, "limit", 0, "at most so many (0: all)")
	return c
}

// age reads a flag; empty is none.
func age(flag, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := catalog.ParseAge(flag, text)
	if err != nil {
		return 0, fmt.Errorf("%w: --%s wants an age such as 90m, 12h or 30d, not %q", errUsage, flag, text)
	}
	return d, nil
}

// allTenants reads page after page, up to the filter's limit.
func allTenants(ctx context.Context, p *app.Platform, f catalog.TenantFilter) ([]catalog.Tenant, error) {
	all := []catalog.Tenant{}
	want := f.Limit
	f.Limit = 500
	for want == 0 || len(all) < want {
		page, err := p.Catalog.Tenants(ctx, f)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < f.Limit {
			break
		}
		f.After = page[len(page)-1].Slug
	}
	if want > 0 && len(all) > want {
		all = all[:want]
	}
	return all, nil
}

func (e *env) showTenants(value any, list []catalog.Tenant) error {
	t := table{head: []string{"tenant", "state", "plan", "region", "server", "schema", "created"}}
	for _, x := range list {
		t.add(x.Slug, string(x.State), x.Plan, x.Region, x.Server, versionsOf(x), moment(x.CreatedAt))
	}
	return e.show(value, t)
}

// versionsOf is what a tenant's database has, the product's version behind Freehold's.
func versionsOf(t catalog.Tenant) string {
	return catalog.Versions{Freehold: t.SchemaVersion, Product: t.ProductVersion}.String()
}
