package openai

import (
	"context"
	"errors"
	"time"
)

// The causes of a context that a watch ended, and of one at a stream's end.
var (
	errSlow = errors.New("the engine was silent for too long")
	errLong = errors.New("the engine's answer took too long")
)

// watch ends a context when its time runs out. Unlike a deadline it can be moved
// and, while the client is what we wait for, stopped.
type watch struct {
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

// newWatch starts one; the caller ends it.
func newWatch(ctx context.Context, d time.Duration) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &watch{cancel, time.AfterFunc(d, func() { cancel(errSlow) })}
}

func (w *watch) set(d time.Duration) { w.timer.Reset(d) }

func (w *watch) pause() { w.timer.Stop() }

func (w *watch) end() {
	w.timer.Stop()
	w.cancel(nil)
}
