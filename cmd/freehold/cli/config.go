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
		Use:   "set TENANT NAME=VALUE...",
		Short: "Change a tenant's configuration, on every node within a second",
		Long:  "Change a tenant's configuration, on every node within a second. Lists are given by comma; an empty value\nempties one.",
		Example: "  freehold config set acme concurrent_request_limit=20 allowed_models=freehold-answer-1,freehold-embed-1\n" +
			"  freehold config set acme pii_allow=support@acme.example pii_deny=",
		Args: usageArgs(cobra.MinimumNArgs(2)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			patch, names, err := parsePatch[catalog.ConfigPatch](args[1:])
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

// parsePatch reads NAME=VALUE pairs by the JSON names of a patch's fields, and
// reports every mistake at once.
func parsePatch[Patch any](pairs []string) (Patch, []string, error) {
	kinds := map[string]reflect.Type{}
	var known []string
	for f := range reflect.TypeFor[Patch]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		kinds[name] = f.Type
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
	var patch Patch
	if err := errors.Join(errs...); err != nil {
		return patch, nil, err
	}
	b, err := json.Marshal(body)
	if err == nil {
		err = json.Unmarshal(b, &patch)
	}
	return patch, names, err
}

// patchValue reads a value for a field of a patch. An empty one takes away what may
// be absent.
func patchValue(field reflect.Type, value string) (any, error) {
	kind := field
	if c, ok := reflect.Zero(field).Interface().(interface{ JSONType() reflect.Type }); ok {
		if kind = c.JSONType(); value == "" {
			return nil, nil
		}
	}
	switch kind.Elem().Kind() {
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
		list := []string{}
		for item := range strings.SplitSeq(value, ",") {
			if item = strings.TrimSpace(item); item != "" {
				list = append(list, item)
			}
		}
		return list, nil
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
