package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
)

func (e *env) operationCmd() *cobra.Command {
	return group("operation", "Long acts on tenants: what is being done, how far it is, and what failed",
		e.operationList(), e.operationShow(), e.operationRetry(), e.operationCancel())
}

// operationStates are those that operations can be listed by.
var operationStates = []string{
	catalog.OperationWaiting, catalog.OperationRunning, catalog.OperationDone, catalog.OperationFailed, catalog.OperationCancelled,
}

func (e *env) operationList() *cobra.Command {
	var f catalog.OperationFilter
	c := &cobra.Command{
		Use: "list", Short: "List operations, newest first", Args: usageArgs(cobra.NoArgs),
		Example: "  freehold operation list --state failed",
		RunE: e.with(func(ctx context.Context, p *app.Platform, _ []string) error {
			if f.Limit < 0 {
				return fmt.Errorf("%w: --limit is not negative", errUsage)
			}
			if f.State != "" && !slices.Contains(operationStates, f.State) {
				return fmt.Errorf("%w: --state is one of %s", errUsage, strings.Join(operationStates, ", "))
			}
			list, err := p.Catalog.Operations(ctx, f)
			if err != nil {
				return err
			}
			t := table{head: []string{"operation", "kind", "tenant", "state", "step", "tries", "created", "by", "why"}}
			for _, o := range list {
				t.add(o.ID, o.Kind, or(o.Tenant, "-"), o.State, progress(o), strconv.Itoa(o.Attempts), moment(o.CreatedAt), o.Actor, firstLine(o.Error))
			}
			if list == nil {
				list = []catalog.Operation{}
			}
			return e.show(list, t)
		}),
	}
	fl := c.Flags()
	fl.StringVar(&f.State, "state", "", "only in this state: "+strings.Join(operationStates, ", "))
	fl.StringVar(&f.Kind, "kind", "", "only of this kind, such as onboard or delete")
	fl.StringVar(&f.Tenant, "tenant", "", "only this tenant's (its slug)")
	fl.StringVar(&f.After, "after", "", "only those before this id, the last of the page before")
	fl.IntVar(&f.Limit, "limit", 100, "how many at most; 0 is all")
	return c
}

// progress is how far an operation got: the step that it is at, and how many are done.
func progress(o catalog.Operation) string {
	done, at := 0, ""
	for _, s := range o.Steps {
		switch {
		case s.State == "done":
			done++
		case at == "":
			at = " " + s.Name
		}
	}
	return fmt.Sprintf("%d/%d%s", done, len(o.Steps), at)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func (e *env) operationShow() *cobra.Command {
	var wait bool
	c := &cobra.Command{
		Use: "show ID", Short: "Show an operation, step by step", Args: usageArgs(cobra.ExactArgs(1)),
		Long: `Show an operation, step by step.

With --wait, the one that is at work is followed until it has ended. Exit status 1:
it failed.`,
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			o, err := p.Catalog.Operation(ctx, args[0])
			if err == nil && wait {
				o, err = e.follow(ctx, p, o)
			}
			if err != nil {
				return named("operation", args[0], err)
			}
			if err := e.showOperation(o); err != nil {
				return err
			}
			if wait && o.State == catalog.OperationFailed {
				return exitError(exitFailed) // all is said
			}
			return nil
		}),
	}
	c.Flags().BoolVar(&wait, "wait", false, "follow it until it has ended")
	return c
}

const (
	followEvery = 300 * time.Millisecond
	// soon is how far ahead an operation may be due to be waited for.
	soon = 5 * time.Minute
)

// follow reads an operation again and again until it has ended, or waits for a time
// that is far ahead, and draws how far it is on stderr, at a terminal only.
func (e *env) follow(ctx context.Context, p *app.Platform, o catalog.Operation) (catalog.Operation, error) {
	b := e.bar(progressbar.OptionSetPredictTime(false)) // steps last as long as they please
	defer b.end()
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		drawSteps(b, o)
		ended := o.State != catalog.OperationWaiting && o.State != catalog.OperationRunning
		if ended || o.State == catalog.OperationWaiting && time.Until(o.RunAt) > soon {
			return o, nil
		}
		select {
		case <-ctx.Done():
			return o, ctx.Err()
		case <-tick.C:
		}
		var err error
		if o, err = p.Catalog.Operation(ctx, o.ID); err != nil {
			return o, err
		}
	}
}

