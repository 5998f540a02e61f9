package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/cmd/freehold/need"
	"freehold/migrations"
)

// targetStates are those that a rollout's tenants can be listed by.
var targetStates = []string{
	catalog.TargetWaiting, catalog.TargetRunning, catalog.TargetDone, catalog.TargetFailed, catalog.TargetGone,
}

// rolloutStates are those that rollouts can be listed by.
var rolloutStates = []string{
	catalog.RolloutRunning, catalog.RolloutHalted, catalog.RolloutPartial, catalog.RolloutDone, catalog.RolloutAborted,
}

// statusOptions of migrate status.
type statusOptions struct {
	watch, targets bool
	filter         catalog.TargetFilter
}

func (e *env) migrateStatusCmd() *cobra.Command {
	var o statusOptions
	c := &cobra.Command{
		Use: "status [ROLLOUT]", Short: "Show how far a rollout is, what failed and what to do about it", Args: usageArgs(cobra.MaximumNArgs(maxRollout)),
		Long: `Show how far a rollout is, what failed and what to do about it.

The first line tells whether to worry. Without ROLLOUT, an id or its first digits, it
is the open one, or else the newest; before the first one, which versions the tenants
have is shown. With --watch it is drawn each second until it has ended; q ends that.`,
		Example: "  freehold migrate status --targets --state failed",
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			if o.filter.State != "" && !slices.Contains(targetStates, o.filter.State) {
				return fmt.Errorf("%w: --state is one of %s", errUsage, strings.Join(targetStates, ", "))
			}
			if (o.filter.State != "" || o.filter.Tenant != "") && !o.targets {
				return fmt.Errorf("%w: --state and --tenant narrow --targets", errUsage)
			}
			if o.watch && o.targets {
				return fmt.Errorf("%w: --watch or --targets, not both", errUsage)
			}
			ref := strings.Join(args, "")
			r, err := rolloutByRef(ctx, p, ref)
			switch {
			case ref == "" && errors.Is(err, catalog.ErrNotFound):
				return e.showVersions(ctx, p)
			case err != nil:
				return err
			case o.targets:
				return e.showTargets(ctx, p, r, o.filter)
			case o.watch:
				return e.watchRollout(ctx, p, r)
			default:
				return e.showRollout(ctx, p, r)
			}
		}),
	}
	fl := c.Flags()
	fl.BoolVar(&o.watch, "watch", false, "draw it each second until it has ended")
	fl.BoolVar(&o.targets, "targets", false, "list its tenants")
	fl.StringVar(&o.filter.State, "state", "", "with --targets: only "+strings.Join(targetStates, ", "))
	fl.StringVar(&o.filter.Tenant, "tenant", "", "with --targets: only this one (its slug)")
	return c
}

func (e *env) showRollout(ctx context.Context, p *app.Platform, r catalog.Rollout) error {
	s, err := p.Catalog.RolloutStatus(ctx, r.ID)
	if err != nil {
		return err
	}
	v := need.OfRollout(s, time.Now())
	if e.output == "json" {
		return e.json(v)
	}
	for _, line := range rolloutLines(v) {
		e.say("%s", line)
	}
	return nil
}

// watchRollout draws a rollout until it no longer runs, and shows it once more. Away
// from a terminal it tells of each wave.
func (e *env) watchRollout(ctx context.Context, p *app.Platform, r catalog.Rollout) error {
	s, err := p.Catalog.RolloutStatus(ctx, r.ID)
	if err != nil {
		return err
	}
	look := func(s catalog.RolloutStatus) picture {
		return picture{rolloutLines(need.OfRollout(s, time.Now())), s.State != catalog.RolloutRunning}
	}
	again := func(ctx context.Context) picture {
		s, err := p.Catalog.RolloutStatus(ctx, r.ID)
		if err != nil {
			return unanswered(err)
		}
		return look(s)
	}
	if screen := e.screen(); screen != nil && e.output != "json" {
		return e.live(ctx, screen, look(s), again)
	}
	f := &follower{out: e.err}
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for f.show(s); s.State == catalog.RolloutRunning; f.show(s) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if s, err = p.Catalog.RolloutStatus(ctx, r.ID); err != nil {
			return err
		}
	}
	return e.showRollout(ctx, p, r)
}

// targetsPage is how many of a rollout's tenants are asked for at a time.
const targetsPage = 500

