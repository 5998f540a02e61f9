package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/need"
)

const (
	// rolloutBar is how wide a rollout's bar is, in characters.
	rolloutBar = 40
	// maxReasons is how many reasons of failures are told, and maxSlowest how many
	// tenants that took the longest.
	maxReasons = 10
	maxSlowest = 5
)

// drawnBar is how far a rollout is; what failed isn't filled.
func drawnBar(done, failed, total int) string {
	share := func(n int) int {
		if total <= 0 {
			return 0
		}
		return n * rolloutBar / total
	}
	full, bad := share(done), share(failed)
	if failed > 0 && bad == 0 { // one of many shows too
		bad = 1
		full = min(full, rolloutBar-1)
	}
	percent := 100
	if total > 0 {
		percent = done * 100 / total
	}
	return "[" + strings.Repeat("█", full) + strings.Repeat("✗", bad) + strings.Repeat("░", rolloutBar-full-bad) + "] " + strconv.Itoa(percent) + "%"
}

// rolloutLines is a rollout for people. The first line tells whether to worry.
func rolloutLines(v need.Rollout) []string {
	about := []string{
		"rollout " + need.ShortID(v.ID), string(v.Stream) + " to version " + strconv.FormatInt(v.Target, 10),
		"begun " + moment(v.CreatedAt) + " by " + v.Actor,
	}
	if v.State == catalog.RolloutRunning && v.Worker != "" {
		about = append(about, "led by "+v.Worker)
	}
	if v.Deadline != nil && v.Open() {
		about = append(about, "until "+moment(*v.Deadline))
	}
	list := []string{v.Verdict, drawnBar(v.Done, v.Failed, v.Owed()), strings.Join(about, "   ")}
	waves := table{head: []string{"wave", "tenants", "done", "failed", "running", "state"}}
	for _, w := range v.Waves {
		waves.add(w.Name, strconv.Itoa(w.Targets), strconv.Itoa(w.Done), strconv.Itoa(w.Failed), strconv.Itoa(w.Running), waveState(v, w))
	}
	list = append(append(list, ""), waves.lines()...)
	if len(v.Failures) > 0 {
		list = append(append(list, ""), failureLines(v)...)
	}
	if text := slowest(v.Slowest); text != "" {
		list = append(list, "", text)
	}
	return append(list, oddities(v)...)
}

// waveState says in a few words where a wave is.
func waveState(v need.Rollout, w catalog.RolloutWave) string {
	last := w.N == len(v.Waves)-1
	switch {
	case w.PassedAt != nil:
		return joined("passed", sentence(w.Health))
	case w.MigratedAt != nil && last:
		return "migrated"
	case w.MigratedAt != nil && v.State == catalog.RolloutRunning:
		return "soaks, and is judged"
	case w.MigratedAt != nil:
		return joined("migrated", sentence(w.Health))
	case w.BegunAt != nil && v.State == catalog.RolloutRunning:
		return "at work"
	case w.BegunAt != nil && v.Open():
		return "stopped"
	case v.Open():
		return "waits"
	default:
		return "left out"
	}
}

func joined(what, detail string) string {
	if detail == "" {
		return what
	}
	return what + ": " + detail
}

// sentence is what the gate said of a wave.
func sentence(health json.RawMessage) string {
	var seen struct {
		Sentence string `json:"sentence"`
	}
	if json.Unmarshal(health, &seen) != nil {
		return ""
	}
	return seen.Sentence
}

// failureLines tell each reason once: whom it concerns, and what to do next.
func failureLines(v need.Rollout) (list []string) {
	for i, f := range v.Failures {
		if i == maxReasons {
			list = append(list, fmt.Sprintf("and %s more: freehold migrate status %s --targets --state failed",
				plural(len(v.Failures)-maxReasons, "reason"), need.ShortID(v.ID)))
			break
		}
		what := plural(f.Count, "tenant") + " failed (" + f.Kind + ")"
		if f.File != "" && !strings.HasPrefix(f.Error, f.File) {
			what += " in " + f.File
		}
		names := strings.Join(f.Tenants, ", ")
		if more := f.Count - len(f.Tenants); more > 0 {
			names += fmt.Sprintf(" and %d more", more)
		}
		list = append(list, "! "+joined(what, firstLine(f.Error)), "  "+names, "  "+f.Advice)
		for _, c := range f.Commands {
			list = append(list, "  → "+c)
		}
	}
	return list
}

