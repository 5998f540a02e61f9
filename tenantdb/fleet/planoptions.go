package fleet

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"freehold/catalog"
)

// Defaults of a rollout's options.
const (
	defaultParallel         = 4
	defaultBudget           = "1%"
	defaultLockTimeout      = 3 * time.Second
	defaultStatementTimeout = 15 * time.Minute
	defaultRetries          = 5
	defaultSoak             = 30 * time.Second
	defaultGate             = 2.0
)

// Bounds of a rollout's options.
const (
	maxRetries = 100
	maxGate    = 1000.0
	maxSpan    = 7 * 24 * time.Hour
)

// withDefaults gives each field that is zero its default, and each of those that can
// be none, and is negative, none. It is done once: what it returns says none as zero.
func withDefaults(o catalog.RolloutOptions, parallel int) catalog.RolloutOptions {
	return catalog.RolloutOptions{
		Parallel:         cmp.Or(o.Parallel, parallel),
		Budget:           cmp.Or(o.Budget, defaultBudget),
		LockTimeout:      cmp.Or(o.LockTimeout, defaultLockTimeout),
		StatementTimeout: max(0, cmp.Or(o.StatementTimeout, defaultStatementTimeout)),
		Retries:          max(0, cmp.Or(o.Retries, defaultRetries)),
		Soak:             max(0, cmp.Or(o.Soak, defaultSoak)),
		GateFailures:     max(0, cmp.Or(o.GateFailures, defaultGate)),
		GateLatency:      max(0, cmp.Or(o.GateLatency, defaultGate)),
	}
}

var budgetPattern = regexp.MustCompile(`^[0-9]{1,9}$|^[0-9]{1,3}(\.[0-9]{1,4})?%$`)

func goodBudget(s string) bool {
	if !budgetPattern.MatchString(s) {
		return false
	}
	cent, isCent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(cent, 64)
	return err == nil && (!isCent || v <= 100)
}

// validate names every mistake at once, in one *catalog.Invalid.
func (s RolloutSpec) validate() error {
	var bad mistakes
	o := s.Options
	bad.when(s.Stream != catalog.StreamFreehold && s.Stream != catalog.StreamProduct,
		"stream", "want %s or %s", catalog.StreamFreehold, catalog.StreamProduct)
	bad.when(s.Stream == catalog.StreamFreehold && s.Set != nil, "dir", "Freehold's own migrations are in its binary")
	bad.when(s.Target < 0, "to", "not negative")
	bad.when(o.Parallel < 0 || o.Parallel > mostAtOnce, "parallel", "want 1 to %d", mostAtOnce)
	bad.when(o.Budget != "" && !goodBudget(o.Budget), "budget", "want a number of tenants such as 3, or a per cent such as 1%%")
	bad.when(o.LockTimeout < 0 || o.LockTimeout > time.Minute, "lock_timeout", "want up to 1m: who waits for a lock stops all behind it")
	bad.when(o.LockTimeout > 0 && o.LockTimeout < time.Millisecond, "lock_timeout", "want at least 1ms")
	bad.when(o.StatementTimeout > maxSpan, "statement_timeout", "want up to %s", maxSpan)
	bad.when(o.StatementTimeout > 0 && o.StatementTimeout < time.Millisecond, "statement_timeout", "want at least 1ms")
	bad.when(o.Retries > maxRetries, "retries", "want up to %d", maxRetries)
	bad.when(o.Soak > maxSpan, "soak", "want up to %s", maxSpan)
	bad.when(!goodGate(o.GateFailures), "gate_failures", "want 1 to %g", maxGate)
	bad.when(!goodGate(o.GateLatency), "gate_latency", "want 1 to %g", maxGate)
	bad.when(s.Deadline < 0 || s.Deadline > maxSpan, "deadline", "want up to %s", maxSpan)
	before := 0.0
	for _, w := range s.Waves {
		if !(w > before && w <= 100) { // so that NaN is none
			bad.when(true, "waves", "want rising per cents up to 100, such as 1,10,100")
			break
		}
		before = w
	}
	return bad.err()
}

// goodGate: below 1 nothing would ever pass.
func goodGate(times float64) bool { return times <= 0 || (times >= 1 && times <= maxGate) }

// mistakes gathers what is wrong with arguments.
type mistakes struct {
	first string
	texts []string
}

func (m *mistakes) when(wrong bool, field, format string, args ...any) {
	if !wrong {
		return
	}
	m.first = cmp.Or(m.first, field)
	m.texts = append(m.texts, field+": "+fmt.Sprintf(format, args...))
}

func (m *mistakes) err() error {
	if len(m.texts) == 0 {
		return nil
	}
	return &catalog.Invalid{Field: m.first, Text: strings.Join(m.texts, "; ")}
}

// field is one mistake.
func field(name, format string, args ...any) error {
	var m mistakes
	m.when(true, name, format, args...)
	return m.err()
}

// DefaultOptions are what a rollout's options are where nothing is said; Parallel is
// 0, since its default depends on the servers.
func DefaultOptions() catalog.RolloutOptions { return withDefaults(catalog.RolloutOptions{}, 0) }
