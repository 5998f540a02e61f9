package cli

import (
	"fmt"
	"strings"
	"time"

	"freehold/tenantdb/fleet"
)

// dryRunLines is the report of a dry run for people.
func dryRunLines(r fleet.DryRunReport) []string {
	what := "clone"
	if r.SchemaOnly {
		what = "clone without rows"
	}
	lines := []string{fmt.Sprintf("%s of %s on %s: %s, made in %s; dropped again", what, r.Tenant, r.Server, bytesOf(r.Bytes), short(r.CloneTook))}
	for _, s := range r.Steps {
		lines = append(append(lines, ""), stepLines(s)...)
	}
	lines = append(lines, "")
	if r.Failure != nil {
		return append(lines, fmt.Sprintf("FAILED (%s): %s", r.Failure.Kind, r.Failure.Error),
			fmt.Sprintf("the clone is at version %d of %s: mend the migration before it is rolled out", r.To, r.Stream))
	}
	if len(r.Steps) == 0 {
		return append(lines, fmt.Sprintf("nothing to do: %s is at version %d of %s", r.Tenant, r.From, r.Stream))
	}
	lines = append(lines, fmt.Sprintf("version %d to %d of %s, %s to %s", r.From, r.To, r.Stream, bytesOf(r.Bytes), bytesOf(r.BytesAfter)))
	estimate := fmt.Sprintf("the fleet: estimated %s for %s", short(r.Fleet.Estimated), plural(r.Fleet.Tenants, "tenant"))
	if r.Fleet.Soak > 0 {
		estimate += fmt.Sprintf(", and %s of soak", short(r.Fleet.Soak))
	}
	return append(lines, estimate, "  ("+r.Fleet.How+")")
}

func stepLines(s fleet.DryRunStep) []string {
	head := s.File
	if s.NoTx {
		head += " (no transaction)"
	}
	lines := []string{fmt.Sprintf("%s: %s, %s more, %s of WAL at most", head, short(s.Took), bytesOf(s.Grown), bytesOf(s.WAL))}
	for _, part := range []struct {
		what  string
		names []string
	}{
		{"rewrites", relationNames(s.Rewrites)}, {"builds", relationNames(s.Built)}, {"creates", s.Created}, {"drops", s.Dropped},
	} {
		if len(part.names) > 0 {
			lines = append(lines, "  "+part.what+": "+strings.Join(part.names, ", "))
		}
	}
	if len(s.Locks) == 0 {
		return append(lines, "  locks: none that anybody waits for")
	}
	t := table{head: []string{"lock", "on", "held", "blocks"}}
	for _, l := range s.Locks {
		blocks := l.Blocks
		if blocks == "" {
			blocks = "other schema changes only"
			if l.Mode == "RowExclusiveLock" || l.Mode == "RowShareLock" {
				blocks = "nothing" // but rows that it has changed
			}
		}
		t.add(l.Mode, l.Kind+" "+l.Relation, short(l.Held), blocks)
	}
	for _, line := range t.lines() {
		lines = append(lines, "  "+line)
	}
	return lines
}

func relationNames(list []fleet.DryRunRelation) (names []string) {
	for _, r := range list {
		name := r.Kind + " " + r.Relation
		if r.On != "" {
			name += " on " + r.On
		}
		name += " (" + bytesOf(r.Bytes)
		if r.Invalid {
			name += ", NOT VALID"
		}
		names = append(names, name+")")
	}
	return names
}

// short is a time for people: 3 digits of it, about.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// bytesOf is a size for people, as Postgres says it.
func bytesOf(n int64) string {
	size, sign := float64(n), ""
	if n < 0 {
		size, sign = -size, "-"
	}
	for _, unit := range []string{"B", "kB", "MB", "GB"} {
		if size < 1024 {
			if unit == "B" || size >= 100 {
				return fmt.Sprintf("%s%.0f %s", sign, size, unit)
			}
			return fmt.Sprintf("%s%.1f %s", sign, size, unit)
		}
		size /= 1024
	}
	return fmt.Sprintf("%s%.1f TB", sign, size)
}
