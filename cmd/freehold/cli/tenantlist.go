package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/cmd/freehold/need"
)

// states are those that a tenant can be listed by.
var states = []string{
	string(catalog.Provisioning), string(catalog.Active), string(catalog.Suspended),
	string(catalog.Moving), string(catalog.Deleting), string(catalog.Deleted),
}

func (e *env) tenantList() *cobra.Command {
	var (
		f                    catalog.TenantFilter
		older, newer, backup string
	)
	c := &cobra.Command{
		Use: "list", Short: "List tenants", Args: usageArgs(cobra.NoArgs),
		Example: "  freehold tenant list --schema '<3' --older-than 30d\n  freehold tenant list --backup-older-than 24h",
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
			if f.BackupOlderThan, err = age("backup-older-than", backup); err != nil {
				return err
			}
			all, err := allTenants(ctx, p, f)
			if err != nil {
				return err
			}
			if f.BackupOlderThan > 0 {
				return e.showBackupAges(ctx, p, all, f.BackupOlderThan)
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
	fl.StringVar(&backup, "backup-older-than", "", "only those whose newest backup is older than this `age`, or that have none in that time")
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

// showBackupAges shows tenants with their newest backup and its last proof, the oldest
// first.
func (e *env) showBackupAges(ctx context.Context, p *app.Platform, all []catalog.Tenant, than time.Duration) error {
	states, err := need.BackupStates(ctx, p.Catalog, than)
	if err != nil {
		return err
	}
	list := []need.BackedUp{}
	for _, t := range all {
		if state, ok := states[t.ID]; ok { // otherwise it was backed up meanwhile
			list = append(list, need.BackedUp{Tenant: t, Backup: &state})
		}
	}
	slices.SortStableFunc(list, func(a, b need.BackedUp) int { return cmp.Compare(b.Backup.Age, a.Backup.Age) })
	tab := table{head: []string{"tenant", "state", "plan", "server", "newest backup", "age", "target", "last proof"}}
	for _, t := range list {
		b, target := t.Backup, "-"
		if b.Target > 0 {
			target = need.Age(time.Duration(b.Target) * time.Second)
		}
		tab.add(t.Slug, string(t.State), t.Plan, t.Server, momentOr(b.NewestAt, "none"), roundAge(time.Duration(b.Age)*time.Second), target, proved(b.ProvedAt, b.ProofError))
	}
	return e.show(list, tab)
}

// roundAge is an age for people: 51h, 12d.
func roundAge(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 4*day:
		return strconv.Itoa(int(d/day)) + "d"
	case d >= time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	default:
		return strconv.Itoa(int(d/time.Minute)) + "m"
	}
}

// versionsOf is what a tenant's database has, the product's version behind Freehold's.
func versionsOf(t catalog.Tenant) string {
	return catalog.Versions{Freehold: t.SchemaVersion, Product: t.ProductVersion}.String()
}
