package cli

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/tenantdb/fleet"
)

// nodeSilent is how long a node may be silent before status names it.
const nodeSilent = 5 * time.Second

func (e *env) statusCmd() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "One screen: what runs, what needs a person now, and the command for it", Args: usageArgs(cobra.NoArgs),
		RunE: e.with(func(ctx context.Context, p *app.Platform, _ []string) error { return e.status(ctx, p) }),
	}
}

// overview is what status shows.
type overview struct {
	Tenants map[string]int   `json:"tenants"`
	Servers []catalog.Server `json:"servers"`
	Nodes   []catalog.Node   `json:"nodes"`
	Needs   []fleet.Finding  `json:"needs"`
}

func (e *env) status(ctx context.Context, p *app.Platform) error {
	o := overview{Needs: []fleet.Finding{}}
	var err error
	if o.Tenants, err = p.Catalog.CountTenants(ctx); err != nil {
		return err
	}
	if o.Servers, err = p.Catalog.Servers(ctx); err != nil {
		return err
	}
	if o.Nodes, err = p.Catalog.Nodes(ctx); err != nil {
		return err
	}
	findings, err := p.Fleet.Doctor(ctx)
	if err != nil {
		return err
	}
	for _, f := range findings {
		if !f.OK {
			o.Needs = append(o.Needs, f)
		}
	}
	live := 0
	for _, n := range o.Nodes {
		if silent := time.Since(n.HeartbeatAt); silent > nodeSilent {
			o.Needs = append(o.Needs, fleet.Finding{
				What: fmt.Sprintf("node %s has been silent for %s", n.Name, silent.Round(time.Second)),
				Fix:  "look at its log, start it again",
			})
			continue
		}
		live++
	}
	o.Needs = append(o.Needs, e.slowSpots(ctx)...)
	if live == 0 {
		o.Needs = append(o.Needs, fleet.Finding{What: "no node serves", Fix: "freehold serve"})
	}
	if e.output == "json" {
		return e.json(o)
	}
	total := 0
	for _, n := range o.Tenants {
		total += n
	}
	e.say("%s (%d active), %s, %s", plural(total, "tenant"), o.Tenants[string(catalog.Active)], plural(len(o.Servers), "server"), plural(live, "live node"))
	if len(o.Needs) == 0 {
		e.say("nothing needs you")
	}
	for _, f := range o.Needs {
		e.say("! %s\n    %s", f.What, f.Fix)
	}
	return nil
}

const (
	// spotTimeout bounds what status waits for a node: all else it knows already.
	spotTimeout = 2 * time.Second
	// longWait is a queue that a person should know of.
	longWait = time.Second
)

// slowSpots asks the node that the environment names for what is slow there, if
// it names one that answers.
func (e *env) slowSpots(ctx context.Context) []fleet.Finding {
	f := nodeFromEnv()
	n, err := f.open(e)
	if err != nil {
		return nil
	}
	defer n.close()
	ctx, cancel := context.WithTimeout(ctx, spotTimeout)
	defer cancel()
	var r nodeRouter
	if n.call(ctx, http.MethodGet, routerPath, &r) != nil {
		return nil
	}
	var spots []fleet.Finding
	for _, s := range r.View.Servers {
		switch {
		case s.Breaker == "open":
			spots = append(spots, fleet.Finding{
				What: fmt.Sprintf("node %s can't connect to server %s: %s", r.Node, s.Name, or(s.LastError, "its breaker is open")),
				Fix:  "look at that server; freehold router top shows when it answers again",
			})
		case s.OldestWait > longWait:
			spots = append(spots, fleet.Finding{
				What: fmt.Sprintf("server %s is full on node %s: %s, the oldest for %s", s.Name, r.Node, plural(s.Waiting, "waiting caller"), brief(s.OldestWait)),
				Fix:  "freehold router top --sort waiting",
			})
		}
	}
	return spots
}

func (e *env) doctorCmd() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Check the catalog, the servers and the tenants' schemas", Args: usageArgs(cobra.NoArgs),
		RunE: e.with(func(ctx context.Context, p *app.Platform, _ []string) error {
			findings, err := p.Fleet.Doctor(ctx)
			if err != nil {
				return err
			}
			tab := table{}
			bad := 0
			for _, f := range findings {
				mark := "ok"
				if !f.OK {
					mark = "BAD"
					bad++
				}
				tab.add(mark, f.What, f.Fix)
			}
			if err := e.show(findings, tab); err != nil {
				return err
			}
			if bad > 0 {
				return fmt.Errorf("%d of %d checks failed", bad, len(findings))
			}
			return nil
		}),
	}
}
