package fleet

import (
	"context"
	"fmt"
	"strings"
	"time"

	"freehold/catalog"
)

// linkAge is how long what was tried between two servers counts as known.
const linkAge = 24 * time.Hour

// links tells how tenants can be moved to each server. What nobody has tried lately is
// tried now, between servers that answer.
func (d *diagnosis) links(ctx context.Context, list []catalog.Server, away map[string]bool) error {
	for _, s := range list {
		if away[s.Name] || len(list) < 2 {
			continue
		}
		tried, err := d.cat.ServerLinks(ctx, s.Name)
		if err != nil {
			return fmt.Errorf("doctor: %w", err)
		}
		if stale(s.Name, list, away, tried) {
			if err := d.CheckLinks(ctx, s.Name); err != nil {
				d.bad("server "+s.Name+": links with other servers can't be tried: "+reason(ctx, err), "freehold server show "+s.Name+" --check")
				continue
			}
			if tried, err = d.cat.ServerLinks(ctx, s.Name); err != nil {
				return fmt.Errorf("doctor: %w", err)
			}
		}
		var from, not []string
		for _, l := range tried {
			switch {
			case l.Target != s.Name:
			case l.Why == "":
				from = append(from, l.Source)
			default:
				not = append(not, l.Source+" ("+l.Why+")")
			}
		}
		if from != nil {
			d.ok("server %s: tenants can be moved there while they are served from %s", s.Name, strings.Join(from, ", "))
		}
		if not != nil {
			d.ok("server %s: moves there copy under pause from %s", s.Name, strings.Join(not, ", "))
		}
	}
	return nil
}

// stale reports whether a direction between the server and another one that answers
// wasn't tried lately.
func stale(server string, list []catalog.Server, away map[string]bool, tried []catalog.ServerLink) bool {
	fresh := map[string]int{}
	for _, l := range tried {
		if time.Since(l.CheckedAt) < linkAge {
			fresh[l.Source]++
			fresh[l.Target]++
		}
	}
	for _, s := range list {
		if s.Name != server && !away[s.Name] && fresh[s.Name] < 2 {
			return true
		}
	}
	return false
}
