package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func trial(out io.Writer) *bench {
	return newBench("trial", options{rounds: 5, slot: 10 * time.Millisecond, tenants: minTenants, only: regexp.MustCompile("")},
		out, io.Discard)
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	values := []float64{5, 1, 4, 2, 3}
	for q, want := range map[float64]float64{0: 1, 0.1: 1.4, 0.5: 3, 0.9: 4.6, 1: 5} {
		if got := quantile(values, q); math.Abs(got-want) > 1e-9 {
			t.Errorf("quantile %g is %g, want %g", q, got, want)
		}
	}
	if values[0] != 5 {
		t.Error("the rounds' order was changed")
	}
	if got := quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("of nothing: %g", got)
	}
}

func TestRatiosAreByRound(t *testing.T) {
	t.Parallel()
	// The machine was four times as quick in the second round.
	if got := ratios([]float64{10, 40}, []float64{20, 80}); !slices.Equal(got, []float64{0.5, 0.5}) {
		t.Errorf("got %v", got)
	}
}

func TestResultIsOneLine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := trial(&out)
	if err := errors.Join(
		b.emit("ratio", "ratio", atLeast(0.95), []float64{1, 0.9, 0.98765432}, "a note"),
		b.emitWorst("worst", "requests", atMost(0), []float64{0, 7, 0}, ""),
		b.emit("free", "ns", nil, []float64{12}, ""),
	); err != nil {
		t.Fatal(err)
	}
	want := `{"bench":"trial","case":"ratio","value":0.9877,"p10":0.9175,"p90":0.9975,"unit":"ratio","goal":">= 0.95","rounds":3}
{"bench":"trial","case":"worst","value":7,"p10":0,"p90":5.6,"unit":"requests","goal":"<= 0","rounds":3}
{"bench":"trial","case":"free","value":12,"p10":12,"p90":12,"unit":"ns","goal":null,"rounds":1}
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	if err := b.emit("nothing", "ratio", nil, nil, ""); err == nil {
		t.Error("a case without a figure passed for measured")
	}
}

func TestGoals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		goal  *goal
		value float64
		met   bool
	}{{atLeast(2), 2, true}, {atLeast(2), 1.99, false}, {atMost(0), 0, true}, {atMost(0), 1, false}} {
		if c.goal.met(c.value) != c.met {
			t.Errorf("%g is %s: want %t", c.value, c.goal, c.met)
		}
	}
}

// Each round has every side once, and not always in one order.
func TestPlayShuffles(t *testing.T) {
	t.Parallel()
	b := trial(io.Discard)
	b.opt.rounds = 20
	var order []string
	var list []*side
	for _, name := range []string{"a", "b", "c"} {
		list = append(list, &side{name: name, turn: func(_ context.Context, round int, _ time.Duration) (float64, error) {
			order = append(order, name)
			return float64(round), nil
		}})
	}
	if err := b.play(t.Context(), "x", list...); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for round := range slices.Chunk(order, len(list)) {
		seen[strings.Join(round, "")] = true
		if sorted := slices.Sorted(slices.Values(round)); !slices.Equal(sorted, []string{"a", "b", "c"}) {
			t.Errorf("a round of %v", round)
		}
	}
	if len(seen) < 4 {
		t.Errorf("%d orders in 20 rounds", len(seen))
	}
	for _, s := range list {
		if len(s.rounds) != 20 || s.rounds[19] != 19 {
			t.Errorf("side %s has rounds %v", s.name, s.rounds)
		}
	}
}

// A contest that fails costs its own cases and no other's.
func TestRunNamesWhatWasNotMeasured(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := trial(&out)
	closed := false
	err := b.run(t.Context(), topic{"trial", func(context.Context, *bench) ([]contest, func(), error) {
		return []contest{
			{"broken", []string{"one", "two"}, func(_ context.Context, b *bench) error {
				return errors.Join(b.emit("one", "ms", nil, []float64{1}, ""), errors.New("no peer"))
			}},
			{"sound", []string{"three"}, func(_ context.Context, b *bench) error {
				return b.emit("three", "ms", atMost(1), []float64{3}, "")
			}},
		}, func() { closed = true }, nil
	}})
	if !errors.Is(err, errUnmeasured) || strings.Contains(err.Error(), "one") || !strings.Contains(err.Error(), "two") {
		t.Errorf("got %v, want the second case alone", err)
	}
	if n := strings.Count(out.String(), "\n"); n != 2 || !closed {
		t.Errorf("%d cases printed, closed %t", n, closed)
	}
}

func TestPss(t *testing.T) {
	t.Parallel()
	got, err := pss("55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss:  9000 kB\nPss:        1234 kB\nPss_Anon: 5 kB\n")
	if err != nil || got != 1234 {
		t.Errorf("got %d, %v", got, err)
	}
	if _, err := pss("Rss: 1 kB\n"); err == nil {
		t.Error("no error without the line")
	}
}

func TestMallocs(t *testing.T) { // not parallel: it counts those of all
	var kept []*int
	if got := mallocs(1000, func(i int) { kept = append(kept[:0], new(i)) }); got != 1 {
		t.Errorf("got %g, want 1", got)
	}
	if got := mallocs(1000, func(int) {}); got != 0 {
		t.Errorf("got %g, want 0", got)
	}
}

func TestParse(t *testing.T) {
	t.Setenv("FREEHOLD_BENCH_ROUNDS", "3")
	t.Setenv("FREEHOLD_BENCH_SECONDS", "0.5")
	opt, names, err := parse([]string{"-only", "^thrash$", "router"})
	if err != nil || opt.rounds != 3 || opt.slot != 500*time.Millisecond || opt.tenants != 500 || !names["router"] ||
		opt.only.MatchString("noisy") {
		t.Errorf("got %+v, %v, %v", opt, names, err)
	}
	for _, args := range [][]string{{"nonsense"}, {"-rounds", "0"}, {"-tenants", "1"}, {"-only", "("}} {
		if _, _, err := parse(args); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
	t.Setenv("FREEHOLD_BENCH_SECONDS", "long")
	if _, _, err := parse(nil); err == nil {
		t.Error("seconds that are no number were taken")
	}
}

// The smallest whole run: real Postgres, each case of the contests measured.
func TestContestsMeasureTheirCases(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := trial(&out)
	b.opt.rounds, b.opt.slot = 1, 50*time.Millisecond
	// The contests that run on nothing but Postgres, and quickly.
	b.opt.only = regexp.MustCompile(`^(budget_hot|lookup|stampede)$`)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := b.run(ctx, topic{"router", routerContests}); err != nil {
		t.Fatal(err)
	}
	to := json.NewDecoder(&out)
	var got []string
	for to.More() {
		var r result
		if err := to.Decode(&r); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(r.Case, " ", r.Rounds))
	}
	want := []string{"budget_hot 1", "lookup_allocs 1", "lookup_ns 1", "pool_acquire_ns 1", "hashicorp_get_ns 1",
		"stampede_pools 1", "stampede_dials 1", "stampede_catalog_reads 1"}
	if !slices.Equal(got, want) {
		t.Errorf("measured %q, want %q", got, want)
	}
}

// measured holds the cases that a run printed against those that it should have.
func measured(t *testing.T, out io.Reader, want []string) {
	t.Helper()
	to := json.NewDecoder(out)
	var got []string
	for to.More() {
		var r result
		if err := to.Decode(&r); err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Case)
	}
	if !slices.Equal(got, want) {
		t.Errorf("measured %q, want %q", got, want)
	}
}
