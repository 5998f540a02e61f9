package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// defaultDrain is how long a stopping node lets what is under way end: longer than
	// a usual answer, and shorter than service managers wait before they kill.
	defaultDrain = "15s"
	// maxDrain is beyond any answer.
	maxDrain = 10 * time.Minute
	// devDrain is dev's: who presses Ctrl-C waits for the end of all parts.
	devDrain = "0s"
	// drainTime is how long a node, once its drain is over, lets the rest of itself
	// end: streams with a last event, settlements in the spool, connections, workers.
	drainTime = 2 * time.Second
	// hurryAfter is the part of it after which a settlement that waits for its
	// database is spooled.
	hurryAfter = drainTime / 2
)

// drain reads FREEHOLD_DRAIN.
func (c Config) drain() (time.Duration, error) {
	d, err := time.ParseDuration(c.Drain)
	if err != nil || d < 0 || d > maxDrain {
		return 0, fmt.Errorf("FREEHOLD_DRAIN: %q is not a time from 0s to %s, such as %s", c.Drain, maxDrain, defaultDrain)
	}
	return d, nil
}

// stopDoors takes no more requests and lets those that are under way end, streams
// too, for as long as the node's drain: sooner when none is left. What is left then
// has a short while more, and is cancelled.
func (n *node) stopDoors() error {
	// The context that this node ran under has ended, so the bound is a new one.
	ctx, cancel := context.WithTimeout(context.Background(), n.drain+drainTime)
	defer cancel()
	// Then a settlement that waits for its database, and an answer that nobody waits
	// for any more, have no more time.
	hurry := time.AfterFunc(n.drain+hurryAfter, n.pipeline.Stop)
	defer hurry.Stop()
	var doors errgroup.Group
	doors.Go(func() error { return n.api.Shutdown(ctx) })
	doors.Go(func() error { return n.admin.Shutdown(ctx) })
	err := doors.Wait()
	n.pipeline.Stop()
	return err
}

// stop ends the node's parts in order. What didn't end in its time is logged: the
// process ends all the same.
func (n *node) stop(w *background, stopParts context.CancelFunc) error {
	began := time.Now()
	errs := []error{n.stopDoors()}
	n.seal()
	// A new one, as in stopDoors. Doors that took all of their time leave none.
	ctx, cancel := context.WithTimeout(context.Background(), min(drainTime, n.drain+drainTime-time.Since(began)))
	defer cancel()
	errs = append(errs, n.leave(ctx))
	if w != nil {
		errs = append(errs, w.Stop(ctx))
	}
	errs = append(errs, n.tracing.close(ctx))
	stopParts()
	if err := errors.Join(errs...); err != nil {
		n.log.Warn("stopped before everything had ended", "error", err)
	}
	return nil
}

// sealTime bounds the sealing of what was settled last: a worker does it otherwise.
const sealTime = time.Second

func (n *node) seal() {
	// As in stopDoors: the one that it ran under has ended.
	ctx, cancel := context.WithTimeout(context.Background(), sealTime)
	defer cancel()
	n.finish(ctx)
}
