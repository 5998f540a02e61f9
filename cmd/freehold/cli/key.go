package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
)

func (e *env) keyCmd() *cobra.Command {
	return group("key", "Tenants' API keys", e.keyCreate(), e.keyList(), e.keyRevoke())
}

func (e *env) keyCreate() *cobra.Command {
	var (
		spec    catalog.KeySpec
		expires span
	)
	c := &cobra.Command{
		Use: "create TENANT", Short: "Make a key; it is shown once", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			t, err := tenant(ctx, p, args[0])
			if err != nil {
				return err
			}
			spec.ExpiresAt = expires.fromNow()
			k, token, err := p.Catalog.CreateKey(ctx, t.ID, spec)
			if err != nil {
				return err
			}
			// The key is shown whatever comes after it: nobody can show it again.
			shown := e.show(map[string]any{"key": k, "token": token}, table{rows: [][]string{
				{"key", k.ID}, {"scopes", strings.Join(k.Scopes, ",")}, {"expires", momentOr(k.ExpiresAt, "never")},
				{"token", token + "  (shown once)"},
			}})
			return errors.Join(shown, audit(ctx, p, "key.create", t.ID, map[string]any{"key": k.ID, "scopes": k.Scopes}))
		}),
	}
	f := c.Flags()
	f.StringSliceVar(&spec.Scopes, "scope", []string{catalog.ScopeAll}, "scopes, by comma")
	f.StringVar(&spec.Name, "name", "", "what it is for")
	f.Var(&expires, "expires-in", "for how long it holds, as 12h or 30d (default: for good)")
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
			tab := table{head: []string{"key", "name", "scopes", "created", "expires", "revoked"}}
			for _, k := range keys {
				tab.add(k.ID, k.Name, strings.Join(k.Scopes, ","), moment(k.CreatedAt), momentOr(k.ExpiresAt, "never"), momentOr(k.RevokedAt, "no"))
			}
			return e.show(keys, tab)
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

func (e *env) configCmd() *cobra.Command {
	get := &cobra.Command{
		Use: "get TENANT", Short: "Show a tenant's configuration", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			t, err := tenant(ctx, p, args[0])
			if err != nil {
				return err
			}
			c, err := p.Catalog.TenantConfig(ctx, t.ID)
			if err != nil {
				return err
			}
			return e.showConfig(c)
		}),
	}
	set := &cobra.Command{
		Use:     "set TENANT NAME=VALUE...",
		Short:   "Change a tenant's configuration, on every node within a second",
		Example: "  freehold config set acme concurrent_request_limit=20 allowed_models=freehold-answer-1,freehold-embed-1",
		Args:    usageArgs(cobra.MinimumNArgs(2)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			patch, names, err := parsePatch(args[1:])
			if err != nil {
				return err
			}
			t, err := tenant(ctx, p, args[0])
			if err != nil {
				return err
			}
			c, err := p.Fleet.PatchConfig(ctx, t.ID, patch)
			if stands(err) {
				err = errors.Join(err, audit(ctx, p, "config.set", t.ID, map[string]any{"names": names}))
			}
			if err != nil {
				return again(err)
			}
			return e.showConfig(c)
		}),
	}
	return group("config", "Tenants' configuration", get, set)
}

// parsePatch reads NAME=VALUE pairs by the JSON names of catalog.ConfigPatch, and
// reports every mistake at once.
func parsePatch(pairs []string) (catalog.ConfigPatch, []string, error) {
	kinds := map[string]reflect.Type{}
	var known []string
	for f := range reflect.TypeFor[catalog.ConfigPatch]().Fields() {
		name := f.Tag.Get("json")
		kinds[name] = f.Type.Elem()
		known = append(known, name)
	}
	var (
		errs  []error
		names []string
		body  = map[string]any{}
	)
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		kind, have := kinds[name]
		if !ok || !have {
			errs = append(errs, fmt.Errorf("%w: %q is not NAME=VALUE with a name of %s", errUsage, pair, strings.Join(known, ", ")))
			continue
		}
		v, err := patchValue(kind, value)
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: %s: %w", errUsage, name, err))
			continue
		}
		body[name] = v
		names = append(names, name)
	}
	var patch catalog.ConfigPatch
	if err := errors.Join(errs...); err != nil {
		return patch, nil, err
	}
	b, err := json.Marshal(body)
	if err == nil {
		err = json.Unmarshal(b, &patch)
	}
	return patch, names, err
}

func patchValue(kind reflect.Type, value string) (any, error) {
	switch kind.Kind() {
	case reflect.Bool:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return nil, errors.New("want true or false")
		}
		return b, nil
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return nil, errors.New("want a whole number")
		}
		return n, nil
	case reflect.Slice:
		return strings.FieldsFunc(value, func(r rune) bool { return r == ',' }), nil
	default:
		return value, nil
	}
}

func (e *env) showConfig(c catalog.TenantConfig) error {
	var t table
	v := reflect.ValueOf(c)
	for f, value := range v.Fields() {
		cell := fmt.Sprint(value.Interface())
		if list, ok := value.Interface().([]string); ok {
			cell = strings.Join(list, ",")
		}
		t.add(f.Tag.Get("json"), cell)
	}
	return e.show(c, t)
}
