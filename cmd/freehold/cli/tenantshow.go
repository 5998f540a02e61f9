package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
)

// shownTenant is a tenant with what is under way for it, and what could bring it back.
type shownTenant struct {
	catalog.Tenant
	Backup    *catalog.TenantBackup  `json:"backup"`    // the newest
	Kept      []catalog.KeptDatabase `json:"kept"`      // databases that it has left
	Operation *catalog.Operation     `json:"operation"` // that waits or runs for it
}

func (e *env) tenantShow() *cobra.Command {
	return &cobra.Command{
		Use: "show SLUG", Short: "Show one tenant", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			t, err := tenant(ctx, p, args[0])
			if err != nil {
				return err
			}
			shown, err := lookAt(ctx, p, t)
			if err != nil {
				return err
			}
			rows := [][]string{
				{"tenant", t.Slug}, {"name", t.Name}, {"email", t.Email}, {"id", t.ID.String()}, {"plan", t.Plan},
				{"labels", labelled(t.Labels)},
				{"state", string(t.State)}, {"region", t.Region}, {"server", t.Server}, {"database", t.Database},
				{"schema", versionsOf(t)}, {"epoch", strconv.FormatInt(t.Epoch, 10)},
				{"created", moment(t.CreatedAt)},
			}
			return e.show(shown, table{rows: append(rows, shown.rows()...)})
		}),
	}
}

func lookAt(ctx context.Context, p *app.Platform, t catalog.Tenant) (shownTenant, error) {
	shown := shownTenant{Tenant: t}
	switch b, err := p.Catalog.TenantBackup(ctx, t.ID, catalog.BackupLatest); {
	case err == nil:
		shown.Backup = &b
	case !errors.Is(err, catalog.ErrNotFound):
		return shown, err
	}
	var err error
	if shown.Kept, err = p.Catalog.KeptDatabases(ctx, catalog.KeptFilter{Tenant: t.ID}); err != nil {
		return shown, err
	}
	if shown.Kept == nil {
		shown.Kept = []catalog.KeptDatabase{}
	}
	for _, state := range []string{catalog.OperationRunning, catalog.OperationWaiting} {
		list, err := p.Catalog.Operations(ctx, catalog.OperationFilter{Tenant: t.Slug, State: state, Limit: 1})
		if err != nil {
			return shown, err
		}
		if len(list) > 0 {
			shown.Operation = &list[0]
			break
		}
	}
	return shown, nil
}

// rows are what a person is shown beyond the tenant itself.
func (s shownTenant) rows() [][]string {
	rows := [][]string{{"newest backup", "none: freehold tenant backup " + s.Slug}}
	if b := s.Backup; b != nil {
		rows = [][]string{
			{"newest backup", moment(b.MadeAt) + ", " + bytesOf(b.Bytes) + "  (" + b.ID + ")"},
			{"proved", proved(b.ProvedAt, b.ProofError)},
		}
	}
	for _, k := range s.Kept {
		until := "until freehold tenant confirm " + s.Slug + ", or freehold tenant revert " + s.Slug
		if k.DropAt != nil {
			until = "until " + moment(*k.DropAt)
		}
		rows = append(rows, []string{"kept database", fmt.Sprintf("%s on %s (%s), %s", k.Database, k.Server, k.Why, until)})
	}
	if o := s.Operation; o != nil {
		rows = append(rows, []string{"operation", fmt.Sprintf("%s is %s, %s: freehold operation show %s", o.Kind, o.State, progress(*o), o.ID)})
	}
	return rows
}

// moveRows are what is said of a move beyond any operation.
func moveRows(o catalog.Operation) (rows [][]string) {
	var args struct{ From, To, Way string }
	if json.Unmarshal(o.Args, &args) == nil && args.To != "" {
		rows = append(rows, []string{"move", fmt.Sprintf("from %s to %s, by %s", args.From, args.To, args.Way)})
	}
	var millis int64
	if note(o, "pause_ms", &millis) {
		rows = append(rows, []string{"paused for", brief(max(time.Millisecond, time.Duration(millis)*time.Millisecond))})
	}
	var until time.Time
	if note(o, "kept_until", &until) {
		rows = append(rows, []string{"old database", "kept until " + moment(until)})
	}
	return rows
}
