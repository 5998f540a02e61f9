package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

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
	return group("model", "Models that tenants can use", e.modelAdd(), list, remove, e.modelAlias(), e.modelUnalias())
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
			m.Fallbacks = nil
			for _, f := range fallbacks {
				engine, upstream, _ := strings.Cut(f, "=")
				if engine == "" {
					return fmt.Errorf("%w: --fallback is ENGINE or ENGINE=UPSTREAM", errUsage)
				}
				m.Fallbacks = append(m.Fallbacks, catalog.Fallback{Engine: engine, Upstream: upstream})
			}
			added, err := p.Catalog.AddModel(ctx, m)
			if err != nil {
				return named("model", m.Name, err)
			}
			if err := audit(ctx, p, "model.add", catalog.TenantID{}, map[string]any{"model": m.Name, "engine": m.Engine}); err != nil {
				return err
			}
			return e.showModels(added, []catalog.Model{added})
		}),
	}
	f := c.Flags()
	f.StringVar(&m.Engine, "engine", "", "the engine that serves it")
	f.StringVar(&m.Kind, "kind", "chat", "chat or embedding")
	f.StringVar(&m.Upstream, "upstream", "", "its name there (default: the same)")
	f.StringArrayVar(&fallbacks, "fallback", nil, "ENGINE or ENGINE=UPSTREAM that answers when the engine fails; again for the next one")
	f.StringVar(&m.InputPrice, "input-price", "0", "price of a million prompt tokens")
	f.StringVar(&m.OutputPrice, "output-price", "0", "price of a million answer tokens")
	f.IntVar(&m.MaxOutputTokens, "max-output-tokens", 0, "the most that it answers with (default 4096)")
	f.IntVar(&m.TokenOverhead, "token-overhead", 0, "what it adds to each request, in tokens (default 32)")
	f.IntVar(&m.MessageOverhead, "message-overhead", 0, "what it adds to each message, in tokens (default 16)")
	f.IntVar(&m.PartTokens, "part-tokens", 0, "the most that an image, a sound or a file counts for, in tokens (default: they are refused)")
	return c
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
	t := table{head: []string{"model", "aliases", "kind", "engine", "upstream", "fallbacks", "input price", "output price", "max output"}}
	for _, x := range all {
		var others []string
		for _, f := range x.Fallbacks {
			others = append(others, f.Engine+"="+f.Upstream)
		}
		t.add(x.Name, dash(x.Aliases), x.Kind, x.Engine, x.Upstream, dash(others), x.InputPrice, x.OutputPrice,
			strconv.Itoa(x.MaxOutputTokens))
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
