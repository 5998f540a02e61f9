package fleet

import (
	"fmt"
	"math"
	"time"

	"freehold/catalog"
)

const (
	// leastAfter is how many requests after a wave say anything of it, and leastBefore
	// how many before it tell which latency is the slowest in a hundred's.
	leastAfter, leastBefore = 20, 100
	// bearable is the share of failures that is borne beyond what there was before.
	bearable = 0.005
	// quick is the p99 that is never too slow, whatever it was before.
	quick = 25 * time.Millisecond
	// chance is how improbable it has to be that a wave which did no harm looks like
	// this one, for it to be held.
	chance = 0.01
)

// verdict is what the gate behind a wave saw, for rollout_waves.health.
type verdict struct {
	RequestsBefore int64   `json:"requests_before"`
	RequestsAfter  int64   `json:"requests_after"`
	FailuresBefore int64   `json:"failures_before"`
	FailuresAfter  int64   `json:"failures_after"`
	P99Before      float64 `json:"p99_before_ms"` // 0: nothing was served
	P99After       float64 `json:"p99_after_ms"`
	Passed         bool    `json:"passed"`
	Sentence       string  `json:"sentence"` // for people, without its full stop
}

// tally is the sum of some slots.
type tally struct {
	requests, failures int64
	buckets            [catalog.HealthBuckets]int64
}

func (t *tally) add(s catalog.HealthSlot) {
	t.requests += s.Requests
	t.failures += s.Failures
	for i, n := range s.Buckets[:min(len(s.Buckets), len(t.buckets))] {
		t.buckets[i] += n
	}
}

// judge compares how a wave's tenants were served after it with how they were
// before: slots that had ended when it began, and slots that began when it was
// migrated. It holds a wave for what chance doesn't explain, and lets pass what
// nobody can judge.
//
// Failures: their share may be o.GateFailures times that of before, or half a per
// cent more. Latency: the slowest request in a hundred may take o.GateLatency times
// as long, rounded up to a bucket's bound (at most √2 times that), and 25 ms in any
// case.
func judge(slots []catalog.HealthSlot, begun, migrated time.Time, o catalog.RolloutOptions) (verdict, bool) {
	var before, after tally
	for _, s := range slots {
		switch {
		case !s.Slot.Add(time.Duration(s.Seconds) * time.Second).After(begun):
			before.add(s)
		case !s.Slot.Before(migrated):
			after.add(s)
		}
	}
	v := verdict{
		RequestsBefore: before.requests, FailuresBefore: before.failures, P99Before: millis(before.p99()),
		RequestsAfter: after.requests, FailuresAfter: after.failures, P99After: millis(after.p99()),
		Passed: true,
	}
	failing := o.GateFailures > 0 && failsMore(before, after, o.GateFailures)
	slower := o.GateLatency > 0 && isSlower(before, after, o.GateLatency)
	switch {
	case o.GateFailures <= 0 && o.GateLatency <= 0:
		v.Sentence = "there is no gate: nothing was compared"
	case after.requests < leastAfter:
		v.Sentence = fmt.Sprintf("too little traffic to judge: %s after it, of the %d that it takes", counted(after.requests, "request"), leastAfter)
	case failing:
		v.Passed = false
		v.Sentence = fmt.Sprintf("%s after it, and %s before: more than chance explains, and more than %g times the share", after.failed(), before.failed(), o.GateFailures)
	case slower:
		v.Passed = false
		v.Sentence = fmt.Sprintf("p99 is %s after it and was %s before: more than %g times as long", shown(after.p99()), shown(before.p99()), o.GateLatency)
	default:
		v.Sentence = fmt.Sprintf("%s after it, %s before; p99 is %s and was %s", after.failed(), before.failed(), shown(after.p99()), shown(before.p99()))
		if o.GateLatency > 0 && before.served() < leastBefore {
			v.Sentence += ", by too few requests to compare"
		}
	}
	return v, v.Passed
}

// failsMore reports whether there are more failures after than a wave would have
// that did no harm.
func failsMore(before, after tally, times float64) bool {
	if after.requests < leastAfter {
		return false
	}
	// One failure of two requests isn't a share of a half.
	share := float64(before.failures) / float64(max(before.requests, leastAfter))
	return tail(after.requests, after.failures, max(share*times, share+bearable)) < chance
}

// isSlower reports whether more than one request in a hundred takes longer after
// than the slowest in a hundred may.
func isSlower(before, after tally, times float64) bool {
	if after.requests < leastAfter || before.served() < leastBefore {
		return false
	}
	limit := max(float64(quick), float64(before.p99())*times)
	var over int64
	for i := 1; i < len(after.buckets); i++ {
		// All of a bucket take longer than the bound of the one before it. Bounds are
		// whole microseconds, so that twice one may miss the next by as much.
		if float64(catalog.HealthBound(i-1)) >= limit-float64(time.Microsecond) {
			over += after.buckets[i]
		}
	}
	return tail(after.served(), over, 0.01) < chance
}

// tail is the probability that of n requests, each of which meets with something of
// this share, at least x do: 1 when x is no more than is to be expected.
func tail(n, x int64, share float64) float64 {
	if x <= 0 || share >= 1 || float64(x) <= float64(n)*share {
		return 1
	}
	// The binomial distribution's upper end, term by term from x on: beyond the mean
	// each is smaller than the one before.
	lg := func(v int64) float64 { l, _ := math.Lgamma(float64(v) + 1); return l }
	term := math.Exp(lg(n) - lg(x) - lg(n-x) + float64(x)*math.Log(share) + float64(n-x)*math.Log1p(-share))
	sum := 0.0
	for odds := share / (1 - share); x <= n && term > sum*1e-9; x++ {
		sum += term
		term *= float64(n-x) / float64(x+1) * odds
	}
	return min(1, sum)
}

// served counts the requests that have a latency: those that didn't fail.
func (t tally) served() (n int64) {
	for _, b := range t.buckets {
		n += b
	}
	return n
}

// p99 is the bound of the bucket that the slowest request in a hundred is in, 0 when
// none was served.
func (t tally) p99() time.Duration {
	left := t.served() / 100 // that may be slower
	for i := len(t.buckets) - 1; i >= 0; i-- {
		if t.buckets[i] > left {
			return catalog.HealthBound(i)
		}
		left -= t.buckets[i]
	}
	return 0
}

func (t tally) failed() string {
	text := fmt.Sprintf("%d of %s failed", t.failures, counted(t.requests, "request"))
	if t.failures > 0 {
		text += fmt.Sprintf(" (%.2g %%)", 100*float64(t.failures)/float64(t.requests))
	}
	return text
}

func counted(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// longest is what is shown of a latency that has no bound.
var longest = catalog.HealthBound(catalog.HealthBuckets - 2)

// shown is a bound of latency for people.
func shown(d time.Duration) string {
	switch {
	case d == 0:
		return "unknown"
	case d > longest:
		return "over " + longest.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// millis are whole ones and their tenths.
func millis(d time.Duration) float64 {
	return float64(min(d, longest)/(time.Millisecond/10)) / 10
}
