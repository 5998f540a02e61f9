package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// loadKey reads a key that isn't known, once for all who ask for it now. An
// unknown id is nobody's key.
func (c *Cache) loadKey(ctx context.Context, id string) (*keyRecord, error) {
	// The token may lie in a buffer that its owner uses again.
	id = strings.Clone(id)
	rec, _, err := flight(ctx, c, "key "+id, func(ctx context.Context) (*keyRecord, error) {
		for {
			mark := c.known.mark()
			rec, err := c.catalog.loadKey(ctx, id)
			if errors.Is(err, ErrNotFound) {
				c.known.setUnknown(mark, id, time.Now())
				return &nobody, nil
			}
			if err != nil || c.known.setKey(mark, id, rec) {
				return rec, err
			}
		}
	})
	return rec, err
}

// loadRoute reads a route that isn't known or is too old.
func (c *Cache) loadRoute(ctx context.Context, id TenantID, minEpoch int64) (Route, error) {
	c.routed.Store(true)
	load := func(ctx context.Context) (Route, error) {
		for {
			mark := c.known.mark()
			r, err := c.catalog.Route(ctx, id)
			if err != nil || c.known.setRoute(mark, r) {
				return r, err
			}
		}
	}
	name := "route " + id.String()
	r, shared, err := flight(ctx, c, name, load)
	if err == nil && shared && r.Epoch < minEpoch {
		// It was begun by a caller who knew less than this one.
		r, _, err = flight(ctx, c, name, load)
	}
	return r, err
}

// takeRead waits for one of the reads that may run at a time, no longer than a
// caller waits. The read gives it back.
func (c *Cache) takeRead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	select {
	case c.reading <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("too many reads at once: %w", ErrUnavailable)
	}
}

// flight runs load once for all callers of the same name. The load is detached
// from the first caller's context, since others wait for it, and is bounded by
// loadTimeout; the pools' Close waits for it. No more than maxReads run at a
// time. A caller waits waitTimeout, and not at all while the catalog is known to
// be away. Errors other than ErrNotFound are ErrUnavailable.
func flight[T any](ctx context.Context, c *Cache, name string, load func(context.Context) (T, error),
) (v T, shared bool, err error) {
	if c.down.Load() {
		return v, false, ErrUnavailable
	}
	results := c.flights.DoChan(name, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
		defer cancel()
		if err := c.takeRead(ctx); err != nil {
			return nil, err
		}
		defer func() { <-c.reading }()
		return load(ctx)
	})
	timer := time.NewTimer(waitTimeout)
	defer timer.Stop()
	select {
	case r := <-results:
		switch {
		case r.Err == nil:
			return r.Val.(T), r.Shared, nil
		case errors.Is(r.Err, ErrNotFound), errors.Is(r.Err, ErrUnavailable):
			return v, r.Shared, r.Err
		}
		return v, r.Shared, fmt.Errorf("%w: %w", ErrUnavailable, r.Err)
	case <-ctx.Done():
		return v, false, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	case <-timer.C:
		return v, false, ErrUnavailable
	}
}
