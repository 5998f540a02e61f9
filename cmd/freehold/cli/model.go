package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
)

func (e *env) modelCmd() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List models and their aliases", Args: usageArgs(cobra.NoArgs),
		RunE: e.with(func(ctx context.Context, p *app.Platform, _ []string) error {
			all, err := p.Catalog.Models(ctx)
			if err != nil {
				return err
			}
			return e.showModels(all, all)
		}),
	}
	remove := e.removeCmd("model", func(ctx context.Context, p *app.Platform, name string) error {
		return p.Catalog.RemoveModel(ctx, name)
	})
	return group("model", "Models that tenants can use", e.modelAdd(), e.modelSet(), list, remove, e.modelAlias(), e.modelUnalias(), e.modelEval())
}

func (e *env) modelAdd() *cobra.Command {
	var (
		m         catalog.Model
		fallbacks []string
	)
	c := &cobra.Command{
		Use:   "add NAME --engine ENGINE --kind chat|embedding",
		Short: "Offer a model of an engine to tenants",
		Example: `  freehold model add gpt-4o-mini --engine openai --kind chat --input-price 0.15 --output-price 0.60
  freehold model add llama --engine vllm --upstream meta/llama-3 --fallback ollama=llama3`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			m.Name = args[0]
			var err error
			if m.Fallbacks, err = parseFallbacks(fallbacks); err != nil {
				return err
			}
			added, err := p.Catalog.AddModel(ctx, m)
			if err != nil {
				return named("model", m.Name, err)
			}
			if err := audit(ctx, p, "model.add", catalog.TenantID{}, map[string]any{"model": m.Name, "engine": m.Engine, "trainer": m.Trainer}); err != nil {
				return err
			}
			return e.showModels(added, []catalog.Model{added})
		}),
	}
	modelFlags(c, &m, &fallbacks)
	c.Flags().StringVar(&m.Kind, "kind", "chat", "chat or embedding")
	return c
}

func modelFlags(c *cobra.Command, m *catalog.Model, fallbacks *[]string) {
	f := c.Flags()
	f.StringVar(&m.Engine, "engine", "", "the engine that serves it")
	f.StringVar(&m.Upstream, "upstream", "", "its name there (default: the same)")
	f.StringArrayVar(fallbacks, "fallback", nil, "ENGINE or ENGINE=UPSTREAM that answers when the engine fails; again for the next one")
	f.StringVar(&m.InputPrice, "input-price", "", "price of a million prompt tokens (default 0)")
	f.StringVar(&m.OutputPrice, "output-price", "", "price of a million answer tokens (default 0)")
	f.IntVar(&m.MaxOutputTokens, "max-output-tokens", 0, "the most that it answers with (default 4096)")
	f.IntVar(&m.TokenOverhead, "token-overhead", 0, "what it adds to each request, in tokens (default 32)")
	f.IntVar(&m.MessageOverhead, "message-overhead", 0, "what it adds to each message, in tokens (default 16)")
	f.StringVar(&m.Trainer, "trainer", "", "who fine-tunes it for tenants: builtin, openai or command:NAME (default: nobody)")
	f.IntVar(&m.PartTokens, "part-tokens", 0, "the most that an image, a sound or a file counts for, in tokens (default: they are refused)")
}

func parseFallbacks(list []string) (all []catalog.Fallback, err error) {
	for _, f := range list {
		engine, upstream, _ := strings.Cut(f, "=")
		if engine == "" {
			return nil, fmt.Errorf("%w: --fallback is ENGINE or ENGINE=UPSTREAM", errUsage)
		}
		all = append(all, catalog.Fallback{Engine: engine, Upstream: upstream})
	}
	return all, nil
}

