package need

import (
	"fmt"
	"strings"
	"time"

	"freehold/catalog"
)

// Rollout is a rollout as people and scripts are told of it.
type Rollout struct {
	catalog.RolloutStatus
	Verdict  string    `json:"verdict"`  // one line: whether to worry
	Failures []Failure `json:"failures"` // in place of the status's own
}

// Failure is tenants that failed for one reason.
type Failure struct {
	catalog.FailureGroup
	Advice   string   `json:"advice"`
	Commands []string `json:"commands"` // to run next, one after another
}

// OfRollout says of a rollout's status what it means at that time.
func OfRollout(s catalog.RolloutStatus, now time.Time) Rollout {
	v := Rollout{RolloutStatus: s, Verdict: verdict(s, now), Failures: []Failure{}}
	for _, g := range s.Failures {
		if g.Tenants == nil {
			g.Tenants = []string{}
		}
		f := Failure{FailureGroup: g}
		f.Advice, f.Commands = next(s.Rollout, g)
		v.Failures = append(v.Failures, f)
	}
	if v.Waves == nil {
		v.Waves = []catalog.RolloutWave{}
	}
	if v.Slowest == nil {
		v.Slowest = []catalog.TargetRow{}
	}
	return v
}

// ShortID is as much of a rollout's id as people are shown, and commands take.
func ShortID(id string) string { return id[:min(len(id), 8)] }

// Owed is how many tenants the rollout has to migrate: those that are gone aren't its.
func (r Rollout) Owed() int { return r.Total - r.Gone }

func verdict(s catalog.RolloutStatus, now time.Time) string {
	total := s.Total - s.Gone
	done := fmt.Sprintf("%d of %d done", s.Done, total)
	failed := ""
	if s.Failed > 0 {
		failed = fmt.Sprintf(", %d failed", s.Failed)
	}
	switch s.State {
	case catalog.RolloutHalted:
		return behind("HALTED", s.Reason) + "; " + done + failed
	case catalog.RolloutPartial:
		return fmt.Sprintf("done in part: %d of %d failed, %d done", s.Failed, total, s.Done)
	case catalog.RolloutDone:
		text := fmt.Sprintf("done: %s at version %d", plural(s.Done, "tenant"), s.Target)
		if s.EndedAt != nil {
			text += ", in " + short(s.EndedAt.Sub(s.CreatedAt))
		}
		return text
	case catalog.RolloutAborted:
		return behind("aborted", s.Reason) + "; " + done + failed
	}
	parts := []string{done + failed}
	if s.Wave < len(s.Waves) {
		parts = append(parts, waveOf(s, now))
	}
	switch {
	case s.Rate >= 10:
		parts = append(parts, fmt.Sprintf("%.0f/s", s.Rate))
	case s.Rate > 0:
		parts = append(parts, fmt.Sprintf("%.1f/s", s.Rate))
	}
	if s.Left != nil {
		parts = append(parts, "about "+short(*s.Left)+" left")
	}
	what := "running: "
	if Unled(s.Rollout, now) {
		what = "running, but nobody works on it: "
	}
	return what + strings.Join(parts, ", ")
}

// waveOf is the wave that it is at, and what it waits for.
func waveOf(s catalog.RolloutStatus, now time.Time) string {
	w := s.Waves[s.Wave]
	text := fmt.Sprintf("wave %d of %d (%s)", s.Wave+1, len(s.Waves), w.Name)
	if w.MigratedAt == nil || w.PassedAt != nil || s.Wave == len(s.Waves)-1 {
		return text
	}
	if left := w.MigratedAt.Add(s.Options.Soak).Sub(now); left > 0 {
		return text + " soaks for another " + short(left)
	}
	return text + " is being judged"
}

// unledGrace is how long nobody may lead before it is said: who leads says so each
// few seconds, and clocks differ.
const unledGrace = 10 * time.Second

// Unled reports whether a rollout that should go on has had nobody for a while.
func Unled(r catalog.Rollout, now time.Time) bool {
	since := r.CreatedAt
	if r.LeaseUntil != nil {
		since = *r.LeaseUntil
	}
	return r.State == catalog.RolloutRunning && now.Sub(since) > unledGrace
}

// short is a length of time for people who look at it while it passes.
func short(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1f s", max(0, d.Seconds()))
	}
	return ago(d)
}

// next is what to do about tenants that failed so.
func next(r catalog.Rollout, g catalog.FailureGroup) (advice string, commands []string) {
	again := "freehold migrate resume " + ShortID(r.ID)
	up := "freehold migrate up"
	if r.Stream == catalog.StreamProduct {
		up += " --stream product"
	}
	if !r.Open() {
		again = up
	}
	slug := "SLUG"
	if len(g.Tenants) > 0 {
		slug = g.Tenants[0]
	}
	switch g.Kind {
	case catalog.FailLocked:
		return "somebody held its tables all the time: pg_stat_activity there says who",
			[]string{"freehold tenant psql " + slug, again}
	case catalog.FailSQL:
		return "it conflicts with what is in the database: mend that", []string{"freehold tenant psql --write " + slug, again}
	case catalog.FailAway:
		return "the server took no connection", []string{"freehold doctor", again}
	case catalog.FailMissing:
		return "the server has no such database", []string{"freehold doctor", again}
	case catalog.FailAhead:
		return "a newer release, or newer files, migrated it: go on with those", []string{again}
	case catalog.FailTime:
		commands = []string{up + " --statement-timeout 2h"}
		if r.Open() {
			commands = append([]string{"freehold migrate abort " + ShortID(r.ID)}, commands...)
		}
		return "a statement took longer than " + r.Options.StatementTimeout.String() + ": give it more time", commands
	case catalog.FailInvalid:
		return "an index was left invalid: the migration makes it anew", []string{"freehold migrate drift --rebuild " + slug, again}
	default:
		return "see what it says", []string{again}
	}
}
