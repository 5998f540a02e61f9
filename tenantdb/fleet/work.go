package fleet

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"freehold/catalog"
)

const (
	// workPoll is how often a worker without work looks for some.
	workPoll = time.Second
	// workAtOnce is how many operations a worker does at a time.
	workAtOnce = 4
)

// Work does operations as they fall due, a few at a time, and works on rollouts,
// until ctx ends. What it
// has begun then waits for the next worker.
func (f *Fleet) Work(ctx context.Context) error {
	var group errgroup.Group
	for range workAtOnce {
		group.Go(func() error {
			f.workAlone(ctx)
			return nil
		})
	}
	for _, stream := range []catalog.Stream{catalog.StreamFreehold, catalog.StreamProduct} {
		group.Go(func() error {
			f.workRollouts(ctx, stream)
			return nil
		})
	}
	return group.Wait()
}

func (f *Fleet) workAlone(ctx context.Context) {
	known := slices.Sorted(maps.Keys(acts()))
	away := false
	for ctx.Err() == nil {
		o, found, err := f.cat.NextOperation(ctx, f.taker(), known...)
		switch {
		case err != nil && !away && ctx.Err() == nil:
			away = true // said once
			f.log.WarnContext(ctx, "worker can't look for operations", "error", err)
		case err == nil:
			away = false
		}
		if found {
			if err := f.do(ctx, o); err != nil && !errors.Is(err, catalog.ErrLost) {
				f.log.WarnContext(ctx, "operation not done", "operation", o.ID, "kind", o.Kind, "reason", reason(ctx, err))
			}
			continue
		}
		_ = pause(ctx, workPoll)
	}
}