func (e *env) modelSet() *cobra.Command {
	var (
		m         catalog.Model
		fallbacks []string
		c         *cobra.Command
	)
	c = &cobra.Command{
		Use:   "set NAME",
		Short: "Change a model's engine, fallbacks, prices, bounds or trainer; what isn't named stays",
		Long: `Change a model's engine, fallbacks, prices, bounds or trainer on every node; what isn't
named stays. Requests that were taken before keep their price, and fine-tuning jobs their
trainer. --fallback replaces all of them, and --fallback '' takes them away; --trainer ''
takes no more jobs.`,
		Example: "  freehold model set gpt-4o-mini --input-price 0.12\n  freehold model set llama --fallback ollama=llama3 --fallback openai=gpt-4o-mini\n" +
			"  freehold model set llama --trainer command:trl",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			var patch catalog.ModelPatch
			changed := c.Flags().Changed
			patch.Engine, patch.Upstream = given(changed("engine"), &m.Engine), given(changed("upstream"), &m.Upstream)
			patch.InputPrice, patch.OutputPrice = given(changed("input-price"), &m.InputPrice), given(changed("output-price"), &m.OutputPrice)
			patch.MaxOutputTokens, patch.TokenOverhead = given(changed("max-output-tokens"), &m.MaxOutputTokens), given(changed("token-overhead"), &m.TokenOverhead)
			patch.MessageOverhead, patch.PartTokens = given(changed("message-overhead"), &m.MessageOverhead), given(changed("part-tokens"), &m.PartTokens)
			patch.Trainer = given(changed("trainer"), &m.Trainer)
			if changed("fallback") {
				list := []catalog.Fallback{}
				if !slices.Equal(fallbacks, []string{""}) {
					var err error
					if list, err = parseFallbacks(fallbacks); err != nil {
						return err
					}
				}
				patch.Fallbacks = &list
			}
			if patch == (catalog.ModelPatch{}) {
				return fmt.Errorf("%w: say what is to change: freehold model set --help", errUsage)
			}
			set, err := p.Catalog.SetModel(ctx, args[0], patch)
			if err != nil {
				return named("model", args[0], err)
			}
			// What bills follow from stands in the audit, and who gets tenants' data.
			if err := audit(ctx, p, "model.set", catalog.TenantID{}, map[string]any{
				"name": set.Name, "engine": set.Engine, "input_price": set.InputPrice, "output_price": set.OutputPrice, "trainer": set.Trainer,
			}); err != nil {
				return err
			}
			return e.showModels(set, []catalog.Model{set})
		}),
	}
	modelFlags(c, &m, &fallbacks)
	c.Flags().VisitAll(func(f *pflag.Flag) { f.Usage, _, _ = strings.Cut(f.Usage, " (default") })
	return c
}

// given is a flag's value when it was named.
func given[T any](named bool, value *T) *T {
	if !named {
		return nil
	}
	return value
}

func (e *env) modelAlias() *cobra.Command {
	return &cobra.Command{
		Use:     "alias NAME MODEL",
		Short:   "Let a name stand for a model; one that stood for another stands for this one from then on",
		Example: "  freehold model alias gpt-4o-mini freehold-answer-1",
		Args:    usageArgs(cobra.ExactArgs(2)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			m, err := p.Catalog.SetAlias(ctx, args[0], args[1])
			if err != nil {
				return named("alias", args[0], err)
			}
			if err := audit(ctx, p, "model.alias", catalog.TenantID{}, map[string]any{"alias": args[0], "model": m.Name}); err != nil {
				return err
			}
			return e.showModels(m, []catalog.Model{m})
		}),
	}
}

func (e *env) modelUnalias() *cobra.Command {
	return &cobra.Command{
		Use: "unalias NAME", Short: "Take an alias away; the model stays", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			if err := p.Catalog.RemoveAlias(ctx, args[0]); err != nil {
				return named("alias", args[0], err)
			}
			return audit(ctx, p, "model.unalias", catalog.TenantID{}, map[string]any{"alias": args[0]})
		}),
	}
}

func (e *env) showModels(value any, all []catalog.Model) error {
	// The engines stand in the order in which they are asked, prices are of a million
	// tokens: three columns of each would be wider than a terminal.
	t := table{head: []string{"model", "aliases", "kind", "engines", "price in/out", "max output", "trainer"}}
	for _, x := range all {
		engines := []string{x.Engine + "=" + x.Upstream}
		for _, f := range x.Fallbacks {
			engines = append(engines, f.Engine+"="+f.Upstream)
		}
		t.add(x.Name, dash(x.Aliases), x.Kind, strings.Join(engines, ","), x.InputPrice+"/"+x.OutputPrice,
			strconv.Itoa(x.MaxOutputTokens), cmp.Or(x.Trainer, "-"))
	}
	return e.show(value, t)
}

// dash is a list in a cell of a table.
func dash(list []string) string {
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, ",")
}
