package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/cmd/freehold/need"
)

// maxRollout is the most arguments of a command on a rollout.
const maxRollout = 1

func (e *env) migrateResumeCmd() *cobra.Command {
	var detach bool
	c := &cobra.Command{
		Use: "resume [ROLLOUT]", Short: "Go on with a rollout: what failed is tried again, what was left is done", Args: usageArgs(cobra.MaximumNArgs(maxRollout)),
		Long: `Go on with a rollout: what failed is tried again, what was left is done.

Without ROLLOUT, an id or its first digits, it is the open one. This process leads it
from now on, at once, whoever did before: also one that is running and whose leader
was killed.

Exit status 3: it is done in part, or halted again.`,
	}
	c.Flags().BoolVar(&detach, "detach", false, "only have it go on: workers do it")
	c.RunE = func(c *cobra.Command, args []string) error {
		p, err := e.openQuietly(c)
		if err != nil {
			return err
		}
		defer p.Close()
		r, err := openRollout(c.Context(), p, args)
		if err != nil {
			return err
		}
		if r, err = p.Catalog.ResumeRollout(c.Context(), r.ID, actor()); err != nil {
			return named("rollout", need.ShortID(r.ID), err)
		}
		if detach {
			return e.detach(c.Context(), p, r)
		}
		return e.runRollout(c.Context(), p, r, true)
	}
	return c
}

func (e *env) migrateAbortCmd() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "abort [ROLLOUT]", Short: "Give a rollout up: what is migrated stays so, nothing more is begun", Args: usageArgs(cobra.MaximumNArgs(maxRollout)),
		Long: `Give a rollout up: what is migrated stays so, nothing more is begun.

Databases that are being migrated at this moment are migrated to the end. A later
"migrate up" brings the others to its own target.`,
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			r, err := openRollout(ctx, p, args)
			if err != nil {
				return err
			}
			if r, err = p.Catalog.AbortRollout(ctx, r.ID, actor(), reason); err != nil {
				return named("rollout", need.ShortID(r.ID), err)
			}
			s, err := p.Catalog.RolloutStatus(ctx, r.ID)
			if err != nil {
				return err
			}
			if e.output == "json" {
				return e.json(r)
			}
			e.say("%s is aborted: %d of %s at version %d stay so", rolloutName(r), s.Done, plural(s.Total-s.Gone, "tenant"), r.Target)
			return nil
		}),
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the audit and for status")
	return c
}

// openRollout is the rollout that a command names, or the only one that is open.
func openRollout(ctx context.Context, p *app.Platform, args []string) (catalog.Rollout, error) {
	if len(args) == 0 {
		open, err := p.Catalog.OpenRollouts(ctx)
		switch {
		case err != nil:
			return catalog.Rollout{}, err
		case len(open) == 0:
			return catalog.Rollout{}, errors.New("no rollout is open: freehold migrate list")
		case len(open) > 1:
			return catalog.Rollout{}, fmt.Errorf("%w: two rollouts are open, say which: %s, %s", errUsage, rolloutName(open[0]), rolloutName(open[1]))
		}
		return open[0], nil
	}
	r, err := rolloutByRef(ctx, p, args[0])
	if err == nil && !r.Open() {
		err = fmt.Errorf("%s is %s already", rolloutName(r), r.State)
	}
	return r, err
}

func rolloutByRef(ctx context.Context, p *app.Platform, ref string) (catalog.Rollout, error) {
	r, err := p.Catalog.RolloutByRef(ctx, ref)
	if err != nil && ref != "" && errors.Is(err, catalog.ErrNotFound) {
		err = named("rollout", ref, err)
	}
	return r, err
}
