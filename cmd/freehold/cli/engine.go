package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
)

func (e *env) engineCmd() *cobra.Command {
	var (
		spec    catalog.EngineSpec
		keyFile string
	)
	add := &cobra.Command{
		Use:   "add NAME --kind openai --url URL [--key-file FILE]",
		Short: "Take in an engine: any OpenAI-compatible server, or the built-in one",
		Example: `  freehold engine add ollama --kind openai --url http://127.0.0.1:11434/v1
  freehold engine add openai --kind openai --url https://api.openai.com/v1 --key-file openai.key
  freehold engine add builtin --kind builtin`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			spec.Name = args[0]
			if keyFile != "" {
				var err error
				if spec.Key, err = e.secret(keyFile, "the engine's key"); err != nil {
					return err
				}
			}
			eng, err := p.Catalog.AddEngine(ctx, spec)
			if err != nil {
				return named("engine", spec.Name, err)
			}
			if err := audit(ctx, p, "engine.add", catalog.TenantID{}, map[string]any{"engine": eng.Name, "kind": eng.Kind}); err != nil {
				return err
			}
			return e.showEngines(eng, []catalog.Engine{eng})
		}),
	}
	f := add.Flags()
	f.StringVar(&spec.Kind, "kind", "openai", "openai or builtin")
	f.StringVar(&spec.BaseURL, "url", "", "base URL, with /v1")
	f.StringVar(&keyFile, "key-file", "", "file that holds its key; - reads standard input")
	f.DurationVar(&spec.Timeout, "timeout", time.Minute, "until the first byte of a stream, or a whole answer")

	list := &cobra.Command{
		Use: "list", Short: "List engines", Args: usageArgs(cobra.NoArgs),
		RunE: e.with(func(ctx context.Context, p *app.Platform, _ []string) error {
			all, err := p.Catalog.Engines(ctx)
			if err != nil {
				return err
			}
			return e.showEngines(all, all)
		}),
	}
	return group("engine", "Inference engines", add, list, e.removeCmd("engine", func(ctx context.Context, p *app.Platform, name string) error {
		return p.Catalog.RemoveEngine(ctx, name)
	}))
}

func (e *env) showEngines(value any, all []catalog.Engine) error {
	t := table{head: []string{"engine", "kind", "url", "key", "timeout"}}
	for _, x := range all {
		key := "none"
		if x.HasKey {
			key = "sealed"
		}
		t.add(x.Name, x.Kind, x.BaseURL, key, x.Timeout.String())
	}
	return e.show(value, t)
}

// removeCmd is `engine remove` and `model remove`.
func (e *env) removeCmd(what string, remove func(ctx context.Context, p *app.Platform, name string) error) *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Remove one that nothing uses", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			if err := remove(ctx, p, args[0]); err != nil {
				return named(what, args[0], err)
			}
			return audit(ctx, p, what+".remove", catalog.TenantID{}, map[string]any{what: args[0]})
		}),
	}
}
