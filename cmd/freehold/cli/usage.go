package cli

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
)

// csvOutput is the output, and the annotation of the commands that know it.
const csvOutput = "csv"

func (e *env) usageCmd() *cobra.Command {
	var (
		all  bool
		text string
	)
	c := &cobra.Command{
		Use: "usage SLUG | --all", Short: "What tenants used in a month, by model: the lines of their bills", Args: usageArgs(cobra.MaximumNArgs(1)),
		Long: `What tenants used in a month (UTC), by model: the lines of their bills, counts and money without
content. A worker brings them up to date within a minute or two. The lines of deleted tenants stay;
name one by its slug or id.`,
		Example:     "  freehold usage --all --month 2026-11 -o csv",
		Annotations: map[string]string{csvOutput: "yes"},
		RunE: func(c *cobra.Command, args []string) error {
			if all == (len(args) == 1) {
				return fmt.Errorf("%w: give SLUG or --all", errUsage)
			}
			now := time.Now().UTC()
			month := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
			if text != "" {
				var err error
				if month, err = catalog.ParseMonth("month", text); err != nil {
					return err
				}
			}
			return e.with(func(ctx context.Context, p *app.Platform, args []string) error {
				slug := ""
				if !all {
					slug = args[0]
				}
				in, err := p.Catalog.Invoice(ctx, slug, month)
				if err != nil {
					return named("tenant", slug, err)
				}
				return e.showInvoice(in)
			})(c, args)
		},
	}
	f := c.Flags()
	f.BoolVar(&all, "all", false, "all tenants, deleted ones too")
	f.StringVar(&text, "month", "", "a month such as 2026-11; this one when not given")
	f.StringVarP(&e.output, "output", "o", "table", "table, json or csv")
	return c
}

func (e *env) showInvoice(in catalog.Invoice) error {
	if e.output == csvOutput {
		return writeInvoice(e.out, in)
	}
	t := table{head: []string{"tenant", "model", "requests", "prompt tokens", "completion tokens", "cost"}}
	for _, l := range in.Lines {
		t.add(l.Slug, l.Model, number(l.Requests), number(l.PromptTokens), number(l.CompletionTokens), l.Cost)
	}
	t.add("total of "+in.Month, "", number(in.Total.Requests), number(in.Total.PromptTokens), number(in.Total.CompletionTokens), in.Total.Cost)
	return e.show(in, t)
}

// writeInvoice writes the lines as RFC 4180 has them: a header, CRLF, no total,
// which would be one more line to who sums them.
func writeInvoice(out io.Writer, in catalog.Invoice) error {
	w := csv.NewWriter(out)
	w.UseCRLF = true
	rows := [][]string{{"month", "tenant", "tenant_id", "model", "requests", "prompt_tokens", "completion_tokens", "cost", "cost_nano"}}
	for _, l := range in.Lines {
		rows = append(rows, []string{
			l.Month, l.Slug, l.TenantID.String(), l.Model, number(l.Requests), number(l.PromptTokens), number(l.CompletionTokens), l.Cost, number(l.CostNano),
		})
	}
	if err := w.WriteAll(rows); err != nil {
		return fmt.Errorf("write invoice: %w", err)
	}
	return nil
}

func number(n int64) string { return strconv.FormatInt(n, 10) }
