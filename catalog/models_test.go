package catalog_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"freehold/catalog"
)

// models is a catalog with two engines and a model on the first.
func modelled(t *testing.T) *bench {
	t.Helper()
	b := setup(t)
	for _, name := range []string{"one", "two"} {
		_, err := b.cat.AddEngine(t.Context(), catalog.EngineSpec{Name: name, Kind: "builtin"})
		b.ok(err)
	}
	_, err := b.cat.AddModel(t.Context(), catalog.Model{Name: "big", Engine: "one", Kind: "chat"})
	b.ok(err)
	return b
}

func TestAddModel(t *testing.T) {
	t.Parallel()
	b := modelled(t)
	ctx := t.Context()
	m, err := b.cat.AddModel(ctx, catalog.Model{
		Name: "small", Engine: "one", Upstream: "s-1", Kind: "chat", InputPrice: "1000000000.0",
		Fallbacks: []catalog.Fallback{{Engine: "two"}, {Engine: "one", Upstream: "s-0"}}, PartTokens: 700, MessageOverhead: 3,
	})
	b.ok(err)
	if want := []catalog.Fallback{{"two", "s-1"}, {"one", "s-0"}}; !slices.Equal(m.Fallbacks, want) ||
		m.MaxOutputTokens != 4096 || m.TokenOverhead != 32 || m.MessageOverhead != 3 || m.PartTokens != 700 || m.Aliases == nil {
		t.Errorf("added %+v", m)
	}
	if list, err := b.cat.Models(ctx); err != nil || len(list) != 2 || list[0].Fallbacks == nil || !slices.Equal(list[1].Fallbacks, m.Fallbacks) {
		t.Errorf("listed %+v: %v", list, err)
	}
	for field, bad := range map[string]catalog.Model{
		"engine":            {Engine: "none"},
		"fallbacks":         {Fallbacks: []catalog.Fallback{{Engine: "none"}}},
		"fallbacks ":        {Fallbacks: []catalog.Fallback{{Engine: "one"}}}, // the first choice again
		"fallbacks  ":       {Fallbacks: slices.Repeat([]catalog.Fallback{{Engine: "two"}}, 2)},
		"fallbacks   ":      {Fallbacks: []catalog.Fallback{{Engine: "Not a name"}}},
		"fallbacks    ":     {Fallbacks: slices.Repeat([]catalog.Fallback{{Engine: "two"}}, 9)},
		"input_price":       {InputPrice: "1000000000.000001"},
		"output_price":      {OutputPrice: "1000000001"},
		"input_price ":      {InputPrice: "-1"},
		"input_price  ":     {InputPrice: "1e3"},
		"max_output_tokens": {MaxOutputTokens: -1},
		"token_overhead":    {TokenOverhead: -1},
		"message_overhead":  {MessageOverhead: -1},
		"part_tokens":       {PartTokens: 10_000_001},
		"trainer":           {Trainer: "command:../sh"},
		"trainer ":          {Trainer: "openai"}, // another kind of engine
	} {
		bad.Name, bad.Kind = "bad", "chat"
		if bad.Engine == "" {
			bad.Engine = "one"
		}
		_, err := b.cat.AddModel(ctx, bad)
		if refused, ok := errors.AsType[*catalog.Invalid](err); !ok || refused.Field != strings.TrimSpace(field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	b.is(b.cat.RemoveEngine(ctx, "two"), catalog.ErrConflict) // something falls back to it
	b.ok(b.cat.RemoveModel(ctx, "small"))
	b.ok(b.cat.RemoveEngine(ctx, "two"))
}

// Prices, engines and bounds change in one step; what isn't named stays.
func TestSetModel(t *testing.T) {
	t.Parallel()
	b := modelled(t)
	ctx := t.Context()
	_, err := b.cat.AddModel(ctx, catalog.Model{
		Name: "small", Engine: "one", Upstream: "s-1", Kind: "chat", InputPrice: "3", OutputPrice: "15",
		Fallbacks: []catalog.Fallback{{Engine: "two"}}, PartTokens: 700,
	})
	b.ok(err)
	_, err = b.cat.SetAlias(ctx, "gpt", "small")
	b.ok(err)

	m, err := b.cat.SetModel(ctx, "small", catalog.ModelPatch{InputPrice: new("4.50"), TokenOverhead: new(0)})
	b.ok(err)
	if m.InputPrice != "4.5" || m.OutputPrice != "15" || m.TokenOverhead != 0 || m.PartTokens != 700 || m.Upstream != "s-1" ||
		!slices.Equal(m.Fallbacks, []catalog.Fallback{{"two", "s-1"}}) || !slices.Equal(m.Aliases, []string{"gpt"}) {
		t.Errorf("set %+v", m)
	}
	m, err = b.cat.SetModel(ctx, "small", catalog.ModelPatch{Engine: new("two"), Fallbacks: &[]catalog.Fallback{{Engine: "one"}}})
	b.ok(err)
	if m.Engine != "two" || !slices.Equal(m.Fallbacks, []catalog.Fallback{{"one", "s-1"}}) {
		t.Errorf("turned round %+v", m)
	}
	m, err = b.cat.SetModel(ctx, "small", catalog.ModelPatch{Trainer: new("command:trl")})
	b.ok(err)
	if m.Trainer != "command:trl" || m.Engine != "two" {
		t.Errorf("with a trainer %+v", m)
	}
	if m, err = b.cat.SetModel(ctx, "small", catalog.ModelPatch{Trainer: new("")}); err != nil || m.Trainer != "" {
		t.Errorf("without it %+v: %v", m, err)
	}
	m, err = b.cat.SetModel(ctx, "small", catalog.ModelPatch{Fallbacks: new([]catalog.Fallback(nil))})
	b.ok(err)
	m, err = b.cat.SetModel(ctx, "small", catalog.ModelPatch{Upstream: new("")})
	b.ok(err)
	if list, err := b.cat.Models(ctx); err != nil || len(m.Fallbacks) != 0 || m.Upstream != "small" || list[1].Fallbacks == nil || list[1].Engine != "two" {
		t.Errorf("listed %+v: %v", list, err)
	}

	for field, bad := range map[string]catalog.ModelPatch{
		"engine":            {Engine: new("none")},
		"fallbacks":         {Fallbacks: &[]catalog.Fallback{{Engine: "two"}}}, // the first choice again
		"input_price":       {InputPrice: new("-1")},
		"output_price":      {OutputPrice: new("")},
		"max_output_tokens": {MaxOutputTokens: new(0)},
		"trainer":           {Trainer: new("openai")}, // another kind of engine
	} {
		_, err := b.cat.SetModel(ctx, "small", bad)
		if refused, ok := errors.AsType[*catalog.Invalid](err); !ok || refused.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	_, err = b.cat.SetModel(ctx, "gpt", catalog.ModelPatch{InputPrice: new("1")}) // an alias has no price
	b.is(err, catalog.ErrNotFound)
}

func TestAliases(t *testing.T) {
	t.Parallel()
	b := modelled(t)
	ctx := t.Context()
	cache := b.cache(b.cat, catalog.CacheConfig{})
	stands := func(alias, model string) {
		t.Helper()
		b.within(5*time.Second, alias+" stands for "+model, func() bool {
			m, err := cache.Model(ctx, alias)
			return model == "" && errors.Is(err, catalog.ErrNotFound) || err == nil && m.Name == model
		})
	}
	_, err := b.cat.AddModel(ctx, catalog.Model{Name: "small", Engine: "two", Kind: "chat"})
	b.ok(err)
	m, err := b.cat.SetAlias(ctx, "gpt-4o-mini", "big")
	b.ok(err)
	if m.Name != "big" || !slices.Equal(m.Aliases, []string{"gpt-4o-mini"}) {
		t.Errorf("%+v", m)
	}
	stands("gpt-4o-mini", "big")
	m, err = b.cat.SetAlias(ctx, "gpt-4o-mini", "small")
	b.ok(err)
	if m.Name != "small" || !slices.Equal(m.Aliases, []string{"gpt-4o-mini"}) {
		t.Errorf("%+v", m)
	}
	stands("gpt-4o-mini", "small")
	stands("small", "small")
	if list, err := cache.Models(ctx); err != nil || len(list) != 2 || len(list[0].Aliases) != 0 || len(list[1].Aliases) != 1 {
		t.Errorf("%+v: %v", list, err)
	}

	_, err = b.cat.SetAlias(ctx, "big", "small")
	b.is(err, catalog.ErrExists)
	_, err = b.cat.SetAlias(ctx, "big", "big")
	b.is(err, catalog.ErrExists)
	_, err = b.cat.SetAlias(ctx, "x", "gpt-4o-mini") // an alias of an alias
	b.is(err, catalog.ErrInvalid)
	_, err = b.cat.SetAlias(ctx, "x", "none")
	b.is(err, catalog.ErrInvalid)
	_, err = b.cat.SetAlias(ctx, "no name", "big")
	b.is(err, catalog.ErrInvalid)
	_, err = b.cat.AddModel(ctx, catalog.Model{Name: "gpt-4o-mini", Engine: "one", Kind: "chat"})
	b.is(err, catalog.ErrExists)

	b.is(b.cat.RemoveModel(ctx, "small"), catalog.ErrConflict)
	b.is(b.cat.RemoveAlias(ctx, "small"), catalog.ErrNotFound)
	b.ok(b.cat.RemoveAlias(ctx, "gpt-4o-mini"))
	b.is(b.cat.RemoveAlias(ctx, "gpt-4o-mini"), catalog.ErrNotFound)
	b.ok(b.cat.RemoveModel(ctx, "small"))
	stands("gpt-4o-mini", "")
}

// A name is a model's or an alias's, whoever asks for it at the same time.
func TestAliases_race(t *testing.T) {
	t.Parallel()
	b := modelled(t)
	for i := range 10 {
		name := fmt.Sprintf("name-%d", i)
		var model, alias error
		var both sync.WaitGroup
		both.Go(func() {
			_, model = b.cat.AddModel(t.Context(), catalog.Model{Name: name, Engine: "one", Kind: "chat"})
		})
		both.Go(func() { _, alias = b.cat.SetAlias(t.Context(), name, "big") })
		both.Wait()
		if (model == nil) == (alias == nil) {
			t.Fatalf("%s: as a model %v, as an alias %v", name, model, alias)
		}
		b.is(errors.Join(model, alias), catalog.ErrExists)
	}
}
