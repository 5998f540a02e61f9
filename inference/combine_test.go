package inference_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freehold/inference"
	"freehold/tenantdb"
)

func TestCombiner(t *testing.T) {
	t.Parallel()
	var (
		c       inference.Combiner
		flying  atomic.Int64
		flushes atomic.Int64
		wg      sync.WaitGroup
	)
	double := func(_ context.Context, list []int) ([]int, error) {
		if flying.Add(1) != 1 {
			t.Error("two flushes of one lane at once")
		}
		defer flying.Add(-1)
		flushes.Add(1)
		time.Sleep(2 * time.Millisecond)
		if sorted := slices.Sorted(slices.Values(list)); len(slices.Compact(sorted)) != len(list) || len(list) > 64 {
			t.Errorf("together: %v", list)
		}
		out := make([]int, len(list))
		for i, n := range list {
			if n == 13 {
				return nil, fmt.Errorf("%w: thirteen", tenantdb.ErrInvalid)
			}
			out[i] = 2 * n
		}
		return out, nil
	}
	for i := range 300 {
		wg.Go(func() {
			n := i % 100
			got, err := c.Do(t.Context(), n, double)
			if n == 13 != errors.Is(err, tenantdb.ErrInvalid) || n != 13 && got != 2*n {
				t.Errorf("%d became %d, %v", n, got, err)
			}
		})
	}
	wg.Wait()
	if !c.Idle() || flushes.Load() > 270 {
		t.Errorf("idle %t after %d flushes", c.Idle(), flushes.Load())
	}
}

// Who flushes and panics takes nobody along: the others are told, the next goes on.
func TestCombiner_panic(t *testing.T) {
	t.Parallel()
	var (
		c        inference.Combiner
		wg       sync.WaitGroup
		told, ok atomic.Int64
	)
	begun := make(chan struct{})
	wg.Go(func() {
		defer func() { _ = recover() }()
		_, _ = c.Do(t.Context(), 0, func(context.Context, []int) ([]int, error) {
			close(begun)
			time.Sleep(50 * time.Millisecond) // the others wait for their turn
			panic("lost")
		})
	})
	<-begun
	for i := range 5 {
		wg.Go(func() {
			_, err := c.Do(t.Context(), i, func(_ context.Context, list []int) ([]int, error) { return list, nil })
			if err != nil {
				told.Add(1)
			} else {
				ok.Add(1)
			}
		})
	}
	wg.Wait()
	if ok.Load() != 5 || !c.Idle() {
		t.Errorf("%d went on, %d were told, idle %t", ok.Load(), told.Load(), c.Idle())
	}
}
