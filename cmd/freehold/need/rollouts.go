package need

import (
	"fmt"
	"time"

	"freehold/catalog"
)

// unledFor is how long a rollout may go on without anybody to lead it: workers look
// each second.
const unledFor = time.Minute

// rolloutWaits names rollouts that wait for a person: halted, or ended in part.
func rolloutWaits(l look) (needs []Need) {
	for _, r := range l.Rollouts {
		n := Need{Count: max(1, r.Failed), Names: r.Tenants, Command: "freehold migrate status " + ShortID(r.ID)}
		what := fmt.Sprintf("rollout %s (%s, to version %d)", ShortID(r.ID), r.Stream, r.Target)
		switch r.State {
		case catalog.RolloutHalted:
			n.Kind, n.What = RolloutHalted, behind(what+" is halted", r.Reason)
		case catalog.RolloutPartial:
			n.Kind = RolloutPartial
			n.What = fmt.Sprintf("%s ended in part: %d of %s failed: %s", what, r.Failed, plural(r.Total, "tenant"), few(r.Tenants, r.Failed))
		default:
			continue
		}
		needs = append(needs, n)
	}
	return needs
}

// rolloutUnled names those that should go on, and that nobody works on.
func rolloutUnled(l look) (needs []Need) {
	for _, r := range l.Rollouts {
		if r.State == catalog.RolloutRunning && r.Unled > unledFor {
			needs = append(needs, Need{
				Kind: RolloutUnled, Count: 1, Names: []string{},
				What:    fmt.Sprintf("nobody has worked on rollout %s (%s, to version %d) for %s", ShortID(r.ID), r.Stream, r.Target, ago(r.Unled)),
				Command: "freehold migrate resume " + ShortID(r.ID),
			})
		}
	}
	return needs
}

// rolling reports whether a rollout of the stream is open: what is below its target
// is on its way, or the rollout is a need itself.
func (l look) rolling(s catalog.Stream) bool {
	for _, r := range l.Rollouts {
		if r.Stream == s {
			return true
		}
	}
	return false
}

func tenantBelowTarget(l look) (needs []Need) {
	for _, stream := range []struct {
		is      catalog.Stream
		gaps    []catalog.SchemaGap
		target  int64
		what    string
		command string
	}{
		{catalog.StreamFreehold, l.Below, l.target, "schema", "freehold migrate up"},
		{catalog.StreamProduct, l.BelowProduct, l.ProductTarget, "the product's version", "freehold migrate up --stream product"},
	} {
		if len(stream.gaps) == 0 || l.rolling(stream.is) {
			continue
		}
		n := Need{Kind: TenantBelowTarget, Command: stream.command}
		for _, g := range stream.gaps { // the oldest first
			n.Count += g.Count
			n.Names = append(n.Names, g.Tenants...)
		}
		n.Names = n.Names[:min(len(n.Names), catalog.Sample)]
		n.What = fmt.Sprintf("%s below %s %d, the oldest at %d: %s", plural(n.Count, "tenant"), stream.what, stream.target, stream.gaps[0].Version, few(n.Names, n.Count))
		needs = append(needs, n)
	}
	return needs
}

func schemaDrift(l look) (needs []Need) {
	if s := l.Schemas; s.Drifted > 0 {
		needs = append(needs, Need{
			Kind: SchemaDrift, Count: s.Drifted, Names: s.DriftedTenants, Command: "freehold migrate drift",
			What: "the schemas of " + few(s.DriftedTenants, s.Drifted) + " are not what the migrations make",
		})
	}
	if s := l.Schemas; s.InvalidIndexes > 0 {
		needs = append(needs, Need{
			Kind: IndexInvalid, Count: s.InvalidIndexes, Names: s.InvalidInTenants, Command: "freehold migrate drift --rebuild",
			What: "indexes of " + few(s.InvalidInTenants, s.InvalidIndexes) + " are invalid: no query uses them",
		})
	}
	return needs
}
