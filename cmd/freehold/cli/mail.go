package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
)

func (e *env) mailCmd() *cobra.Command {
	var filter catalog.MailFilter
	list := &cobra.Command{
		Use: "list", Short: "List what the outbox owes and has sent, newest first", Args: usageArgs(cobra.NoArgs),
		Example: "  freehold mail list --state given_up",
		RunE: e.with(func(ctx context.Context, p *app.Platform, _ []string) error {
			if filter.Limit < 0 {
				return fmt.Errorf("%w: --limit is not negative", errUsage)
			}
			all, err := p.Catalog.OutboxMail(ctx, filter)
			if err != nil {
				return err
			}
			return e.showMail(all)
		}),
	}
	f := list.Flags()
	f.StringVar(&filter.State, "state", "", "only in this state: waiting, sent, given_up or cancelled")
	f.StringVar(&filter.Kind, "kind", "", "only of this kind")
	f.StringVar(&filter.Tenant, "tenant", "", "only this tenant's (its slug)")
	f.StringVar(&filter.After, "after", "", "only those after this id, the last of the page before")
	f.IntVar(&filter.Limit, "limit", 100, "how many at most; 0 is all")

	retry := &cobra.Command{
		Use: "retry ID", Short: "Send one now that was given up, or waits for another try", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			m, err := p.Catalog.RetryMail(ctx, args[0])
			if err != nil {
				return named("mail", args[0], err)
			}
			if err := audit(ctx, p, "mail.retry", m.TenantID, map[string]any{"mail": m.ID, "kind": m.Kind}); err != nil {
				return err
			}
			if e.output == "json" {
				return e.json(m)
			}
			e.say("%s to %s is due: the next worker sends it", m.Kind, m.Recipient)
			return nil
		}),
	}
	return group("mail", "What tenants are owed by mail", list, retry)
}

func (e *env) showMail(all []catalog.Mail) error {
	t := table{head: []string{"mail", "tenant", "kind", "to", "state", "tries", "next", "why"}}
	for _, m := range all {
		next := "-"
		if m.State == catalog.MailWaiting {
			next = moment(m.NextAt)
		}
		t.add(m.ID, m.Slug, m.Kind, m.Recipient, m.State, fmt.Sprint(m.Attempts), next, m.Error)
	}
	return e.show(all, t)
}
