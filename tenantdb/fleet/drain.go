package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"freehold/catalog"
	"freehold/tenantdb"
)

// What a drain does unless it is told otherwise.
const (
	DefaultDrainParallel = 4
	DefaultDrainFailures = 3
)

const (
	// drainTurn is how often who has a drain says so, and looks for more to do, when
	// nothing of it has ended.
	drainTurn = 500 * time.Millisecond
	// clearAgain is how long after a failure ready databases are dropped again.
	clearAgain = 5 * time.Second
	// placeTries is how often a place is looked for that others were quicker at.
	placeTries = 5
)

// BeginDrain has everybody leave a server, as catalog.BeginDrain does, by this process:
// RunDrain is to follow, else a worker takes it within seconds.
func (f *Fleet) BeginDrain(ctx context.Context, spec catalog.DrainSpec) (catalog.Drain, error) {
	d, err := f.cat.BeginDrain(ctx, spec, f.taker())
	if err == nil {
		f.log.InfoContext(ctx, "drain begun", "drain", d.ID, "server", d.Server, "to", d.To, "way", d.Way)
	}
	return d, err
}

// drainRun is one process's part in a drain: it has it, or watches who does.
type drainRun struct {
	*Fleet
	d        catalog.Drain
	mine     bool
	progress func(catalog.DrainStatus)
	shown    time.Time

	running map[catalog.TenantID]bool
	ended   chan drained
	work    sync.WaitGroup
	refused map[catalog.TenantID]catalog.DrainFailure // no move could be begun
	tries   map[catalog.TenantID]int                  // of beginning one, while something was away
	later   map[catalog.TenantID]time.Time            // of the next one

	cleared   chan error // of dropping ready databases; has room for the one there can be
	clearing  bool
	uncleared int // passes that failed, in a row
	clears    int // passes
	clearAt   time.Time
}

// drained is how a tenant's move ended here; err is of its beginning.
type drained struct {
	id  catalog.TenantID
	err error
}

// RunDrain has everybody leave, here, until nobody lives on the server any more, the
// drain is halted or cancelled, or ctx ends. While another process has it, it watches,
// and goes on when that one is dead. progress may be nil; it is called by RunDrain's own
// goroutine. The status is the last one.
//
// ErrPartial when it was halted or cancelled: the status says why. catalog.ErrNotFound.
// When ctx ends its error is returned, and a worker goes on.
func (f *Fleet) RunDrain(ctx context.Context, id string, progress func(catalog.DrainStatus)) (catalog.DrainStatus, error) {
	d, err := f.cat.Drain(ctx, id)
	if err != nil {
		return catalog.DrainStatus{}, err
	}
	r := f.newDrainRun(d)
	r.progress = progress
	if err := r.run(ctx, true); err != nil {
		return catalog.DrainStatus{Drain: r.d}, err
	}
	status, err := r.status(ctx)
	if err != nil {
		return status, err
	}
	if r.progress != nil {
		r.progress(status)
	}
	switch status.State {
	case catalog.DrainHalted:
		return status, fmt.Errorf("drain of server %s is halted: %s: %w", d.Server, status.Error, ErrPartial)
	case catalog.DrainCancelled:
		return status, fmt.Errorf("drain of server %s was cancelled: %w", d.Server, ErrPartial)
	}
	return status, nil
}

func (f *Fleet) newDrainRun(d catalog.Drain) *drainRun {
	return &drainRun{
		Fleet: f, d: d,
		running: map[catalog.TenantID]bool{}, ended: make(chan drained, 1),
		refused: map[catalog.TenantID]catalog.DrainFailure{}, tries: map[catalog.TenantID]int{}, later: map[catalog.TenantID]time.Time{},
		cleared: make(chan error, 1),
	}
}

// run takes turns until the drain runs no longer and what was begun here has ended.
// Unless it watches, it also ends once another process has the drain.
func (r *drainRun) run(ctx context.Context, watch bool) error {
	working, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		r.stop(ctx)
	}()
	tick := time.NewTicker(drainTurn)
	defer tick.Stop()
	waiting := false
	for {
		err := r.turn(ctx, working)
		idle := len(r.running) == 0 && !r.clearing
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, catalog.ErrNotFound): // the server was removed, and its drain with it
			return err
		case err != nil:
			if !waiting { // said once
				r.log.WarnContext(ctx, "drain waits for the catalog", "drain", r.d.ID, "error", err)
			}
			waiting = true
		case idle && (r.d.State != catalog.DrainRunning || !watch && !r.mine):
			return nil
		default:
			waiting = false
		}
		r.show(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case res := <-r.ended:
			r.end(ctx, res)
		case err := <-r.cleared:
			r.sawCleared(ctx, err)
		case <-tick.C:
		}
	}
}

