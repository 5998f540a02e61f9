package fleet_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/fleet"
)

// traffic is so many requests, of which some failed, and some of the others were
// slow.
type traffic struct {
	requests, failures int64
	took               time.Duration
	slow               int64
	slowTook           time.Duration
}

// slot spreads nothing: all of it is in one slot.
func (tr traffic) slot(at time.Time) catalog.HealthSlot {
	s := catalog.HealthSlot{Slot: at, Seconds: 10, Requests: tr.requests, Failures: tr.failures, Buckets: make([]int64, catalog.HealthBuckets)}
	s.Buckets[catalog.HealthBucket(tr.took)] += tr.requests - tr.failures - tr.slow
	s.Buckets[catalog.HealthBucket(tr.slowTook)] += tr.slow
	return s
}

func fast(requests, failures int64) traffic {
	return traffic{requests: requests, failures: failures, took: 10 * time.Millisecond}
}

func takes(requests int64, took time.Duration) traffic {
	return traffic{requests: requests, took: took}
}

var (
	begun    = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	migrated = begun.Add(time.Minute)
	doubled  = catalog.RolloutOptions{GateFailures: 2, GateLatency: 2}
)

func judged(before, after traffic, o catalog.RolloutOptions) (fleet.Verdict, bool) {
	return fleet.Judge([]catalog.HealthSlot{before.slot(begun.Add(-10 * time.Second)), after.slot(migrated)}, begun, migrated, o)
}

