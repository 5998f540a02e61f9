package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/tenantdb/fleet"
)

// moveFlags are what tenant move is told.
type moveFlags struct {
	fleet.MoveOptions
	grace, maxPause span
	dry, detach     bool
}

func (e *env) tenantMove() *cobra.Command {
	f := moveFlags{grace: span(fleet.DefaultKeep), maxPause: span(fleet.DefaultMaxPause)}
	c := &cobra.Command{
		Use: "move SLUG", Short: "Move a tenant's database to another server, while it is served", Args: usageArgs(cobra.ExactArgs(1)),
		Long: `Move a tenant's database to another server, while it is served.

By replication the tenant is copied while it is served, and requests wait for the
last moment of it alone. Where that can't be, the plan says why, and a copy is made
while all requests wait, if that doesn't take longer than --max-pause; --by copy
asks for it by name, and takes as long as it takes. Any failure before the switch
leaves the tenant served where it was. The old database is kept for --grace, and
nobody can connect to it.`,
		Example: "  freehold tenant move acme --to pg-2 --dry-run\n  freehold tenant move acme --to pg-2",
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			f.Actor, f.Grace, f.MaxPause = actor(), time.Duration(f.grace), time.Duration(f.maxPause)
			return e.moveTenant(ctx, p, args[0], f)
		}),
	}
	fl := c.Flags()
	fl.StringVar(&f.To, "to", "", "the `server` to live on; without it the least loaded of the region that takes it")
	fl.StringVar(&f.Way, "by", fleet.ByAny, "`way`: auto, replication or copy")
	fl.StringVar(&f.Region, "region", "", "leave the tenant's region for this one")
	fl.Var(&f.grace, "grace", "how long the old database is kept: 90m, 12h, 3d")
	fl.Var(&f.maxPause, "max-pause", "longest that requests may wait; what takes longer is taken back")
	fl.BoolVar(&f.dry, "dry-run", false, "show the plan alone")
	fl.BoolVar(&f.detach, "detach", false, "leave the work to a worker and return at once")
	return c
}

// moved is what tenant move answers.
type moved struct {
	Plan      fleet.MovePlan     `json:"plan"`
	Operation *catalog.Operation `json:"operation,omitempty"`
	Server    string             `json:"server"`               // where it lives now
	PauseMS   *int64             `json:"pause_ms,omitempty"`   // how long requests waited
	KeptUntil *time.Time         `json:"kept_until,omitempty"` // the old database
}

func (e *env) moveTenant(ctx context.Context, p *app.Platform, slug string, f moveFlags) error {
	t, err := tenant(ctx, p, slug)
	if err != nil {
		return err
	}
	plan, err := p.Fleet.PlanMove(ctx, t.ID, f.MoveOptions)
	if err != nil {
		return moveRefused(t, f.To, err)
	}
	out := moved{Plan: plan, Server: t.Server}
	e.sayPlan(t, plan)
	if f.dry {
		if e.output == "json" {
			return e.json(out)
		}
		return nil
	}
	// What was shown is what is done: the server that was chosen, and not another one.
	f.To = plan.To
	op, err := p.Fleet.BeginMove(ctx, t.ID, f.MoveOptions)
	if err != nil {
		return moveRefused(t, f.To, err)
	}
	err = audit(ctx, p, "tenant.move", t.ID, map[string]any{"slug": t.Slug, "operation": op.ID, "from": plan.From, "to": plan.To, "by": plan.Way})
	if err != nil || f.detach {
		return errors.Join(e.detached(op), err)
	}
	op, err = e.perform(ctx, p, op)
	if now, terr := p.Catalog.Tenant(context.WithoutCancel(ctx), t.ID); terr == nil {
		out.Server = now.Server
	}
	if err != nil {
		if out.Server == plan.From {
			err = fmt.Errorf("%w\nit lives on %s as before", err, plan.From)
		}
		return named("tenant", t.Slug, err)
	}
	out.Operation = &op
	var millis int64
	if note(op, "pause_ms", &millis) {
		out.PauseMS = &millis
	}
	var until time.Time
	if note(op, "kept_until", &until) {
		out.KeptUntil = &until
	}
	if e.output == "json" {
		return e.json(out)
	}
	e.steps(op)
	e.say("%s lives on %s%s", t.Slug, out.Server, paused(out.PauseMS))
	if out.KeptUntil != nil {
		e.say("its old database is kept on %s until %s UTC, and nobody can connect to it", plan.From, moment(*out.KeptUntil))
	}
	return nil
}

// paused says for how long nobody was served.
func paused(millis *int64) string {
	if millis == nil {
		return ""
	}
	return "; its requests waited for " + brief(max(time.Millisecond, time.Duration(*millis)*time.Millisecond))
}

// sayPlan shows what a move would be.
func (e *env) sayPlan(t catalog.Tenant, plan fleet.MovePlan) {
	tab := table{rows: [][]string{
		{"tenant", t.Slug + " (" + string(t.State) + ")"}, {"from", plan.From}, {"to", plan.To}, {"by", plan.Way},
		{"size", bytesOf(plan.Bytes)}, {"pause", "about " + brief(plan.Pause)},
	}}
	for _, why := range plan.Why {
		tab.add("not by replication", why)
	}
	for _, line := range tab.lines() {
		e.say("%s", line)
	}
}

// moveRefused says of a move that can't be which server or command is meant.
func moveRefused(t catalog.Tenant, to string, err error) error {
	if errors.Is(err, catalog.ErrNotFound) && to != "" {
		return named("server", to, err)
	}
	return named("tenant", t.Slug, hinted(t, err))
}
