package need

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"freehold/catalog"
)

const (
	// nodeSilence is how long a node may be silent before it is named.
	nodeSilence = 5 * time.Second
	// nearLimit is the percentage of a server's means beyond which it is named.
	nearLimit = 90
	// readyGrace is how long the making of ready databases may pause.
	readyGrace = 2 * time.Minute
)

func noNode(l look) []Need {
	for _, n := range l.nodes {
		if n.Live {
			return nil
		}
	}
	return []Need{{Kind: NoNode, What: "no node serves", Command: "freehold serve", Count: 1}}
}

func nodeSilent(l look) (needs []Need) {
	for i, n := range l.nodes {
		if !n.Live {
			needs = append(needs, Need{
				Kind: NodeSilent, What: fmt.Sprintf("node %s has been silent for %s: start it again there", n.Name, ago(l.Nodes[i].Silent)),
				Command: "freehold serve", Count: 1, Names: []string{n.Name},
			})
		}
	}
	return needs
}

func serverDown(l look) (needs []Need) {
	for _, s := range l.Servers {
		if s.State == catalog.ServerDown {
			needs = append(needs, Need{
				Kind: ServerDown, What: fmt.Sprintf("server %s is down, with %s", s.Name, plural(s.Tenants, "tenant")),
				Command: "freehold server show " + s.Name, Count: 1, Names: []string{s.Name},
			})
		}
	}
	return needs
}

// seen is what live nodes say of a server.
func (l look) seen(server string, trouble func(ServerHealth) bool) (nodes []string, worst ServerHealth) {
	for _, n := range l.nodes {
		for _, s := range n.Health.Servers {
			if !n.Live || s.Name != server || !trouble(s) {
				continue
			}
			nodes = append(nodes, n.Name)
			if len(nodes) == 1 || s.WaitMillis > worst.WaitMillis {
				worst = s
			}
		}
	}
	return nodes, worst
}

// broken is a server whose breaker is open, or lets one call through that hasn't
// come back yet. Half-open with nobody waiting is no trouble: nobody has tried.
func broken(h ServerHealth) bool {
	return h.Breaker == "open" || h.Breaker != "" && h.Waiting > 0
}

func breakerOpen(l look) (needs []Need) {
	for _, s := range l.Servers {
		nodes, worst := l.seen(s.Name, broken)
		if len(nodes) == 0 || s.State == catalog.ServerDown {
			continue
		}
		needs = append(needs, Need{
			Kind: BreakerOpen, Count: 1, Names: []string{s.Name},
			What:    behind(fmt.Sprintf("server %s can't be reached by %s", s.Name, few(nodes, len(nodes))), worst.Error),
			Command: "freehold doctor",
		})
	}
	return needs
}

// silentAfter is how much older a server's measure may be than the last round of
// measuring: three rounds.
const silentAfter = 15 * time.Minute

// serverSilent names servers that the workers can't measure, and that no node has
// reason to complain of.
func serverSilent(l look) (needs []Need) {
	at := slices.IndexFunc(l.Chores, func(c catalog.ChoreState) bool { return c.Name == "measure-servers" && !c.Failed })
	if at < 0 {
		return nil
	}
	for _, s := range l.Servers {
		age, up := l.Measured[s.Name]
		nodes, _ := l.seen(s.Name, broken)
		if !up || len(nodes) > 0 || age <= l.Chores[at].Done+silentAfter {
			continue
		}
		needs = append(needs, Need{
			Kind: ServerSilent, What: fmt.Sprintf("server %s has not answered the workers for %s", s.Name, ago(age)),
			Command: "freehold doctor", Count: 1, Names: []string{s.Name},
		})
	}
	return needs
}

func serverNearLimit(l look) (needs []Need) {
	for _, s := range l.Servers {
		if s.State == catalog.ServerDown {
			continue // its measures are old, and it is named
		}
		var of []string
		near := func(what string, have, limit int64, text string) {
			if limit > 0 && have*100 >= limit*nearLimit {
				of = append(of, what+" "+text)
			}
		}
		if s.State == catalog.ServerActive { // others take no more
			near("databases", int64(s.Databases), int64(s.Limit), fmt.Sprintf("%d of %d", s.Databases, s.Limit))
		}
		near("recovery", int64(s.Recovery), int64(s.MaxRecovery), fmt.Sprintf("%d s of %d s", s.Recovery, s.MaxRecovery))
		near("disk", s.UsedBytes, s.DiskBytes, fmt.Sprintf("%d of %d GB", s.UsedBytes>>30, s.DiskBytes>>30))
		nodes, worst := l.seen(s.Name, func(h ServerHealth) bool { return h.WaitMillis >= longWait.Milliseconds() })
		if len(nodes) > 0 {
			of = append(of, fmt.Sprintf("connections: the oldest of %s waits for %d ms", plural(worst.Waiting, "caller"), worst.WaitMillis))
		}
		if len(of) > 0 {
			needs = append(needs, Need{
				Kind: ServerNearLimit, What: "server " + s.Name + " is near its limit: " + strings.Join(of, "; "),
				Command: "freehold server show " + s.Name, Count: 1, Names: []string{s.Name},
			})
		}
	}
	return needs
}

// readyLow names a server that has less than half of its ready databases and makes
// none. Just after a burst of new tenants it is busy making them, or about to: what
// took all of them left no trace of when.
func readyLow(l look) (needs []Need) {
	refilled := slices.ContainsFunc(l.Chores, func(c catalog.ChoreState) bool {
		return c.Name == "ready-databases" && !c.Failed && c.Done < readyGrace
	})
	for _, r := range l.Ready {
		full := slices.ContainsFunc(l.Servers, func(s catalog.Server) bool { return s.Name == r.Server && s.Room <= 0 })
		if r.Ready >= (r.Want+1)/2 || full || r.Begun != nil && *r.Begun < readyGrace || r.Begun == nil && refilled {
			continue
		}
		needs = append(needs, Need{
			Kind: ReadyLow, What: fmt.Sprintf("server %s has %d of %d ready databases, and none is being made", r.Server, r.Ready, r.Want),
			Command: "freehold server show " + r.Server, Count: r.Want - r.Ready, Names: []string{r.Server},
		})
	}
	return needs
}
