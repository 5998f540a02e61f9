package main

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"time"
)

func TestClosedLoad(t *testing.T) {
	t.Parallel()
	bad := errors.New("bad")
	got := closed(t.Context(), 3, 50*time.Millisecond, func(_ context.Context, caller, i int) error {
		time.Sleep(time.Millisecond)
		if caller == 0 {
			return bad
		}
		return nil
	})
	if got.done < 10 || got.failed < 5 || !errors.Is(got.err, bad) || got.took < 50*time.Millisecond {
		t.Errorf("got %+v", got)
	}
	if _, err := got.whole(); !errors.Is(err, bad) {
		t.Errorf("a load with failures passed: %v", err)
	}
}

// Latency counts from when a request was due, so a stall is felt by all who were
// due meanwhile; and who is due while too many are out has failed.
func TestOpenLoad(t *testing.T) {
	t.Parallel()
	began := time.Now()
	got, latencies := open(t.Context(), 500, 20, 200*time.Millisecond, 1, func(context.Context, int, int) error {
		if time.Since(began) < 100*time.Millisecond {
			time.Sleep(100*time.Millisecond - time.Since(began))
		}
		return nil
	})
	if got.done != int64(len(latencies)) || got.done < 20 || got.failed < 5 {
		t.Errorf("got %+v", got)
	}
	if late := slices.Max(latencies); late < 50*time.Millisecond {
		t.Errorf("the stall was felt as %s", late)
	}
	if total := got.done + got.failed; total < 60 || total > 150 {
		t.Errorf("%d requests were due in 200 ms, want about 100", total)
	}
}

func TestZipf(t *testing.T) {
	t.Parallel()
	const n = 500
	z := newZipf(n)
	counts := make([]int, n)
	for i := range zipfLength {
		counts[z.at(0, 0, i)]++
	}
	slices.Sort(counts)
	slices.Reverse(counts)
	total := 0.0
	for k := range n {
		total += weight(k)
	}
	for _, k := range []int{0, 1, 9, 99} {
		want := weight(k) / total * zipfLength
		if got := float64(counts[k]); math.Abs(got-want) > 0.1*want {
			t.Errorf("tenant %d was drawn %g times, want about %g", k, got, want)
		}
	}
	if newZipf(n).at(3, 5, 7) != z.at(3, 5, 7) {
		t.Error("another sequence at the second time")
	}
	if z.at(1, 2, zipfLength+3) != z.at(1, 2, 3) {
		t.Error("the sequence doesn't go round")
	}
}

func TestIdealMisses(t *testing.T) {
	t.Parallel()
	if got := idealMisses(500, 500); got != 0 {
		t.Errorf("with room for all: %g", got)
	}
	if got := idealMisses(500, 0); got != 1 {
		t.Errorf("with room for none: %g", got)
	}
	// 1/2^1.1 of the weight of two.
	if got, want := idealMisses(2, 1), math.Pow(2, -skew)/(1+math.Pow(2, -skew)); math.Abs(got-want) > 1e-9 {
		t.Errorf("one of two: %g, want %g", got, want)
	}
}
