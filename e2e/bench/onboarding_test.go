package main

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freehold/migrations"
	"freehold/migrations/pgtest"
)

func TestRepeat(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		each, all time.Duration
		span      span
		want      int
	}{
		{"as long as there is time", time.Second, 10 * time.Second, span{3, 100}, 10},
		{"enough", time.Second, 10 * time.Second, span{3, 8}, 8},
		{"at least", time.Minute, time.Second, span{3, 8}, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			took, err := repeat(t.Context(), c.all, c.span, func(context.Context) error {
				n++
				time.Sleep(c.each)
				return nil
			})
			if err != nil || n != c.want || took != float64(c.each.Milliseconds()) {
				t.Errorf("%s: %d times, %g ms, %v; want %d", c.name, n, took, err, c.want)
			}
		})
	}
	broken := errors.New("broken")
	if _, err := repeat(t.Context(), time.Second, makes, func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("a failure was counted: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := repeat(ended, time.Second, makes, func(context.Context) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("went on although the run has ended: %v", err)
	}
}

// Who takes a hundredth of the time is a hundred times as quick.
func TestSpeedupIsOfTimes(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := trial(&out)
	p := pair{&side{name: "mine", rounds: []float64{2, 4}}, &side{name: "theirs", rounds: []float64{200, 400}}}
	if err := b.emitSpeedup("speedup", atLeast(50), p); err != nil {
		t.Fatal(err)
	}
	if r := b.results[0]; r.Value != 100 || r.note != "mine 3 ms, theirs 300 ms" {
		t.Errorf("got %+v", r)
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	first, last, all := rates(100, []time.Duration{10 * time.Second, 15 * time.Second, 25 * time.Second})
	if first != 10 || last != 4 || all != 6 {
		t.Errorf("got %g, %g, %g", first, last, all)
	}
}

func TestScaled(t *testing.T) {
	t.Parallel()
	if got := scaled(16, 20_000); got != 80 {
		t.Errorf("got %g", got)
	}
}

// The default of -tenants is the whole of each case.
func TestTheWholeOfOnboarding(t *testing.T) {
	t.Setenv("FREEHOLD_BENCH_ROUNDS", "")
	opt, _, err := parse([]string{"onboarding"})
	if err != nil || inARow*opt.tenants != 1000 || rowsAlone*opt.tenants != manyTenants {
		t.Errorf("%d tenants, %v", opt.tenants, err)
	}
	if claims*opt.rounds >= maxReady {
		t.Errorf("%d rounds of %d claims", opt.rounds, claims)
	}
}

func TestFurtherMigrationsComeLast(t *testing.T) {
	t.Parallel()
	own, err := latest()
	if err != nil {
		t.Fatal(err)
	}
	set := migrations.Tenant().With(further(30))
	all, err := set.Latest()
	if err != nil || all != 90030 || all <= own {
		t.Errorf("latest is %d, the product's %d: %v", all, own, err)
	}
}

func TestKnowsTenants(t *testing.T) {
	t.Parallel()
	if err := knowsTenants([]byte(`{"tenants": {"active": 2000, "deleted": 3}}`), 2000); err != nil {
		t.Error(err)
	}
	for _, status := range []string{`{"tenants": {"active": 1999}}`, `{}`, `2000 tenants`, ``} {
		if knowsTenants([]byte(status), 2000) == nil {
			t.Errorf("%q passed for a status", status)
		}
	}
}

// Exit status 1 with a report is an answer, any other failure is one.
func TestOutput(t *testing.T) {
	t.Setenv("PGHOST", "elsewhere")
	sh := func(script string) (string, error) {
		out, err := output(t.Context(), []string{"PGPORT=1"}, "sh", "-c", script)
		return strings.TrimSpace(string(out)), err
	}
	if got, err := sh(`echo '{"ok": true}'; exit 1`); err != nil || got != `{"ok": true}` {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := sh(`echo $PGHOST,$PGPORT`); err != nil || got != ",1" {
		t.Errorf("its environment is %q, %v", got, err)
	}
	for _, script := range []string{`exit 1`, `echo {}; exit 2`, `echo oops; exit 1`} {
		if got, err := sh(script); err == nil {
			t.Errorf("%q was answered %q", script, got)
		}
	}
}

// The smallest run of a whole contest; the long form runs them all.
func TestOnboardingMeasuresItsCases(t *testing.T) { //nolint:paralleltest // it measures the heap
	want, limit := []string{"catalog_100k_mb"}, time.Minute
	var out bytes.Buffer
	b := trial(&out)
	b.opt.rounds = 1
	b.opt.only = regexp.MustCompile(`^registered$`)
	if pgtest.Long() {
		b.opt.only = regexp.MustCompile("")
		want = []string{"claim_speedup", "clone_whole", "clone_speedup", "clone_speedup_30", "bulk_decay", "catalog_100k_mb", "status_2000"}
		limit = 5 * time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := b.run(ctx, topic{"onboarding", onboardingContests}); err != nil {
		t.Fatal(err)
	}
	measured(t, &out, want)
}
