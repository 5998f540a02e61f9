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
	// quickAtOnce is how many of them are none that may take hours.
	quickAtOnce = 2
)

// lengthy are the kinds of operations that take as long as a tenant is large: nobody
// who is onboarded waits for them.
var lengthy = []string{catalog.KindMove, catalog.KindBackup, catalog.KindRestore, catalog.KindExport}

// Work does operations as they fall due, a few at a time, and works on rollouts and
// drains, until ctx ends. What it has begun then waits for the next worker.
func (f *Fleet) Work(ctx context.Context) error {
	var group errgroup.Group
	all := slices.Sorted(maps.Keys(acts()))
	quick := slices.DeleteFunc(slices.Clone(all), func(kind string) bool { return slices.Contains(lengthy, kind) })
	for i := range workAtOnce {
		kinds := all
		if i < quickAtOnce {
			kinds = quick
		}
		group.Go(func() error {
			f.workAlone(ctx, kinds)
			return nil
		})
	}
	for _, stream := range []catalog.Stream{catalog.StreamFreehold, catalog.StreamProduct} {
		group.Go(func() error {
			f.workRollouts(ctx, stream)
			return nil
		})
	}
	group.Go(func() error {
		f.workDrains(ctx)
		return nil
	})
	return group.Wait()
}

// workAlone does one operation of these kinds after the other.
func (f *Fleet) workAlone(ctx context.Context, kinds []string) {
	away := false
	for ctx.Err() == nil {
		o, found, err := f.cat.NextOperation(ctx, f.taker(), kinds...)
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