func TestJudge(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, c := range []struct {
		name          string
		before, after traffic
		o             catalog.RolloutOptions
		pass          bool
		says          string
	}{
		{"nothing at all", traffic{}, traffic{}, doubled, true, "too little traffic to judge: 0 requests after it, of the 20 that it takes"},
		{"all of a few failed", fast(1000, 0), fast(19, 19), doubled, true, "too little traffic"},
		{"one request", traffic{}, fast(1, 1), doubled, true, "1 request after"},
		{"no gate", fast(1000, 0), fast(1000, 1000), catalog.RolloutOptions{}, true, "no gate"},

		{"as before", fast(1000, 0), fast(1000, 0), doubled, true, "0 of 1000 requests failed after it, 0 of 1000 requests failed before"},
		{"nobody was there before, and it goes well", traffic{}, fast(200, 0), doubled, true, "too few requests to compare"},
		{"nobody was there before, and it fails", traffic{}, fast(20, 5), doubled, false, "5 of 20 requests failed (25 %) after it, and 0 of 0 requests failed before"},

		{"one failure of twenty is chance", fast(1000, 0), fast(20, 1), doubled, true, ""},
		{"two of twenty aren't", fast(1000, 0), fast(20, 2), doubled, false, "2 of 20 requests failed (10 %)"},
		{"two of a hundred are", fast(1000, 0), fast(100, 2), doubled, true, ""},
		{"four of a hundred aren't", fast(1000, 0), fast(100, 4), doubled, false, "more than 2 times the share"},
		{"half a per cent of many", fast(100_000, 0), fast(100_000, 500), doubled, true, ""},
		{"more than that of many", fast(100_000, 0), fast(100_000, 600), doubled, false, ""},
		{"twice what there was", fast(10_000, 500), fast(10_000, 1000), doubled, true, ""},
		{"three times what there was", fast(10_000, 500), fast(10_000, 1500), doubled, false, "before"},
		{"three times are allowed", fast(10_000, 500), fast(10_000, 1500), catalog.RolloutOptions{GateFailures: 3}, true, ""},
		{"fewer than before", fast(1000, 300), fast(1000, 10), doubled, true, ""},
		{"everything failed before, too", fast(1000, 1000), fast(1000, 1000), doubled, true, ""},
		{"one of two before is no share", fast(2, 1), fast(200, 60), doubled, false, ""},
		{"failures aren't looked at", fast(1000, 0), fast(1000, 900), catalog.RolloutOptions{GateLatency: 2}, true, ""},

		{"slower", takes(1000, 90*ms), takes(1000, 400*ms), doubled, false, "p99 is 512ms after it and was 91ms before: more than 2 times as long"},
		{"not twice as slow", takes(1000, 90*ms), takes(1000, 170*ms), doubled, true, "p99 is 181ms and was 91ms"},
		{"slower by a bound", takes(1000, 64*ms), takes(1000, 128*ms), doubled, true, ""},
		{"slower by more than a bound", takes(1000, 64*ms), takes(1000, 129*ms), doubled, false, ""},
		{"slower, and quick", takes(1000, 2*ms), takes(1000, 20*ms), doubled, true, ""},
		{"slower, and no longer quick", takes(1000, 2*ms), takes(1000, 40*ms), doubled, false, ""},
		{"a few slow ones", takes(1000, 90*ms), traffic{requests: 1000, took: 90 * ms, slow: 12, slowTook: time.Second}, doubled, true, ""},
		{"three in a hundred are slow", takes(1000, 90*ms), traffic{requests: 1000, took: 90 * ms, slow: 30, slowTook: time.Second}, doubled, false, ""},
		{"as they were before", traffic{requests: 1000, took: 90 * ms, slow: 30, slowTook: time.Second}, traffic{requests: 1000, took: 90 * ms, slow: 60, slowTook: time.Second}, doubled, true, ""},
		{"one slow of twenty is chance", takes(1000, 90*ms), traffic{requests: 20, took: 90 * ms, slow: 1, slowTook: time.Second}, doubled, true, ""},
		{"three slow of twenty aren't", takes(1000, 90*ms), traffic{requests: 20, took: 90 * ms, slow: 3, slowTook: time.Second}, doubled, false, ""},
		{"too few before", takes(99, 90*ms), takes(1000, time.Second), doubled, true, "too few requests to compare"},
		{"beyond every bound", takes(1000, 90*ms), takes(1000, time.Hour), doubled, false, "p99 is over 1m6s"},
		{"beyond every bound before", takes(1000, time.Hour), takes(1000, time.Hour), doubled, true, ""},
		{"latency isn't looked at", takes(1000, ms), takes(1000, time.Hour), catalog.RolloutOptions{GateFailures: 2}, true, ""},
		{"all failed, and quickly", takes(1000, 90*ms), traffic{requests: 1000, failures: 1000}, catalog.RolloutOptions{GateLatency: 2}, true, "p99 is unknown"},
	} {
		v, pass := judged(c.before, c.after, c.o)
		if pass != c.pass || v.Passed != c.pass || !strings.Contains(v.Sentence, c.says) || v.Sentence == "" {
			t.Errorf("%s: passed %v, says %q", c.name, pass, v.Sentence)
		}
		if v.RequestsBefore != c.before.requests || v.RequestsAfter != c.after.requests ||
			v.FailuresBefore != c.before.failures || v.FailuresAfter != c.after.failures {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}

// What isn't wholly before or behind a wave is of neither.
func TestJudge_Slots(t *testing.T) {
	t.Parallel()
	one := fast(1, 0)
	v, _ := fleet.Judge([]catalog.HealthSlot{
		one.slot(begun.Add(-time.Hour)),
		one.slot(begun.Add(-10 * time.Second)),
		one.slot(begun.Add(-9 * time.Second)),
		one.slot(begun),
		one.slot(migrated.Add(-time.Millisecond)),
		one.slot(migrated), one.slot(migrated), one.slot(migrated.Add(time.Hour)),
	}, begun, migrated, doubled)
	if v.RequestsBefore != 2 || v.RequestsAfter != 3 {
		t.Errorf("%+v", v)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{`"requests_before":2`, `"requests_after":3`, `"p99_before_ms":11.3`, `"passed":true`, `"sentence":"too`} {
		if !strings.Contains(string(text), member) {
			t.Errorf("%s lacks %s", text, member)
		}
	}
}

// Against what the binomial distribution says, summed from its other end.
func TestTail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n, x  int64
		share float64
	}{{20, 1, 0.005}, {20, 2, 0.005}, {100, 4, 0.005}, {50, 30, 0.5}, {1000, 30, 0.01}, {20, 20, 0.3}} {
		term, below := math.Pow(1-c.share, float64(c.n)), 0.0
		for k := range c.x {
			below += term
			term *= float64(c.n-k) / float64(k+1) * c.share / (1 - c.share)
		}
		if got := fleet.Tail(c.n, c.x, c.share); math.Abs(got-(1-below)) > 1e-9 {
			t.Errorf("at least %d of %d: %g, want %g", c.x, c.n, got, 1-below)
		}
	}
	for _, c := range []struct {
		n, x  int64
		share float64
		want  float64
	}{{0, 0, 0.01, 1}, {100, 0, 0.01, 1}, {100, 100, 1, 1}, {100, 50, 1.5, 1}, {1_000_000_000, 900_000_000, 0.01, 0}} {
		if got := fleet.Tail(c.n, c.x, c.share); got != c.want {
			t.Errorf("at least %d of %d: %g, want %g", c.x, c.n, got, c.want)
		}
	}
}