// drawSteps shows an operation's steps as a bar.
func drawSteps(b *bar, o catalog.Operation) {
	done, at := 0, o.State
	for _, s := range o.Steps {
		switch s.State {
		case "done":
			done++
		case "running":
			at = s.Name
		}
	}
	b.draw(o.Kind+" "+o.Tenant+": "+at, done, len(o.Steps))
}

func (e *env) showOperation(o catalog.Operation) error {
	if e.output == "json" {
		return e.json(o)
	}
	rows := [][]string{
		{"operation", o.ID}, {"kind", o.Kind}, {"tenant", or(o.Tenant, "-")}, {"state", o.State}, {"by", o.Actor},
		{"tries", strconv.Itoa(o.Attempts)}, {"created", moment(o.CreatedAt)},
	}
	switch o.State {
	case catalog.OperationWaiting:
		rows = append(rows, []string{"due", moment(o.RunAt)})
	case catalog.OperationRunning:
		rows = append(rows, []string{"worker", o.Worker}, []string{"heard from", momentOr(o.HeartbeatAt, "-")})
	default:
		rows = append(rows, []string{"ended", momentOr(o.EndedAt, "-")})
	}
	if o.Error != "" {
		rows = append(rows, []string{"why", o.Error})
	}
	if o.Kind == catalog.KindMove {
		rows = append(rows, moveRows(o)...)
	}
	if err := e.show(o, table{rows: rows}); err != nil {
		return err
	}
	e.say("")
	t := table{head: []string{"step", "state", "took", "why"}}
	for _, s := range o.Steps {
		t.add(s.Name, s.State, took(s), s.Error)
	}
	return e.show(o, t)
}

// took is how long a step lasted, or lasts by now.
func took(s catalog.OperationStep) string {
	switch {
	case s.Millis != nil:
		return brief(max(time.Millisecond, time.Duration(*s.Millis)*time.Millisecond))
	case s.StartedAt != nil && s.State == "running":
		return brief(time.Since(*s.StartedAt)) + " so far"
	default:
		return "-"
	}
}

func (e *env) operationRetry() *cobra.Command {
	return &cobra.Command{
		Use: "retry ID...", Short: "Do failed operations again, from the step that they came to", Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			return e.onOperations(ctx, p, "retry", args, func(id string) (catalog.Operation, error) {
				return p.Catalog.RetryOperation(ctx, id)
			})
		}),
	}
}

func (e *env) operationCancel() *cobra.Command {
	return &cobra.Command{
		Use: "cancel ID...", Short: "End operations and undo what can be undone: an onboarding is rolled back, a move goes back", Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: e.withAll(app.NeedCatalog|app.NeedS3, func(ctx context.Context, p *app.Platform, args []string) error {
			return e.onOperations(ctx, p, "cancel", args, func(id string) (catalog.Operation, error) {
				return p.Fleet.CancelOperation(ctx, id, actor())
			})
		}),
	}
}

// onOperations changes each and says how it is then. The first that can't be
// changed ends it.
func (e *env) onOperations(ctx context.Context, p *app.Platform, verb string, ids []string, change func(id string) (catalog.Operation, error)) error {
	list := []catalog.Operation{}
	for _, id := range ids {
		o, err := change(id)
		if err != nil {
			return named("operation", id, err)
		}
		if err := audit(ctx, p, "operation."+verb, o.TenantID, map[string]any{"operation": o.ID, "kind": o.Kind}); err != nil {
			return err
		}
		e.say("%s of %s is %s: freehold operation show %s", o.Kind, or(o.Tenant, "-"), o.State, o.ID)
		list = append(list, o)
	}
	if e.output == "json" {
		return e.json(list)
	}
	return nil
}
