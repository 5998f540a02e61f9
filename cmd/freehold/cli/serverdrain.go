package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/tenantdb/fleet"
)

// drainFlags are what server drain is told.
type drainFlags struct {
	catalog.DrainSpec
	dry, cancel, detach, yes bool
}

func (e *env) serverDrain() *cobra.Command {
	f := drainFlags{}
	c := &cobra.Command{
		Use: "drain NAME", Short: "Have every tenant leave a server, while they are served", Args: usageArgs(cobra.ExactArgs(1)),
		Long: `Have every tenant leave a server, while they are served.

The server takes no new tenants from then on. Active and suspended tenants are moved
as "tenant move" does it, some at a time, and its ready databases are dropped. The
drain is kept in the catalog: workers go on with it when this command ends, and the
same command again goes on with one that is halted, where the flags that it names
hold. More failures than --max-failures bears halt it. With --cancel it is given up:
who has left stays where they went.

Exit status 3: it is halted, and somebody still lives there.`,
		Example: "  freehold server drain pg-1 --dry-run\n  freehold server drain pg-1 --to pg-2 --parallel 8",
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		f.Server, f.Actor = args[0], actor()
		if f.dry && f.cancel {
			return fmt.Errorf("%w: --dry-run or --cancel, not both", errUsage)
		}
		need := app.NeedCatalog
		if !f.dry && !f.cancel && !f.detach {
			need |= app.NeedS3 // ready databases have a prefix there
		}
		p, err := e.openForBar(c, need)
		if err != nil {
			return err
		}
		defer p.Close()
		switch {
		case f.cancel:
			return e.cancelDrain(c.Context(), p, f.Server)
		case f.dry:
			return e.planDrain(c.Context(), p, f.DrainSpec)
		}
		return e.drain(c, p, f)
	}
	fl := c.Flags()
	fl.StringVar(&f.To, "to", "", "the `server` that they go to; without it, wherever there is room for each")
	fl.StringVar(&f.Way, "by", catalog.WayAuto, "`way`: auto, replication or copy")
	fl.IntVar(&f.Parallel, "parallel", fleet.DefaultDrainParallel, "moves at a time")
	fl.IntVar(&f.MaxFailures, "max-failures", fleet.DefaultDrainFailures, "moves that may fail before it is halted")
	fl.BoolVar(&f.dry, "dry-run", false, "show who would go where, and which way, alone")
	fl.BoolVar(&f.cancel, "cancel", false, "give it up: the server takes tenants again")
	fl.BoolVar(&f.detach, "detach", false, "only begin it: workers do it")
	fl.BoolVarP(&f.yes, "yes", "y", false, "don't ask")
	return c
}

// openForBar is open for a command that draws on the terminal that a log would go to.
func (e *env) openForBar(c *cobra.Command, need app.Need) (*app.Platform, error) {
	log := e.quiet().Logger(true)
	if screenOf(e.err) != nil && !e.levelSet {
		log = slog.New(slog.DiscardHandler)
	}
	return app.Open(c.Context(), e.cfg, need, log)
}

// drain begins a drain, or goes on with one, and does it here.
func (e *env) drain(c *cobra.Command, p *app.Platform, f drainFlags) error {
	ctx := c.Context()
	server, err := p.Catalog.Server(ctx, f.Server)
	if err != nil {
		return named("server", f.Server, err)
	}
	before, err := p.Catalog.DrainOf(ctx, f.Server)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	if before.Open() { // what isn't said anew stays
		for flag, keep := range map[string]func(){
			"to": func() { f.To = before.To }, "by": func() { f.Way = before.Way },
			"parallel": func() { f.Parallel = before.Parallel }, "max-failures": func() { f.MaxFailures = before.MaxFailures },
		} {
			if !c.Flags().Changed(flag) {
				keep()
			}
		}
	} else if !f.yes {
		if err := e.agreed(server); err != nil {
			return err
		}
	}
	if f.detach {
		d, err := p.Catalog.BeginDrain(ctx, f.DrainSpec, catalog.Taker{})
		if err != nil {
			return drainRefused(f.DrainSpec, err)
		}
		if e.output == "json" {
			return e.json(d)
		}
		e.say("the drain of %s is begun; workers do it: freehold server drain %[1]s watches it", d.Server)
		return nil
	}
	d, err := p.Fleet.BeginDrain(ctx, f.DrainSpec)
	if err != nil {
		return drainRefused(f.DrainSpec, err)
	}
	b := e.bar(progressbar.OptionSetPredictTime(false)) // tenants aren't of one size
	status, err := p.Fleet.RunDrain(ctx, d.ID, func(s catalog.DrainStatus) { drawDrain(b, s) })
	b.end()
	if ctx.Err() != nil {
		return e.leftDrain(ctx, p, d)
	}
	if err != nil && !errors.Is(err, fleet.ErrPartial) {
		return named("server", f.Server, err)
	}
	if serr := e.showDrain(status); serr != nil {
		return serr
	}
	return err
}

