package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"freehold/catalog"
	"freehold/migrations"
)

const (
	// turnEvery is how often a process that works on a rollout tells the catalog so,
	// and looks for more to do, when none of its migrations has ended.
	turnEvery = 250 * time.Millisecond
	// mostAtOnce bounds the databases that one process migrates at once, on all servers.
	mostAtOnce = 64
	// showEvery is how often progress is told.
	showEvery = 500 * time.Millisecond
	// stopTime is how long a process that stops waits for what it has begun.
	stopTime = 10 * time.Second
)

// run is one process's part in a rollout: it leads, or it helps who does.
type run struct {
	*Fleet
	id       string
	set      migrations.Set
	needs    int64           // tenants.schema_needs at the target; -1: the stream has none
	known    int64           // the stream's latest version, as this process has it
	now      catalog.Rollout // the loop's own
	stream   catalog.Stream
	options  catalog.RolloutOptions
	lead     int64 // the token under which this process leads; 0: it doesn't
	progress func(catalog.RolloutStatus)
	shown    time.Time

	running map[catalog.TenantID]catalog.TargetClaim // under which it is told
	ended   chan catalog.TargetResult
	untold  []catalog.TargetResult
	servers map[string]*serverRun // by id
	soaking soak
	checks  sync.WaitGroup
}

// RunRollout works on a rollout until it is done, ends in part, is halted or aborted,
// or ctx ends, together with whoever else does. Who leads sees to the waves; with
// takeOver this process leads at once, whoever did, and what that one had taken is
// taken anew. progress may be nil; it is called by RunRollout's own goroutine.
//
// ErrPartial when it ended halted or in part: the rollout says why. ErrOtherBinary
// when this binary's migrations aren't the rollout's. When ctx ends its error is
// returned, and the rollout goes on as soon as anybody works on it.
func (f *Fleet) RunRollout(ctx context.Context, id string, takeOver bool, progress func(catalog.RolloutStatus)) (catalog.Rollout, error) {
	r := &run{
		Fleet: f, id: id, progress: progress, needs: -1,
		running: map[catalog.TenantID]catalog.TargetClaim{},
		ended:   make(chan catalog.TargetResult, mostAtOnce),
		servers: map[string]*serverRun{},
	}
	now, err := f.cat.Rollout(ctx, id)
	if err != nil {
		return now, err
	}
	r.now, r.stream, r.options = now, now.Stream, now.Options
	if now.State != catalog.RolloutRunning {
		return now, fmt.Errorf("rollout %s is %s: %w", now.ID, now.State, catalog.ErrConflict)
	}
	if r.set, r.known, err = f.rolloutSet(ctx, now); err != nil {
		return now, err
	}
	if now.Stream == catalog.StreamFreehold {
		if r.needs, err = r.set.Needs(now.Target); err != nil {
			return now, err
		}
	}
	// What BeginRollout gave this process is its own.
	if err := r.takeLead(ctx, takeOver || now.Worker == f.worker); err != nil {
		return r.now, err
	}
	err = r.loop(ctx)
	r.stop(ctx)
	r.checks.Wait() // they ended with the loop
	if err != nil {
		return r.now, err
	}
	r.show(ctx, true)
	if r.now.State == catalog.RolloutHalted || r.now.State == catalog.RolloutPartial {
		return r.now, fmt.Errorf("rollout %.8s is %s: %w", r.now.ID, r.now.State, ErrPartial)
	}
	return r.now, nil
}

// takeLead leads when nobody does, or in whoever's place.
func (r *run) takeLead(ctx context.Context, takeOver bool) error {
	now, led, err := r.cat.LeadRollout(ctx, r.id, r.taker(), takeOver)
	if err != nil {
		return err
	}
	r.now = now
	if led {
		r.lead = now.Token
	}
	return nil
}

// loop takes turns until the rollout is over, or ctx.
func (r *run) loop(ctx context.Context) error {
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	tick := time.NewTicker(turnEvery)
	defer tick.Stop()
	waiting := false
	for {
		taken, err := r.turn(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, catalog.ErrLost):
			r.lead = 0 // another one leads: this one helps
			continue
		case errors.Is(err, catalog.ErrNotFound):
			return err
		case err != nil:
			// What has ended is told when the catalog is there again.
			if !waiting { // said once
				r.log.WarnContext(ctx, "rollout waits for the catalog", "rollout", r.id, "error", err)
			}
			waiting = true
		default:
			r.now, waiting = taken.Rollout, false
			for _, c := range taken.Claims {
				r.begin(working, c)
			}
			if r.now.State != catalog.RolloutRunning && len(r.running) == 0 && len(r.untold) == 0 {
				return nil
			}
			if err := r.steer(working, taken); err != nil && !errors.Is(err, catalog.ErrLost) && ctx.Err() == nil {
				r.log.WarnContext(ctx, "rollout not led on", "rollout", r.id, "error", err)
			}
			if r.now.State != catalog.RolloutRunning && len(r.running) == 0 {
				return nil
			}
		}
		r.show(ctx, false)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case res := <-r.ended:
			r.end(res)
		case <-tick.C:
		}
		r.drain()
	}
}

