package cli

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
)

func (e *env) keyCmd() *cobra.Command {
	return group("key", "Tenants' API keys", e.keyCreate(), e.keyList(), e.keySet(), e.keyRevoke())
}

func (e *env) keyCreate() *cobra.Command {
	var (
		spec       catalog.KeySpec
		expires    span
		tokens     int64
		concurrent int
	)
	var c *cobra.Command
	c = &cobra.Command{
		Use: "create TENANT", Short: "Make a key; it is shown once", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			t, err := tenant(ctx, p, args[0])
			if err != nil {
				return err
			}
			spec.ExpiresAt, spec.Actor = expires.fromNow(), actor()
			if c.Flags().Changed("monthly-tokens") {
				spec.MonthlyTokenLimit = &tokens
			}
			if c.Flags().Changed("concurrent") {
				spec.ConcurrentRequestLimit = &concurrent
			}
			k, token, err := p.Catalog.CreateKey(ctx, t.ID, spec)
			if err != nil {
				return err
			}
			tab := keyTable(k)
			tab.add("token", token+"  (shown once)")
			return e.show(map[string]any{"key": k, "token": token}, tab)
		}),
	}
	f := c.Flags()
	f.StringSliceVar(&spec.Scopes, "scope", []string{catalog.ScopeAll}, "scopes, by comma")
	f.StringVar(&spec.Name, "name", "", "what it is for")
	f.Var(&expires, "expires-in", "for how long it holds, as 12h or 30d (default: for good)")
	f.StringSliceVar(&spec.AllowedModels, "allow-model", nil, "models that it may use, by comma, a prefix with an asterisk too (default: all of the tenant's)")
	f.Int64Var(&tokens, "monthly-tokens", 0, "tokens that it may use in a month (default: no other limit than the tenant's)")
	f.IntVar(&concurrent, "concurrent", 0, "requests that it may have at work (default: no other limit than the tenant's)")
	return c
}

func (e *env) keyList() *cobra.Command {
	return &cobra.Command{
		Use: "list TENANT", Short: "List a tenant's keys", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			t, err := tenant(ctx, p, args[0])
			if err != nil {
				return err
			}
			keys, err := p.Catalog.Keys(ctx, t.ID)
			if err != nil {
				return err
			}
			tab := table{head: []string{"key", "name", "scopes", "models", "tokens a month", "at a time", "created", "ends"}}
			for _, k := range keys {
				ends := momentOr(k.ExpiresAt, "never")
				if k.RevokedAt != nil {
					ends = "revoked " + moment(*k.RevokedAt)
				}
				tab.add(k.ID, k.Name, strings.Join(k.Scopes, ","), modelsOr(k, "all"), numberOr(k.MonthlyTokenLimit, "-"),
					numberOr(k.ConcurrentRequestLimit, "-"), moment(k.CreatedAt), ends)
			}
			return e.show(keys, tab)
		}),
	}
}

func (e *env) keySet() *cobra.Command {
	return &cobra.Command{
		Use:   "set TENANT KEY NAME=VALUE...",
		Short: "Change a key's name, models or limits, on every node within a second",
		Long: "Change a key's name, allowed_models, monthly_token_limit or concurrent_request_limit, on every node\n" +
			"within a second. An empty value takes a limit away: the tenant's own remain.",
		Example: "  freehold key set acme 3fGh0aBcD1eF monthly_token_limit=50000 allowed_models=freehold-embed-1,gpt-*\n" +
			"  freehold key set acme 3fGh0aBcD1eF concurrent_request_limit=",
		Args: usageArgs(cobra.MinimumNArgs(3)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			patch, names, err := parsePatch[catalog.KeyPatch](args[2:])
			if err != nil {
				return err
			}
			t, err := tenant(ctx, p, args[0])
			if err != nil {
				return err
			}
			k, err := p.Fleet.PatchKey(ctx, t.ID, args[1], patch)
			if stands(err) {
				err = errors.Join(err, audit(ctx, p, "key.set", t.ID, map[string]any{"key": args[1], "names": names}))
			}
			if err != nil {
				return named("key", args[1], again(err))
			}
			return e.show(k, keyTable(k))
		}),
	}
}

func (e *env) keyRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke TENANT KEY", Short: "Revoke a key, on every node within a second", Args: usageArgs(cobra.ExactArgs(2)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			t, err := tenant(ctx, p, args[0])
			if err != nil {
				return err
			}
			err = p.Fleet.RevokeKey(ctx, t.ID, args[1])
			if stands(err) {
				err = errors.Join(err, audit(ctx, p, "key.revoke", t.ID, map[string]any{"key": args[1]}))
			}
			if err != nil {
				return named("key", args[1], again(err))
			}
			return e.show(map[string]any{"key": args[1], "revoked": true}, table{rows: [][]string{{"revoked " + args[1]}}})
		}),
	}
}

// keyTable shows one key.
func keyTable(k catalog.Key) table {
	return table{rows: [][]string{
		{"key", k.ID}, {"name", k.Name}, {"scopes", strings.Join(k.Scopes, ",")}, {"models", modelsOr(k, tenants)},
		{"tokens a month", numberOr(k.MonthlyTokenLimit, tenants)}, {"requests at a time", numberOr(k.ConcurrentRequestLimit, tenants)},
		{"expires", momentOr(k.ExpiresAt, "never")},
	}}
}

// tenants is what a key's own limit is when it has none.
const tenants = "the tenant's"

func modelsOr(k catalog.Key, otherwise string) string {
	if k.AllowedModels == nil {
		return otherwise
	}
	return strings.Join(k.AllowedModels, ",")
}

func numberOr[T int | int64](n *T, otherwise string) string {
	if n == nil {
		return otherwise
	}
	return strconv.FormatInt(int64(*n), 10)
}