func slowest(rows []catalog.TargetRow) string {
	var parts []string
	for _, r := range rows[:min(len(rows), maxSlowest)] {
		if took := time.Duration(r.Millis) * time.Millisecond; took > 0 {
			parts = append(parts, fmt.Sprintf("%s %s (%s)", r.Tenant, brief(took), r.Server))
		}
	}
	if parts == nil {
		return ""
	}
	return "slowest: " + strings.Join(parts, ", ")
}

// oddities are what the comparison of the schemas found, and who was left out.
func oddities(v need.Rollout) (list []string) {
	if v.Drifted > 0 {
		list = append(list, fmt.Sprintf("! the schemas of %s are not what the migrations make → freehold migrate drift", plural(v.Drifted, "tenant")))
	}
	if v.InvalidIndexes > 0 {
		list = append(list, fmt.Sprintf("! %s invalid indexes → freehold migrate drift --rebuild", have(v.InvalidIndexes, "tenant")))
	}
	if v.Gone > 0 {
		list = append(list, fmt.Sprintf("%s been suspended or deleted meanwhile: migrated when resumed", have(v.Gone, "tenant")))
	}
	if list != nil {
		list = append([]string{""}, list...)
	}
	return list
}

func have(n int, what string) string {
	if n == 1 {
		return "1 " + what + " has"
	}
	return plural(n, what) + " have"
}

// follower shows how far a rollout is while this process works on it: at a terminal
// on the whole screen, else a line for each wave. Whoever makes one ends it, before
// anything else is written.
type follower struct {
	screen *screen // nil: none
	out    io.Writer
	drawn  bool
	told   int // waves whose end was told
}

// follower shows it on stderr.
func (e *env) follower() *follower { return &follower{screen: screenOf(e.err), out: e.err} }

// show is given each status, by one goroutine.
func (f *follower) show(s catalog.RolloutStatus) {
	if f.screen != nil {
		if !f.drawn {
			f.drawn = true
			_, _ = io.WriteString(f.out, clearScreen)
		}
		lines := append(rolloutLines(need.OfRollout(s, time.Now())), "", "Ctrl-C stops this process's part; workers, where there are some, go on")
		_ = f.screen.draw(lines) // a screen that can't be drawn harms nobody
		return
	}
	for s.Total > 0 && f.told < len(s.Waves) && s.Waves[f.told].MigratedAt != nil {
		w := s.Waves[f.told]
		f.told++
		text := fmt.Sprintf("wave %d of %d (%s): %d of %d done", f.told, len(s.Waves), w.Name, w.Done, w.Targets)
		if w.Failed > 0 {
			text += fmt.Sprintf(", %d failed", w.Failed)
		}
		if f.told < len(s.Waves) && s.Options.Soak > 0 && w.PassedAt == nil && s.State == catalog.RolloutRunning {
			text += "; soaks for " + s.Options.Soak.String()
		}
		sayTo(f.out, "%s", text)
	}
}

// end leaves the screen for what is written next.
func (f *follower) end() {
	if f.drawn {
		_, _ = io.WriteString(f.out, home+clearBelow)
		f.drawn = false
	}
}

// summary is how a rollout ended, in few lines.
func summary(v need.Rollout) []string {
	list := []string{fmt.Sprintf("%d of %s at version %d", v.Done, plural(v.Owed(), "tenant"), v.Target)}
	if v.State != catalog.RolloutDone {
		list = append(list, v.Verdict)
	}
	list = append(list, failureLines(v)...)
	if len(v.Failures) == 0 && v.State == catalog.RolloutHalted {
		list = append(list, "  → freehold migrate status "+need.ShortID(v.ID), "  → freehold migrate resume "+need.ShortID(v.ID))
	}
	return append(list, oddities(v)...)
}

// rolloutName is a rollout in a sentence.
func rolloutName(r catalog.Rollout) string {
	return fmt.Sprintf("rollout %s (%s to version %d)", need.ShortID(r.ID), cmp.Or(string(r.Stream), "-"), r.Target)
}
