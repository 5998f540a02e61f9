package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
)

func (e *env) tenantCmd() *cobra.Command {
	return group("tenant", "Tenants and their databases", e.tenantCreate(), e.tenantList(), e.tenantShow(), e.tenantPsql(), e.tenantProve(),
		e.tenantSuspend(), e.tenantResume())
}

func (e *env) tenantCreate() *cobra.Command {
	var (
		spec   catalog.TenantSpec
		labels []string
	)
	c := &cobra.Command{
		Use: "create SLUG", Short: "Onboard a tenant: database, prefix, configuration, API key", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.withAll(app.NeedCatalog|app.NeedS3, func(ctx context.Context, p *app.Platform, args []string) error {
			spec.Slug = args[0]
			spec.Labels = map[string]string{}
			for _, l := range labels {
				k, v, ok := strings.Cut(l, "=")
				if !ok {
					return fmt.Errorf("%w: --label wants KEY=VALUE, not %q", errUsage, l)
				}
				spec.Labels[k] = v
			}
			t, key, err := p.Fleet.Create(ctx, spec)
			if err != nil {
				return createFailed(spec, err)
			}
			if err := audit(ctx, p, "tenant.create", t.ID, map[string]any{"slug": t.Slug}); err != nil {
				return err
			}
			return e.show(map[string]any{"tenant": t, "api_key": key}, table{rows: [][]string{
				{"tenant", t.Slug}, {"id", t.ID.String()}, {"server", t.Server}, {"database", t.Database},
				{"API key", key + "  (shown once)"},
			}})
		}),
	}
	f := c.Flags()
	f.StringVar(&spec.Name, "name", "", "its name (default: the slug)")
	f.StringVar(&spec.Email, "email", "", "whom to write to")
	f.StringVar(&spec.Plan, "plan", "", "its plan (default: standard)")
	f.StringVar(&spec.Region, "region", "", "place it on a server of this region")
	f.StringVar(&spec.Server, "server", "", "place it on this server")
	f.StringArrayVar(&labels, "label", nil, "KEY=VALUE, repeated")
	return c
}

// createFailed says what of a new tenant was at fault: not found is a server.
func createFailed(spec catalog.TenantSpec, err error) error {
	if errors.Is(err, catalog.ErrNotFound) && spec.Server != "" {
		return named("server", spec.Server, err)
	}
	return named("tenant", spec.Slug, err)
}

// states are those that a tenant can be listed by.
var states = []string{
	string(catalog.Provisioning), string(catalog.Active), string(catalog.Suspended),
	string(catalog.Moving), string(catalog.Deleting), string(catalog.Deleted),
}

func (e *env) tenantList() *cobra.Command {
	var f catalog.TenantFilter
	c := &cobra.Command{
		Use: "list", Short: "List tenants", Args: usageArgs(cobra.NoArgs),
		RunE: e.with(func(ctx context.Context, p *app.Platform, _ []string) error {
			if f.Limit < 0 {
				return fmt.Errorf("%w: --limit is not negative", errUsage)
			}
			if f.State != "" && !slices.Contains(states, f.State) {
				return fmt.Errorf("%w: --state is one of %s", errUsage, strings.Join(states, ", "))
			}
			all := []catalog.Tenant{}
			want := f.Limit
			f.Limit = 500
			for want == 0 || len(all) < want {
				page, err := p.Catalog.Tenants(ctx, f)
				if err != nil {
					return err
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
			return e.showTenants(all, all)
		}),
	}
	fl := c.Flags()
	fl.StringVar(&f.State, "state", "", "only in this state")
	fl.StringVar(&f.Server, "server", "", "only on this server")
	fl.StringVar(&f.Region, "region", "", "only in this region")
	fl.StringVar(&f.Plan, "plan", "", "only of this plan")
	fl.StringVar(&f.Label, "label", "", "only with this label, KEY=VALUE")
	fl.IntVar(&f.Limit, "limit", 0, "at most so many (0: all)")
	return c
}

func (e *env) tenantShow() *cobra.Command {
	return &cobra.Command{
		Use: "show SLUG", Short: "Show one tenant", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			t, err := tenant(ctx, p, args[0])
			if err != nil {
				return err
			}
			return e.show(t, table{rows: [][]string{
				{"tenant", t.Slug}, {"name", t.Name}, {"email", t.Email}, {"id", t.ID.String()}, {"plan", t.Plan},
				{"state", string(t.State)}, {"region", t.Region}, {"server", t.Server}, {"database", t.Database},
				{"schema", strconv.FormatInt(t.SchemaVersion, 10)}, {"epoch", strconv.FormatInt(t.Epoch, 10)},
				{"created", moment(t.CreatedAt)},
			}})
		}),
	}
}

func (e *env) showTenants(value any, list []catalog.Tenant) error {
	t := table{head: []string{"tenant", "state", "plan", "region", "server", "schema", "created"}}
	for _, x := range list {
		t.add(x.Slug, string(x.State), x.Plan, x.Region, x.Server, strconv.FormatInt(x.SchemaVersion, 10), moment(x.CreatedAt))
	}
	return e.show(value, t)
}

func (e *env) tenantProve() *cobra.Command {
	return &cobra.Command{
		Use:   "prove SLUG",
		Short: "Try, as the tenant's own role, every forbidden connection and grant",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			t, err := tenant(ctx, p, args[0])
			if err != nil {
				return err
			}
			lines, err := p.Fleet.Prove(ctx, t.ID)
			if err != nil {
				return err
			}
			tab := table{}
			allowed := 0
			for _, l := range lines {
				if !l.OK {
					allowed++
				}
				tab.add(l.Try, l.Result)
			}
			if err := audit(ctx, p, "tenant.prove", t.ID, map[string]any{"tried": len(lines), "allowed": allowed}); err != nil {
				return err
			}
			if err := e.show(lines, tab); err != nil {
				return err
			}
			if allowed > 0 {
				return fmt.Errorf("%d of %d were not as they must be: tenant %s is not isolated", allowed, len(lines), t.Slug)
			}
			return nil
		}),
	}
}
