package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"freehold/router"
)

// nodeRouter is what a node answers of its router.
type nodeRouter struct {
	Node   string      `json:"node"`
	NodeID string      `json:"node_id"`
	View   router.View `json:"view"`
}

// orders are what tenants can be sorted by, most first.
var orders = map[string]func(a, b router.TenantView) int{
	"borrows": func(a, b router.TenantView) int { return cmp.Compare(b.BorrowsPerSecond, a.BorrowsPerSecond) },
	"waiting": func(a, b router.TenantView) int { return cmp.Compare(b.Waiting, a.Waiting) },
	"leases":  func(a, b router.TenantView) int { return cmp.Compare(b.Leased, a.Leased) },
	"wait":    func(a, b router.TenantView) int { return cmp.Compare(b.OldestWait, a.OldestWait) },
}

// topOptions of router top.
type topOptions struct {
	sort  string
	limit int
	once  bool
}

func (e *env) routerTop(f *nodeFlags) *cobra.Command {
	var o topOptions
	c := &cobra.Command{
		Use:   "top",
		Short: "Watch the node's servers and its busiest tenants, each second; q ends it",
		Long: `Watch the node's servers and its busiest tenants, each second; q ends it.

Without a terminal, and with --once, it is shown once.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: e.onNode(f, func(ctx context.Context, n *node, _ []string) error {
			if orders[o.sort] == nil {
				return fmt.Errorf("%w: --sort is one of borrows, waiting, leases, wait", errUsage)
			}
			if o.limit < 1 || o.limit > maxTop {
				return fmt.Errorf("%w: --limit is from 1 to %d", errUsage, maxTop)
			}
			return e.top(ctx, n, o)
		}),
	}
	fl := c.Flags()
	fl.StringVar(&o.sort, "sort", "borrows", "by borrows a second, waiting callers, leases, or the oldest wait: `borrows|waiting|leases|wait`")
	fl.IntVar(&o.limit, "limit", 20, "how many tenants")
	fl.BoolVar(&o.once, "once", false, "show it once and end")
	return c
}

// maxTop is how many tenants a node tells of at most.
const maxTop = 1000

func (e *env) top(ctx context.Context, n *node, o topOptions) error {
	// The first answer comes before the screen is touched: what is wrong is told
	// as of any other command.
	first, err := fetch(ctx, n, o)
	if err != nil {
		return err
	}
	if e.output == "json" {
		return e.json(first)
	}
	if s := e.screen(); s != nil && !o.once {
		return e.live(ctx, s, picture{lines: lines(first)}, func(ctx context.Context) picture {
			r, err := fetch(ctx, n, o)
			if err != nil {
				return unanswered(err)
			}
			return picture{lines: lines(r)}
		})
	}
	_, err = io.WriteString(e.out, strings.Join(lines(first), "\n")+"\n")
	return err
}

// fetch asks the node. It sends its busiest first: for any other order all that
// it tells of are sorted here.
func fetch(ctx context.Context, n *node, o topOptions) (nodeRouter, error) {
	ask := o.limit
	if o.sort != "borrows" {
		ask = maxTop
	}
	var r nodeRouter
	if err := n.call(ctx, http.MethodGet, "/router?top="+strconv.Itoa(ask), &r); err != nil {
		return nodeRouter{}, err
	}
	slices.SortStableFunc(r.View.Tenants, func(a, b router.TenantView) int {
		return cmp.Or(orders[o.sort](a, b), orders["borrows"](a, b), cmp.Compare(a.Slug, b.Slug))
	})
	r.View.Tenants = r.View.Tenants[:min(len(r.View.Tenants), o.limit)]
	return r, nil
}

// lines draws the picture: a line of totals, the servers, what is wrong with
// them, the tenants.
func lines(r nodeRouter) []string {
	v := r.View
	total := fmt.Sprintf("node %s   %s   %s open, %s, %d lent out", r.Node, v.At.Local().Format(time.TimeOnly),
		plural(v.Stats.Pools, "pool"), plural(v.Stats.Conns, "connection"), v.Stats.Leases)
	if v.Stats.OldestLease > 0 {
		total += ", the oldest for " + brief(v.Stats.OldestLease)
	}
	list := []string{total}

	servers := table{head: []string{"server", "breaker", "budget", "share", "used", "idle", "leased", "dial", "close", "waiting", "oldest", "expect", "reclaim", "refused"}}
	for _, s := range v.Servers {
		servers.add(s.Name, s.Breaker, strconv.Itoa(s.Budget), strconv.Itoa(s.Share), strconv.Itoa(s.Used), strconv.Itoa(s.Idle),
			strconv.Itoa(s.Leased), strconv.Itoa(s.Dialing), strconv.Itoa(s.Closing), strconv.Itoa(s.Waiting), brief(s.OldestWait),
			brief(s.ExpectedWait), strconv.FormatInt(s.Reclaims, 10), strconv.FormatInt(s.Refusals, 10))
	}
	list = append(append(list, ""), servers.lines()...)
	for _, s := range v.Servers {
		if s.Breaker != "closed" && s.LastError != "" {
			list = append(list, fmt.Sprintf("! %s: %s, %s ago", s.Name, s.LastError, brief(v.At.Sub(s.LastErrorAt))))
		}
	}

	tenants := table{head: []string{"tenant", "state", "server", "borrows/s", "conns", "leased", "oldest", "waiting", "waited", "breaker"}}
	for _, t := range v.Tenants {
		tenants.add(t.Slug, t.State, t.Server, strconv.FormatFloat(t.BorrowsPerSecond, 'f', 1, 64), fmt.Sprintf("%d/%d", t.Conns, t.Limit),
			strconv.Itoa(t.Leased), brief(t.OldestLease), strconv.Itoa(t.Waiting), brief(t.OldestWait), t.Breaker)
	}
	return append(append(list, ""), tenants.lines()...)
}
