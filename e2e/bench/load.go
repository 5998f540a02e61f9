package main

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// op is one request, the i-th of a caller.
type op func(ctx context.Context, caller, i int) error

// tally is what a load did.
type tally struct {
	done   int64 // without error
	failed int64
	took   time.Duration
	err    error // of one that failed
}

func (t tally) rate() float64 { return float64(t.done) / t.took.Seconds() }

// whole is the rate of a load in which nothing may fail.
func (t tally) whole() (float64, error) {
	if t.failed > 0 {
		return 0, errors.Join(errors.New("requests failed"), t.err)
	}
	return t.rate(), nil
}

// closed has callers ask one request after another, for as long as d.
func closed(ctx context.Context, callers int, d time.Duration, ask op) tally {
	var (
		stop         atomic.Bool
		done, failed atomic.Int64
		first        firstError
		all          sync.WaitGroup
	)
	began := time.Now()
	timer := time.AfterFunc(d, func() { stop.Store(true) })
	defer timer.Stop()
	for caller := range callers {
		all.Go(func() {
			var ok, bad int64
			for i := 0; !stop.Load() && ctx.Err() == nil; i++ {
				if err := ask(ctx, caller, i); err != nil {
					first.keep(err)
					bad++
					continue
				}
				ok++
			}
			done.Add(ok)
			failed.Add(bad)
		})
	}
	all.Wait()
	return tally{done: done.Load(), failed: failed.Load(), took: time.Since(began), err: first.err}
}

// open asks at a steady mean rate, whatever the answers take: each request is due
// at a moment of a Poisson process, and its latency counts from there. When limit
// requests are out, one more is failed at once. It returns the latencies of those
// that succeeded, in no order.
func open(ctx context.Context, rate float64, limit int, d time.Duration, seed uint64, ask op) (tally, []time.Duration) {
	var (
		done, failed atomic.Int64
		first        firstError
		all          sync.WaitGroup
		mu           sync.Mutex // guards latencies
		latencies    []time.Duration
		out          atomic.Int64
	)
	random := rand.New(rand.NewPCG(seed, 3))
	began := time.Now()
	due := began
	for i := 0; ; i++ {
		due = due.Add(time.Duration(random.ExpFloat64() / rate * float64(time.Second)))
		if due.Sub(began) > d || ctx.Err() != nil {
			break
		}
		time.Sleep(time.Until(due))
		if out.Add(1) > int64(limit) {
			out.Add(-1)
			failed.Add(1)
			continue
		}
		at := due
		all.Go(func() {
			defer out.Add(-1)
			if err := ask(ctx, i%limit, i); err != nil {
				first.keep(err)
				failed.Add(1)
				return
			}
			took := time.Since(at)
			done.Add(1)
			mu.Lock()
			latencies = append(latencies, took)
			mu.Unlock()
		})
	}
	all.Wait()
	return tally{done: done.Load(), failed: failed.Load(), took: time.Since(began), err: first.err}, latencies
}

// p99 in milliseconds.
func p99(latencies []time.Duration) float64 {
	values := make([]float64, len(latencies))
	for i, l := range latencies {
		values[i] = float64(l) / float64(time.Millisecond)
	}
	return quantile(values, 0.99)
}

type firstError struct {
	once sync.Once
	err  error
}

func (f *firstError) keep(err error) { f.once.Do(func() { f.err = err }) }

// skew is the exponent of Zipf's law here: the k-th most popular tenant is asked
// for in proportion to 1/k^skew.
const skew = 1.1

// zipf is a sequence of tenants by Zipf's law, the same for all who ask.
type zipf struct{ tenants []uint16 }

// zipfLength is a power of two.
const zipfLength = 1 << 18

// newZipf draws from n tenants; which of them are popular is shuffled.
func newZipf(n int) *zipf {
	random := rand.New(rand.NewPCG(7, uint64(n)))
	who := random.Perm(n)
	sums := make([]float64, n)
	total := 0.0
	for k := range sums {
		total += weight(k)
		sums[k] = total
	}
	z := &zipf{tenants: make([]uint16, zipfLength)}
	for i := range z.tenants {
		at := random.Float64() * total
		low, high := 0, n-1
		for low < high {
			if mid := (low + high) / 2; sums[mid] < at {
				low = mid + 1
			} else {
				high = mid
			}
		}
		z.tenants[i] = uint16(who[low])
	}
	return z
}

// at is the tenant of a caller's i-th request in a round.
func (z *zipf) at(round, caller, i int) int {
	return int(z.tenants[(round*40009+caller*2503+i)&(zipfLength-1)])
}

// weight of the tenant with k more popular ones.
func weight(k int) float64 { return math.Pow(float64(k+1), -skew) }

// idealMisses is the part of requests that miss the best fixed choice of room
// tenants among n: the most popular ones.
func idealMisses(n, room int) float64 {
	kept, total := 0.0, 0.0
	for k := range n {
		total += weight(k)
		if k < room {
			kept += weight(k)
		}
	}
	return 1 - kept/total
}