func (e *env) showTargets(ctx context.Context, p *app.Platform, r catalog.Rollout, f catalog.TargetFilter) error {
	rows, tab := []catalog.TargetRow{}, table{head: []string{"tenant", "server", "wave", "state", "from", "version", "tries", "took", "why"}}
	f.Limit = targetsPage
	for {
		page, err := p.Catalog.RolloutTargets(ctx, r.ID, f)
		if err != nil {
			return err
		}
		rows = append(rows, page...)
		if len(page) < f.Limit {
			break
		}
		f.After = page[len(page)-1].Tenant
	}
	for _, t := range rows {
		why := t.Error
		if t.Kind != "" {
			why = t.Kind + ": " + firstLine(t.Error)
		}
		tab.add(t.Tenant, t.Server, strconv.Itoa(t.Wave+1), t.State, strconv.FormatInt(t.From, 10), strconv.FormatInt(t.Version, 10),
			strconv.Itoa(t.Attempts), brief(time.Duration(t.Millis)*time.Millisecond), why)
	}
	return e.show(rows, tab)
}

// versions is how a tenant stands to both streams.
type versions struct {
	Tenant  string `json:"tenant"`
	Version int64  `json:"version"`
	Target  int64  `json:"target"`
	Product int64  `json:"product_version"`
	State   string `json:"state"`
}

// showVersions shows which versions the tenants have.
func (e *env) showVersions(ctx context.Context, p *app.Platform) error {
	latest, err := migrations.Tenant().Latest()
	if err != nil {
		return err
	}
	all, err := allTenants(ctx, p, catalog.TenantFilter{})
	if err != nil {
		return err
	}
	rows, tab := []versions{}, table{head: []string{"tenant", "version", "target", "product", "state"}}
	behind := 0
	for _, t := range all {
		state := "current"
		switch {
		case t.SchemaVersion < latest:
			state = "behind"
			behind++
		case t.SchemaVersion > latest:
			state = "ahead of this binary"
		}
		rows = append(rows, versions{t.Slug, t.SchemaVersion, latest, t.ProductVersion, state})
		tab.add(t.Slug, strconv.FormatInt(t.SchemaVersion, 10), strconv.FormatInt(latest, 10), strconv.FormatInt(t.ProductVersion, 10), state)
	}
	if err := e.show(rows, tab); err != nil {
		return err
	}
	if behind > 0 {
		sayTo(e.err, "%s behind: freehold migrate up", plural(behind, "tenant"))
	}
	return nil
}

func (e *env) migrateListCmd() *cobra.Command {
	var f catalog.RolloutFilter
	var stream string
	c := &cobra.Command{
		Use: "list", Short: "List rollouts, newest first", Args: usageArgs(cobra.NoArgs),
		RunE: e.with(func(ctx context.Context, p *app.Platform, _ []string) error {
			if f.Limit < 0 {
				return fmt.Errorf("%w: --limit is not negative", errUsage)
			}
			if f.State != "" && !slices.Contains(rolloutStates, f.State) {
				return fmt.Errorf("%w: --state is one of %s", errUsage, strings.Join(rolloutStates, ", "))
			}
			f.Stream = catalog.Stream(stream)
			if stream != "" && f.Stream != catalog.StreamFreehold && f.Stream != catalog.StreamProduct {
				return fmt.Errorf("%w: --stream is %s or %s", errUsage, catalog.StreamFreehold, catalog.StreamProduct)
			}
			list, err := p.Catalog.Rollouts(ctx, f)
			if err != nil {
				return err
			}
			if list == nil {
				list = []catalog.Rollout{}
			}
			t := table{head: []string{"rollout", "stream", "target", "state", "begun", "ended", "by", "why"}}
			for _, r := range list {
				t.add(need.ShortID(r.ID), string(r.Stream), strconv.FormatInt(r.Target, 10), r.State, moment(r.CreatedAt),
					momentOr(r.EndedAt, "-"), r.Actor, firstLine(r.Reason))
			}
			return e.show(list, t)
		}),
	}
	fl := c.Flags()
	fl.StringVar(&f.State, "state", "", "only in this state: "+strings.Join(rolloutStates, ", "))
	fl.StringVar(&stream, "stream", "", "only of this stream: freehold, product")
	fl.IntVar(&f.Limit, "limit", 100, "how many at most; 0 is all")
	return c
}
