package app_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
)

// A tenant's only request is told of: after a failure again, and when the process
// is stopped before it came to it.
func TestReminders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int32
		told := map[catalog.TenantID]int{}
		r := app.NewReminders(func(_ context.Context, id catalog.TenantID, _ time.Duration) error {
			if tries.Add(1) <= 2 {
				return catalog.ErrUnavailable
			}
			told[id]++
			return nil
		}, nil)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); r.Tell(ctx) }()
		first, last := catalog.NewTenantID(), catalog.NewTenantID()
		r.Active(first)
		r.Active(first)
		time.Sleep(time.Minute)
		synctest.Wait()
		if told[first] != 1 {
			t.Errorf("told %d times of a request that couldn't be told of at first", told[first])
		}
		stop()
		<-ended
		r.Active(last)
		r.Tell(ctx)
		if told[last] != 1 {
			t.Error("what waited at the end is lost")
		}
	})
}

// While the catalog doesn't answer, those who ask who is alive don't wait for it one
// after the other, and nobody longer than for their own request.
func TestAlive_away(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		r := app.NewReminders(nil, func(ctx context.Context, _ time.Duration) ([]uuid.UUID, error) {
			asked.Add(1)
			<-ctx.Done()
			return nil, catalog.ErrUnavailable
		})
		began := time.Now()
		answers := make(chan error)
		for range 10 {
			go func() { _, err := r.Alive(t.Context()); answers <- err }()
		}
		hasty, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		synctest.Wait()
		if _, err := r.Alive(hasty); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 2*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		for range 10 {
			if err := <-answers; !errors.Is(err, catalog.ErrUnavailable) {
				t.Error(err)
			}
		}
		if took := time.Since(began); took > 6*time.Second || asked.Load() != 1 {
			t.Errorf("asked %d times in %s", asked.Load(), took)
		}
	})
}
