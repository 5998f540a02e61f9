package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/cmd/freehold/need"
	"freehold/tenantdb/fleet"
)

func (e *env) migrateUpCmd() *cobra.Command {
	var detach bool
	c := &cobra.Command{
		Use: "up", Short: "Bring every tenant's database to a stream's latest migration, wave by wave", Args: usageArgs(cobra.NoArgs),
		Long: `Bring every tenant's database to a stream's latest migration, wave by wave.

Without --dir that is Freehold's own schema, which this binary holds; with it, the
product's tables. The rollout is kept in the catalog: workers help with it, and go on
with it when this command ends. A wave that did harm, or more failures than --budget
bears, halts it; "freehold migrate status" says why, "migrate resume" goes on.

Exit status 3: it is done in part, or halted.`,
		Example: "  freehold migrate up --dir migrations --canary acme --budget 3",
	}
	spec := e.rolloutFlags(c)
	c.Flags().BoolVar(&detach, "detach", false, "only begin it: workers do it")
	c.RunE = func(c *cobra.Command, _ []string) error {
		s, err := spec()
		if err != nil {
			return err
		}
		p, err := e.openQuietly(c)
		if err != nil {
			return err
		}
		defer p.Close()
		return e.migrateUp(c, p, s, detach)
	}
	return c
}

// openQuietly is open for a command that draws on the terminal that a log would go
// to. What a log would say of tenants the screen says.
func (e *env) openQuietly(c *cobra.Command) (*app.Platform, error) {
	log := e.quiet().Logger(true)
	if screenOf(e.err) != nil && !e.levelSet {
		log = slog.New(slog.DiscardHandler)
	}
	return app.Open(c.Context(), e.cfg, app.NeedCatalog, log)
}

func (e *env) migrateUp(c *cobra.Command, p *app.Platform, spec fleet.RolloutSpec, detach bool) error {
	ctx := c.Context()
	plan, err := p.Fleet.Plan(ctx, spec)
	if err != nil {
		return err
	}
	if err := plan.Refusal(); err != nil {
		return refused(err)
	}
	if plan.Nothing() {
		return e.upToDate(plan)
	}
	if err := e.lintPending(c, plan); err != nil {
		return err
	}
	for _, w := range plan.Warnings {
		sayTo(e.err, "warning: %s", w)
	}
	r, err := p.Fleet.StartRollout(ctx, spec)
	if err != nil {
		return refused(err)
	}
	if detach {
		return e.detach(ctx, p, r)
	}
	return e.runRollout(ctx, p, r, false)
}

// upToDate says that there is nothing to do.
func (e *env) upToDate(plan fleet.Plan) error {
	if e.output == "json" {
		return e.json(map[string]any{
			"stream": plan.Stream, "target": plan.Target, "state": "current", "tenants": plan.Current, "suspended": plan.Suspended,
		})
	}
	e.say("nothing to do: %s at version %d", plural(plan.Current, "tenant"), plan.Target)
	if plan.Suspended > 0 {
		e.say("%s suspended below it: brought up when resumed", are(plan.Suspended, "tenant"))
	}
	return nil
}

func are(n int, what string) string {
	if n == 1 {
		return "1 " + what + " is"
	}
	return plural(n, what) + " are"
}

// refused says of a rollout that may not begin which commands lead on.
func refused(err error) error {
	if open, ok := errors.AsType[*catalog.OpenRollout](err); ok {
		id := need.ShortID(open.ID)
		return fmt.Errorf("%w\n  see it:     freehold migrate status %s\n  go on:      freehold migrate resume %s\n  give it up: freehold migrate abort %s", err, id, id, id)
	}
	return err
}

// detach leaves a rollout that this process began to the workers.
func (e *env) detach(ctx context.Context, p *app.Platform, r catalog.Rollout) error {
	if err := p.Catalog.LeaveRollout(ctx, r); err != nil {
		return err
	}
	if e.output == "json" {
		return e.json(r)
	}
	e.say("%s is begun; workers do it: freehold migrate status %s --watch", rolloutName(r), need.ShortID(r.ID))
	return nil
}

// runRollout works on a rollout, here, until it has ended, and tells how.
func (e *env) runRollout(ctx context.Context, p *app.Platform, r catalog.Rollout, takeOver bool) error {
	f := e.follower()
	r, err := p.Fleet.RunRollout(ctx, r.ID, takeOver, f.show)
	f.end()
	if err != nil && !errors.Is(err, fleet.ErrPartial) {
		if ctx.Err() != nil {
			return e.leftAlone(ctx, p, r)
		}
		if errors.Is(err, fleet.ErrOtherBinary) {
			return fmt.Errorf("%w: use the freehold that began it, or freehold migrate abort %s", err, need.ShortID(r.ID))
		}
		return err
	}
	if err == nil && r.State == catalog.RolloutAborted { // by somebody else, meanwhile
		err = fmt.Errorf("%s was aborted: %w", rolloutName(r), fleet.ErrPartial)
	}
	return errors.Join(e.ended(context.WithoutCancel(ctx), p, r.ID), err)
}

// ended tells how a rollout ended.
func (e *env) ended(ctx context.Context, p *app.Platform, id string) error {
	s, err := p.Catalog.RolloutStatus(ctx, id)
	if err != nil {
		return err
	}
	v := need.OfRollout(s, time.Now())
	if e.output == "json" {
		return e.json(v)
	}
	for _, line := range summary(v) {
		e.say("%s", line)
	}
	return nil
}

const (
	// takenWithin is how long a process that was stopped looks whether a worker goes
	// on with its rollout: they look for one each second.
	takenWithin = 1500 * time.Millisecond
	takenEvery  = 200 * time.Millisecond
)

// leftAlone says what becomes of a rollout that this process was stopped at.
func (e *env) leftAlone(ctx context.Context, p *app.Platform, r catalog.Rollout) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takenWithin) // it is over
	defer cancel()
	id := need.ShortID(r.ID)
	for {
		now, err := p.Catalog.Rollout(ctx, r.ID)
		switch {
		case err == nil && now.State != catalog.RolloutRunning:
			return fmt.Errorf("stopped here; %s is %s: freehold migrate status %s", rolloutName(r), now.State, id)
		case err == nil && now.Worker != "" && !need.Unled(now, time.Now()): // this one's lead is given back
			return fmt.Errorf("stopped here; %s goes on with %s\n  see it:     freehold migrate status %s --watch\n  give it up: freehold migrate abort %s",
				now.Worker, rolloutName(r), id, id)
		}
		select {
		case <-time.After(takenEvery):
			continue
		case <-ctx.Done():
		}
		return fmt.Errorf("stopped here; no worker has taken %s yet\n  go on:      freehold migrate resume %s\n  give it up: freehold migrate abort %s",
			rolloutName(r), id, id)
	}
}