// stop waits for what was begun, and gives the drain back. ctx may be over; the moves
// are, or end with it.
func (r *drainRun) stop(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		r.work.Wait()
		close(done)
	}()
	for waits := true; waits; {
		select {
		case <-r.ended:
		case <-done:
			waits = false
		}
	}
	if !r.mine || r.d.State != catalog.DrainRunning {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	_ = r.cat.LeaveDrain(ctx, r.d) // or its lease runs out
}

// turn keeps the drain, or takes it, and does what is next.
func (r *drainRun) turn(ctx, working context.Context) error {
	if r.mine {
		err := r.cat.KeepDrain(ctx, r.d, r.taker().Lease)
		if err != nil && !errors.Is(err, catalog.ErrLost) {
			return err
		}
		r.mine = err == nil
	}
	if !r.mine {
		now, taken, err := r.cat.TakeDrain(ctx, r.d.ID, r.taker())
		if err != nil {
			return err
		}
		if !now.BegunAt.Equal(r.d.BegunAt) { // a person had it go on: what was refused is tried again
			clear(r.refused)
			clear(r.tries)
			clear(r.later)
		}
		r.d, r.mine = now, taken
	}
	if !r.mine {
		return nil
	}
	r.dieAt("drain/turn")
	list, err := r.cat.Resting(ctx, r.d.ID)
	if err != nil {
		return err
	}
	err = r.steer(ctx, working, list)
	if errors.Is(err, catalog.ErrLost) {
		r.mine, err = false, nil
	}
	return err
}

// end takes what became of a tenant here. How its move ended is in the catalog.
func (r *drainRun) end(ctx context.Context, res drained) {
	delete(r.running, res.id)
	switch err := res.err; {
	case err == nil, ctx.Err() != nil:
		delete(r.tries, res.id)
	case isBusy(err): // with something that is waited for
	case (errors.Is(err, tenantdb.ErrUnavailable) || errors.Is(err, catalog.ErrUnavailable)) && r.tries[res.id] < maxAttempts:
		r.tries[res.id]++
		r.later[res.id] = time.Now().Add(backoff(r.tries[res.id]))
	default:
		r.refused[res.id] = catalog.DrainFailure{Error: reason(ctx, err)}
	}
}

func isBusy(err error) bool {
	_, busy := errors.AsType[*catalog.Busy](err)
	return busy
}

// status is how far the drain is, with those of whom no move could be begun here.
func (r *drainRun) status(ctx context.Context) (catalog.DrainStatus, error) {
	s, err := r.cat.DrainStatus(ctx, r.d.ID)
	if err != nil {
		return s, err
	}
	list, err := r.cat.Resting(ctx, r.d.ID)
	if err != nil || !s.Open() {
		return s, err
	}
	for _, t := range list {
		if why, refused := r.refused[t.ID]; refused {
			s.Failed = append(s.Failed, catalog.DrainFailure{Tenant: t.Slug, Error: why.Error})
		}
	}
	return s, nil
}

func (r *drainRun) show(ctx context.Context) {
	if r.progress == nil || time.Since(r.shown) < showEvery {
		return
	}
	r.shown = time.Now()
	if s, err := r.status(ctx); err == nil {
		r.progress(s)
	}
}

// workDrains does drains that nobody has, until ctx ends.
func (f *Fleet) workDrains(ctx context.Context) {
	var runs sync.WaitGroup
	defer runs.Wait()
	for pause(ctx, workPoll) == nil {
		next, found, err := f.cat.NextDrain(ctx)
		if err != nil || !found {
			continue
		}
		d, taken, err := f.cat.TakeDrain(ctx, next.ID, f.taker())
		if err != nil || !taken {
			continue // or its lease runs out
		}
		runs.Go(func() {
			r := f.newDrainRun(d)
			r.mine = true
			if err := r.run(ctx, false); err != nil && ctx.Err() == nil {
				f.log.WarnContext(ctx, "drain not done", "drain", d.ID, "server", d.Server, "reason", reason(ctx, err))
			}
		})
	}
}
