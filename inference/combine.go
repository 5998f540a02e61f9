package inference

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"freehold/tenantdb"
)

// maxTogether bounds how many go in one statement.
const maxTogether = 64

// combiner has those who wait for the same thing go together: while one flush of
// a lane is under way, arrivals wait, and then all go in the next. A request alone
// waits for nobody. The zero value is ready.
type combiner[In, Out any] struct {
	mu    sync.Mutex // guards lanes and what is in them
	lanes map[string]*lane[In, Out]
}

// errFlush is what those get whose flush panicked.
var errFlush error = &lostError{errors.New("inference: a flush did not end")}

// lane holds those who wait; there is one for as long as a flush is under way.
type lane[In, Out any] struct{ waiting []*job[In, Out] }

type job[In, Out any] struct {
	in   In
	out  Out
	err  error
	done bool
	// woken is told once: the job is done, or it is its turn to flush.
	woken chan struct{}
}

// do hands in to a flush of its lane and returns its part of the result. Whoever
// waits longest flushes next, with its own flush function and for all others. Two
// for which apart is true never go together. ctx is flush's alone: the wait for a
// turn ends when the flushes before it do, each of which must be bounded.
func (c *combiner[In, Out]) do(ctx context.Context, name string, in In, apart func(a, b In) bool,
	flush func(ctx context.Context, list []In) ([]Out, error),
) (Out, error) {
	j := &job[In, Out]{in: in, woken: make(chan struct{}, 1)}
	if !c.enter(name, j) {
		<-j.woken
	}
	if !j.done {
		c.lead(ctx, name, j, apart, flush)
	}
	return j.out, j.err
}

// enter reports whether j flushes at once; else it waits.
func (c *combiner[In, Out]) enter(name string, j *job[In, Out]) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, busy := c.lanes[name]
	if !busy {
		if c.lanes == nil {
			c.lanes = map[string]*lane[In, Out]{}
		}
		c.lanes[name] = &lane[In, Out]{}
		return true
	}
	l.waiting = append(l.waiting, j)
	return false
}

// lead flushes j and those who wait, and wakes the next.
func (c *combiner[In, Out]) lead(ctx context.Context, name string, j *job[In, Out], apart func(a, b In) bool,
	flush func(context.Context, []In) ([]Out, error),
) {
	all := c.board(name, j, apart)
	list := make([]In, len(all))
	for i, x := range all {
		list[i] = x.in
		x.err = errFlush // until it is known better
	}
	defer c.leave(name, all) // also when flush panics
	outs, err := flush(ctx, list)
	if errors.Is(err, tenantdb.ErrInvalid) && len(all) > 1 {
		// One of them can't be stored: each goes alone, so that it is that one's error.
		for _, x := range all {
			x.settle(flush(ctx, []In{x.in}))
		}
		return
	}
	if err == nil && len(outs) != len(all) {
		err = fmt.Errorf("%d results for %d requests", len(outs), len(all))
	}
	for i, x := range all {
		if x.err = err; err == nil {
			x.out = outs[i]
		}
	}
}

func (j *job[In, Out]) settle(outs []Out, err error) {
	if j.err = err; err == nil && len(outs) == 1 {
		j.out = outs[0]
	}
}

// board takes j and those who can go with it.
func (c *combiner[In, Out]) board(name string, j *job[In, Out], apart func(a, b In) bool) []*job[In, Out] {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.lanes[name]
	all := []*job[In, Out]{j}
	left := l.waiting[:0]
	for _, w := range l.waiting {
		fits := len(all) < maxTogether
		for _, x := range all {
			fits = fits && !apart(x.in, w.in)
		}
		if fits {
			all = append(all, w)
		} else {
			left = append(left, w)
		}
	}
	clear(l.waiting[len(left):])
	l.waiting = left
	return all
}

// leave wakes those who went, and has the next one flush.
func (c *combiner[In, Out]) leave(name string, all []*job[In, Out]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range all {
		x.done = true
		x.woken <- struct{}{}
	}
	l := c.lanes[name]
	if len(l.waiting) == 0 {
		delete(c.lanes, name)
		return
	}
	next := l.waiting[0]
	l.waiting = l.waiting[1:]
	next.woken <- struct{}{}
}
