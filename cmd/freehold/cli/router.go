package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/router"
)

// routerCmd asks one node: each has a router of its own, in its memory.
func (e *env) routerCmd() *cobra.Command {
	f := nodeFromEnv()
	c := group("router", "One node's connections to tenants' databases", e.routerTop(&f), e.routerShow(&f), e.routerReconnect(&f))
	c.Long = `One node's connections to tenants' databases.

Each node has a router of its own; these commands ask the one at
FREEHOLD_ADMIN_URL, with the operators' token.`
	f.add(c)
	return c
}

// onNode is a command that asks a node.
func (e *env) onNode(f *nodeFlags, run func(ctx context.Context, n *node, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		n, err := f.open(e)
		if err != nil {
			return err
		}
		defer n.close()
		return run(c.Context(), n, args)
	}
}

func tenantPath(slug, verb string) string { return "/router/tenants/" + url.PathEscape(slug) + verb }

// tenantView asks for one tenant as the node serves it.
func tenantView(ctx context.Context, n *node, method, slug, verb string) (router.TenantView, error) {
	var t router.TenantView
	err := n.call(ctx, method, tenantPath(slug, verb), &t)
	if errors.Is(err, catalog.ErrNotFound) {
		err = named("tenant", slug, err)
	}
	return t, err
}

func (e *env) routerShow(f *nodeFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "show SLUG",
		Short: "Show one tenant as the node serves it; the last line says why it is slow or refused",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: e.onNode(f, func(ctx context.Context, n *node, args []string) error {
			t, err := tenantView(ctx, n, http.MethodGet, args[0], "")
			if err != nil {
				return err
			}
			return e.showTenantView(t)
		}),
	}
}

func (e *env) showTenantView(t router.TenantView) error {
	pool := "none open"
	if t.Pool {
		pool = "open, " + plural(t.Pins, "borrower")
	}
	tab := table{rows: [][]string{
		{"tenant", t.Slug}, {"id", t.ID}, {"server", t.Server}, {"state", t.State}, {"plan", t.Plan + weighs(t.Weight)},
		{"epoch", strconv.FormatInt(t.Epoch, 10)}, {"pool", pool},
		{"connections", fmt.Sprintf("%d of %d: %d idle, %d lent out", t.Conns, t.Limit, t.Idle, t.Leased)},
		{"oldest lease", brief(t.OldestLease)},
		{"waiting", waits(t.Waiting, t.OldestWait)},
		{"borrows", fmt.Sprintf("%.1f a second", t.BorrowsPerSecond)},
		{"breaker", or(t.Breaker, "closed")},
	}}
	if err := e.show(t, tab); err != nil {
		return err
	}
	for _, list := range []struct {
		head   string
		events []router.Event
	}{{"last errors", t.Errors}, {"last decisions", t.Decisions}} {
		if len(list.events) == 0 {
			continue
		}
		e.say("\n%s", list.head)
		for _, ev := range list.events {
			e.say("  %s  %s", ev.At.UTC().Format("2006-01-02 15:04:05.000"), ev.Text)
		}
	}
	e.say("\n%s", t.Why)
	return nil
}

func weighs(weight int) string {
	if weight > 1 {
		return fmt.Sprintf(" (%d turns for one)", weight)
	}
	return ""
}

func waits(n int, oldest time.Duration) string {
	if n == 0 {
		return "nobody"
	}
	return fmt.Sprintf("%d, the oldest for %s", n, brief(oldest))
}

func (e *env) routerReconnect(f *nodeFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "reconnect SLUG",
		Short: "Close a tenant's connections on the node, lent ones when they come back",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: e.onNode(f, func(ctx context.Context, n *node, args []string) error {
			t, err := tenantView(ctx, n, http.MethodPost, args[0], "/reconnect")
			if err != nil {
				return err
			}
			if e.output == "json" {
				return e.json(t)
			}
			e.say("%s: connections of before are closed, lent ones when they come back", t.Slug)
			return nil
		}),
	}
}

// brief is a duration for a table: three figures at most.
func brief(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < time.Millisecond:
		return "<1ms"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
	default:
		return d.Round(time.Second).String()
	}
}
