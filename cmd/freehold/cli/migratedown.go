package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"freehold/cmd/freehold/app"
	"freehold/tenantdb/fleet"
)

func (e *env) migrateDownCmd() *cobra.Command {
	var stream string
	to, yes := int64(0), false
	c := &cobra.Command{
		Use: "down SLUG --to N", Short: "Take migrations of one tenant back, with all that was written to what they made", Args: usageArgs(cobra.ExactArgs(1)),
		Long: `Take migrations of one tenant back, with all that was written to what they made.

Without --yes it says which, and does nothing. It is refused where a migration has no
way back, while a rollout of the stream is open, and below what a live node serves.`,
		Example: "  freehold migrate down acme --stream product --to 2 --yes",
	}
	c.Flags().Int64Var(&to, "to", 0, "version to go back to; 0, of the product's: before the first")
	c.Flags().StringVar(&stream, "stream", "", "freehold (default) or product")
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	c.RunE = e.with(func(ctx context.Context, p *app.Platform, args []string) error {
		if !c.Flags().Changed("to") {
			return fmt.Errorf("%w: --to says which version to go back to", errUsage)
		}
		which, err := streamOf(stream, "")
		if err != nil {
			return err
		}
		if !yes {
			d, err := p.Fleet.PlanDown(ctx, which, args[0], to)
			if err != nil {
				return named("tenant", args[0], refused(err))
			}
			return e.wouldGoDown(d)
		}
		d, err := p.Fleet.Down(ctx, which, args[0], to, actor())
		if err == nil || len(d.Files) > 0 && d.Took > 0 {
			err = errors.Join(e.wentDown(d), err)
		}
		if err != nil {
			return named("tenant", args[0], refused(err))
		}
		return nil
	})
	return c
}

// wouldGoDown shows what is to be said yes to.
func (e *env) wouldGoDown(d fleet.Downgrade) error {
	if e.output == "json" {
		if err := e.json(d); err != nil {
			return err
		}
	}
	if len(d.Files) == 0 {
		e.say("%s is at version %d of %s: there is nothing to take back", d.Tenant, d.From, d.Stream)
		return nil
	}
	e.say("%s goes from version %d of %s to %d, and loses what these made, with all that is in it:\n  %s",
		d.Tenant, d.From, d.Stream, d.To, strings.Join(d.Files, "\n  "))
	return fmt.Errorf("%w: nothing was done: say --yes to do it", errUsage)
}

func (e *env) wentDown(d fleet.Downgrade) error {
	if e.output == "json" {
		return e.json(d)
	}
	if len(d.Files) == 0 {
		e.say("%s is at version %d of %s: there was nothing to take back", d.Tenant, d.From, d.Stream)
		return nil
	}
	e.say("%s is at version %d of %s, from %d, in %s: %s taken back",
		d.Tenant, d.To, d.Stream, d.From, d.Took.Round(time.Millisecond), strings.Join(d.Files, ", "))
	up := "freehold migrate up"
	if d.Stream == "product" {
		up += " --stream product"
	}
	e.say("it is below the fleet, and so are new tenants, until: %s", up)
	return nil
}
