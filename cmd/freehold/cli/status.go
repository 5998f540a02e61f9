package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/cmd/freehold/need"
)

func (e *env) statusCmd() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "One screen: what needs a person now, and the command for it", Args: usageArgs(cobra.NoArgs),
		Long: `One screen: what needs a person now, the most urgent first, and the command for it.

It asks the catalog alone, and answers also while servers are away. Exit status 1:
something needs a person.`,
		RunE: e.with(func(ctx context.Context, p *app.Platform, _ []string) error { return e.status(ctx, p) }),
	}
}

func (e *env) status(ctx context.Context, p *app.Platform) error {
	s, err := need.Look(ctx, p.Catalog)
	if err != nil {
		return err
	}
	if e.output == "json" {
		if err := e.json(s); err != nil {
			return err
		}
	} else {
		e.drawStatus(s)
	}
	if len(s.Needs) > 0 {
		return exitError(exitFailed) // all is said
	}
	return nil
}

// maxServers is how many servers have a line; what is wrong with others is a need.
const maxServers = 10

func (e *env) drawStatus(s need.Status) {
	total, by := 0, []string{}
	for _, state := range states {
		if n := s.Tenants[state]; n > 0 {
			total += n
			by = append(by, fmt.Sprintf("%d %s", n, state))
		}
	}
	counts := plural(total, "tenant")
	if len(by) > 0 {
		counts += " (" + strings.Join(by, ", ") + ")"
	}
	e.say("%s, %s, %s", counts, plural(len(s.Servers), "server"), plural(s.Live(), "live node"))
	if len(s.Servers) > 0 {
		tab := table{head: []string{"server", "state", "databases", "ready", "recovery", "disk"}}
		for _, srv := range s.Servers[:min(len(s.Servers), maxServers)] {
			tab.add(srv.Name, srv.State, used(srv.Databases, srv.Limit), used(srv.ReadyNow, srv.Ready),
				fmt.Sprintf("%d s of %d s", srv.Recovery, srv.MaxRecovery), disk(srv))
		}
		for _, line := range tab.lines() {
			e.say("  %s", line)
		}
		if more := len(s.Servers) - maxServers; more > 0 {
			e.say("  and %d more: freehold server list", more)
		}
	}
	if q := s.FineTuning; q.Running+q.Waiting > 0 {
		e.say("  fine-tuning: %d running, %d waiting", q.Running, q.Waiting)
	}
	if len(s.Needs) == 0 {
		e.say("nothing needs you")
		return
	}
	e.say("%s to do, the most urgent first:", plural(len(s.Needs), "thing"))
	for _, n := range s.Needs {
		e.say("! %s → %s", n.What, n.Command)
	}
}

func used(n, limit int) string { return fmt.Sprintf("%d of %d", n, limit) }

func disk(s catalog.Server) string {
	const giga = 1 << 30
	if s.DiskBytes == 0 {
		return fmt.Sprintf("%.1f GB", float64(s.UsedBytes)/giga)
	}
	return fmt.Sprintf("%.1f of %.1f GB", float64(s.UsedBytes)/giga, float64(s.DiskBytes)/giga)
}