// agreed wants the server's name once more, of somebody who has read what will be.
func (e *env) agreed(s catalog.Server) error {
	_, _ = fmt.Fprintf(e.err, "%s leave %s, and it takes no new ones.\nType the server's name to go on: ", plural(s.Tenants, "tenant"), s.Name)
	line, err := bufio.NewReader(io.LimitReader(e.stdin, 1<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if !strings.HasSuffix(line, "\n") {
		sayTo(e.err, "") // nobody typed: what follows begins a line
	}
	if strings.TrimSpace(line) != s.Name {
		return errors.New("that is not its name: nothing was done (scripts say --yes)")
	}
	return nil
}

func drainRefused(spec catalog.DrainSpec, err error) error {
	if errors.Is(err, catalog.ErrNotFound) && spec.To != "" {
		return named("server", spec.To, err) // the other one was found
	}
	return named("server", spec.Server, err)
}

func drawDrain(b *bar, s catalog.DrainStatus) {
	what := "drain " + s.Server + ": " + strconv.Itoa(s.Moving) + " moving"
	if n := len(s.Failed); n > 0 {
		what += ", " + strconv.Itoa(n) + " failed"
	}
	b.draw(what, s.Moved, s.Moved+s.Left)
}

// showDrain tells how a drain ended.
func (e *env) showDrain(s catalog.DrainStatus) error {
	if e.output == "json" {
		return e.json(s)
	}
	for _, line := range drainLines(s) {
		e.say("%s", line)
	}
	return nil
}

// drainLines is a drain that has ended, or was halted, for people.
func drainLines(s catalog.DrainStatus) (list []string) {
	if s.State == catalog.DrainDone {
		list = append(list, fmt.Sprintf("%s is drained: %s moved", s.Server, plural(s.Moved, "tenant")))
	} else {
		list = append(list, fmt.Sprintf("the drain of %s is %s: %s moved, %d left", s.Server, s.State, plural(s.Moved, "tenant"), s.Left))
	}
	for _, f := range s.Failed {
		list = append(list, "! "+f.Tenant+": "+firstLine(f.Error))
		if f.Operation != "" {
			list = append(list, "  → freehold operation show "+f.Operation)
		}
	}
	if s.Deleting > 0 {
		list = append(list, fmt.Sprintf("%s being deleted: the server can be removed when they are gone", are(s.Deleting, "tenant")))
	}
	switch {
	case s.Kept > 0 && s.KeptUntil != nil:
		list = append(list, fmt.Sprintf("%s dropped by %s UTC", are(s.Kept, "kept database"), moment(*s.KeptUntil)))
	case s.Kept > 0:
		list = append(list, fmt.Sprintf("%s dropped when the restores are confirmed: freehold tenant confirm", are(s.Kept, "kept database")))
	}
	if s.State == catalog.DrainHalted {
		list = append(list, "go on:      freehold server drain "+s.Server, "give it up: freehold server drain "+s.Server+" --cancel")
	}
	if s.State == catalog.DrainDone && s.Kept+s.Deleting == 0 {
		list = append(list, "then: freehold server remove "+s.Server)
	}
	return list
}

// leftDrain says what becomes of a drain that this process was stopped at.
func (e *env) leftDrain(ctx context.Context, p *app.Platform, d catalog.Drain) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takenWithin) // it is over
	defer cancel()
	ways := fmt.Sprintf("\n  go on:      freehold server drain %s\n  give it up: freehold server drain %[1]s --cancel", d.Server)
	for {
		now, err := p.Catalog.Drain(ctx, d.ID)
		switch {
		case err == nil && now.State != catalog.DrainRunning:
			return fmt.Errorf("stopped here; the drain of %s is %s", d.Server, now.State)
		case err == nil && now.Worker != "": // this one's is given back
			return fmt.Errorf("stopped here; %s goes on with the drain of %s%s", now.Worker, d.Server, ways)
		}
		select {
		case <-time.After(takenEvery):
			continue
		case <-ctx.Done():
		}
		return fmt.Errorf("stopped here; no worker has taken the drain of %s yet%s", d.Server, ways)
	}
}

func (e *env) cancelDrain(ctx context.Context, p *app.Platform, server string) error {
	d, err := p.Catalog.CancelDrain(ctx, server, actor())
	if err != nil {
		return named("server", server, err)
	}
	s, err := p.Catalog.DrainStatus(ctx, d.ID)
	if err != nil {
		return err
	}
	if e.output == "json" {
		return e.json(s)
	}
	e.say("%s takes tenants again; %s moved stay where they went", server, plural(s.Moved, "tenant"))
	if s.Moving > 0 {
		e.say("%s under way end: freehold operation list --kind move", plural(s.Moving, "move"))
	}
	return nil
}

// planDrain shows what a drain would be.
func (e *env) planDrain(ctx context.Context, p *app.Platform, spec catalog.DrainSpec) error {
	plan, err := p.Fleet.PlanDrain(ctx, spec)
	if err != nil {
		return named("server", spec.Server, err)
	}
	if e.output == "json" {
		return e.json(plan)
	}
	t := table{head: []string{"tenant", "to", "by", "size", "pause", "why"}}
	for _, m := range plan.Moves {
		t.add(m.Tenant, m.To, m.Way, bytesOf(m.Bytes), "about "+brief(m.Pause), firstLine(strings.Join(m.Why, "; ")))
	}
	for _, f := range plan.Refused {
		t.add(f.Tenant, "-", "-", "-", "-", firstLine(f.Error))
	}
	if err := e.show(nil, t); err != nil {
		return err
	}
	e.say("")
	e.say("%s, %s in all; each looks for a place when its turn comes", plural(len(plan.Moves), "move"), bytesOf(plan.Bytes))
	if n := len(plan.Refused); n > 0 {
		e.say("%s can't be moved as things are", plural(n, "tenant"))
	}
	if n := len(plan.Waits); n > 0 {
		e.say("%s being made, or deleted: %s", are(n, "tenant"), strings.Join(plan.Waits, ", "))
	}
	if plan.Ready > 0 {
		e.say("%s dropped", are(plan.Ready, "ready database"))
	}
	return nil
}