// drain takes what else has ended: it is told in the same turn.
func (r *run) drain() {
	for {
		select {
		case res := <-r.ended:
			r.end(res)
		default:
			return
		}
	}
}

// end takes what became of a target. It may have been taken anew meanwhile, by this
// process itself: what was done is what that claim was for.
func (r *run) end(res catalog.TargetResult) {
	res.TargetClaim = r.running[res.Tenant]
	delete(r.running, res.Tenant)
	r.untold = append(r.untold, res)
}

// turn tells what ended and takes more.
func (r *run) turn(ctx context.Context) (catalog.TurnTaken, error) {
	want := mostAtOnce - len(r.running)
	if r.now.State != catalog.RolloutRunning {
		want = 0
	}
	taken, err := r.cat.RolloutTurn(ctx, catalog.Turn{
		Rollout: r.id, Taker: r.taker(), Lead: r.lead, Ended: r.untold, Held: slices.Collect(maps.Keys(r.running)),
		Want: want, None: r.unreachable(),
	})
	if err != nil {
		return taken, err
	}
	if len(r.untold) > 0 {
		r.dieAt("rollout/recorded")
	}
	r.untold = r.untold[:0]
	if r.lead == 0 && taken.Rollout.State == catalog.RolloutRunning && leaderless(taken.Rollout) {
		// What was claimed is begun whatever comes of this: the next turn asks again.
		if err := r.takeLead(ctx, false); err == nil {
			taken.Rollout = r.now
		}
	}
	return taken, nil
}

// leaderless is a guess by this machine's clock: the catalog decides.
func leaderless(r catalog.Rollout) bool {
	return r.LeaseUntil == nil || time.Until(*r.LeaseUntil) < 0
}

// begin migrates a target, behind the loop's back.
func (r *run) begin(ctx context.Context, c catalog.TargetClaim) {
	_, busy := r.running[c.Tenant]
	r.running[c.Tenant] = c
	if busy {
		return // taken anew while the try before is still at it here: one is enough
	}
	at := r.server(c)
	go func() { r.ended <- r.migrateTarget(ctx, at, c) }()
}

// stop waits for what was begun, gives it back, and the lead with it.
func (r *run) stop(ctx context.Context) {
	late := time.After(stopTime)
	for len(r.running) > 0 {
		select {
		case res := <-r.ended:
			r.end(res)
			continue
		case <-late:
		}
		break
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout) // also when ctx is over
	defer cancel()
	if len(r.untold) > 0 {
		if taken, err := r.cat.RolloutTurn(ctx, catalog.Turn{Rollout: r.id, Taker: r.taker(), Ended: r.untold}); err == nil {
			r.now = taken.Rollout
		}
	}
	if r.lead > 0 && r.now.State == catalog.RolloutRunning {
		mine := r.now
		mine.Token = r.lead               // another one may lead by now
		_ = r.cat.LeaveRollout(ctx, mine) // or the lease runs out
	}
}

func (r *run) show(ctx context.Context, last bool) {
	if r.progress == nil || !last && time.Since(r.shown) < showEvery {
		return
	}
	r.shown = time.Now()
	if status, err := r.cat.RolloutStatus(ctx, r.id); err == nil {
		r.progress(status)
	}
}

// workRollouts works on a stream's rollouts as they are begun, until ctx ends.
func (f *Fleet) workRollouts(ctx context.Context, stream catalog.Stream) {
	unfit := map[string]bool{}
	for pause(ctx, workPoll) == nil {
		now, err := f.openRollout(ctx, stream)
		if err != nil || now.ID == "" {
			continue
		}
		if now.State == catalog.RolloutPartial {
			if woken, err := f.cat.WakeRollout(ctx, now.ID); err != nil || !woken {
				continue
			}
		} else if now.State != catalog.RolloutRunning {
			continue
		}
		_, err = f.RunRollout(ctx, now.ID, false, nil)
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, ErrOtherBinary):
			if !unfit[now.ID] { // said once
				f.log.WarnContext(ctx, "rollout is another release's", "rollout", now.ID, "reason", err.Error())
			}
			unfit[now.ID] = true
		default:
			f.log.WarnContext(ctx, "rollout not done", "rollout", now.ID, "reason", reason(ctx, err))
		}
	}
}

// unreachable are the servers that aren't asked for now.
func (r *run) unreachable() []string {
	none := []string{}
	for id, s := range r.servers {
		if s.resting() {
			none = append(none, id)
		}
	}
	slices.Sort(none)
	return none
}

func (r *run) server(c catalog.TargetClaim) *serverRun {
	s, known := r.servers[c.ServerID]
	if !known {
		s = &serverRun{name: c.Server, retries: r.options.Retries}
		r.servers[c.ServerID] = s
	}
	return s
}
