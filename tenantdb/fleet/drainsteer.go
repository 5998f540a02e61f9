package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"freehold/catalog"
)

// resting sorts those who have to leave.
type resting struct {
	under  int               // with a move that waits, runs, or is being begun
	due    []catalog.Resting // whose move nobody does
	free   []catalog.Resting // to be moved
	waits  int               // busy with something else
	stuck  []string          // whom nothing goes on with, in words
	failed []catalog.DrainFailure
}

func (r *drainRun) sort(list []catalog.Resting) (s resting) {
	for _, t := range list {
		refusal, refused := r.refused[t.ID]
		switch {
		case r.running[t.ID]:
			s.under++
		case t.Busy != "" && t.Kind == catalog.KindMove:
			s.under++
			if t.Due {
				s.due = append(s.due, t)
			}
		case t.Busy != "":
			s.waits++
		case t.State == catalog.Provisioning:
			s.stuck = append(s.stuck, t.Slug+" is provisioning, and nothing goes on with it: freehold operation list --tenant "+t.Slug)
		case t.Failed != "" && t.Now:
			s.failed = append(s.failed, catalog.DrainFailure{Tenant: t.Slug, Operation: t.Failed, Error: t.Error})
		case refused:
			s.failed = append(s.failed, catalog.DrainFailure{Tenant: t.Slug, Error: refusal.Error})
		case t.State == catalog.Moving:
			s.stuck = append(s.stuck, t.Slug+" is paused, and nothing goes on with it: freehold operation list --tenant "+t.Slug)
		default:
			s.free = append(s.free, t)
		}
	}
	return s
}

// steer begins what there is room for, and ends the drain, or halts it.
func (r *drainRun) steer(ctx, working context.Context, list []catalog.Resting) error {
	s := r.sort(list)
	if len(s.failed) > r.d.MaxFailures {
		return r.halt(ctx, fmt.Sprintf("%s failed, %d are borne: %s", counted(int64(len(s.failed)), "move"), r.d.MaxFailures, failures(s.failed)))
	}
	if r.uncleared >= maxAttempts {
		return r.halt(ctx, "its ready databases can't be dropped: a worker's log says why")
	}
	d := r.d // what is done behind the loop's back goes by the drain as it is now
	for _, t := range s.due {
		r.begin(working, t, func(ctx context.Context) error {
			r.finish(ctx, d, t.Busy)
			return nil
		})
	}
	now := time.Now()
	for _, t := range s.free {
		if s.under >= r.d.Parallel {
			break
		}
		if now.Before(r.later[t.ID]) {
			continue
		}
		s.under++
		r.begin(working, t, func(ctx context.Context) error { return r.move(ctx, d, t.ID) })
	}
	// Once at the beginning, so that none is claimed, and again when all else is done.
	over := len(s.free)+s.under+s.waits == 0
	if !r.clearing && now.After(r.clearAt) && (r.clears == 0 || over && len(s.failed)+len(s.stuck) == 0) {
		done, err := r.endOrClear(ctx, working, over && len(list) == 0)
		if done || err != nil {
			return err
		}
	}
	if over && len(s.failed)+len(s.stuck) > 0 {
		var whys []string
		if len(s.failed) > 0 {
			whys = append(whys, counted(int64(len(s.failed)), "tenant")+" could not be moved: "+failures(s.failed))
		}
		return r.halt(ctx, strings.Join(append(whys, s.stuck[:min(len(s.stuck), namedFailures)]...), "; "))
	}
	return nil
}

// endOrClear ends the drain, when that can be, or drops ready databases behind the
// loop's back.
func (r *drainRun) endOrClear(ctx, working context.Context, empty bool) (done bool, err error) {
	if empty {
		if done, err = r.cat.EndDrain(ctx, r.d); err != nil || done {
			if done {
				r.d.State, r.mine = catalog.DrainDone, false
				r.log.InfoContext(ctx, "server drained", "drain", r.d.ID, "server", r.d.Server)
			}
			return done, err
		}
	}
	r.clearing = true
	r.clears++
	server := r.d.Server
	r.work.Go(func() { r.cleared <- r.dropAllReady(working, server) })
	return false, nil
}

// sawCleared takes how the dropping of ready databases ended.
func (r *drainRun) sawCleared(ctx context.Context, err error) {
	r.clearing = false
	if err == nil {
		r.uncleared = 0
		return
	}
	r.uncleared++
	r.clearAt = time.Now().Add(clearAgain)
	r.log.WarnContext(ctx, "ready databases not dropped", "server", r.d.Server, "reason", reason(ctx, err))
}

// dropAllReady drops the ready databases of a server that takes no new tenants.
func (f *Fleet) dropAllReady(ctx context.Context, server string) error {
	list, err := f.cat.ReadyDatabases(ctx, server)
	if err != nil {
		return err
	}
	var errs []error
	for _, ready := range list {
		if err := f.dropReady(ctx, ready); err != nil {
			errs = append(errs, fmt.Errorf("ready database %s: %w", ready.ID, because(ctx, err)))
		}
	}
	return errors.Join(errs...)
}

// begin does something for a tenant behind the loop's back.
func (r *drainRun) begin(ctx context.Context, t catalog.Resting, fn func(context.Context) error) {
	r.running[t.ID] = true
	r.work.Go(func() { r.ended <- drained{t.ID, fn(ctx)} })
}

// move begins a tenant's move and does it. Its error is that of the beginning.
func (r *drainRun) move(ctx context.Context, d catalog.Drain, id catalog.TenantID) error {
	o := MoveOptions{To: d.To, Way: d.Way, Actor: d.Actor}
	for try := 1; ; try++ {
		op, err := r.BeginMove(ctx, id, o)
		if err == nil {
			r.dieAt("drain/begun")
			r.finish(ctx, d, op.ID)
			return nil
		}
		// Of several at once that chose the same last place one has it.
		if _, full := errors.AsType[*catalog.Full](err); !full || try == placeTries {
			return err
		}
	}
}

// finish does a move that was begun, or leaves it to the worker that was quicker. How
// it ended the catalog says.
func (r *drainRun) finish(ctx context.Context, d catalog.Drain, operation string) {
	if err := r.Do(ctx, operation); err != nil && !errors.Is(err, catalog.ErrConflict) && !errors.Is(err, catalog.ErrLost) {
		r.log.WarnContext(ctx, "move not done", "operation", operation, "drain", d.ID, "reason", reason(ctx, err))
	}
}

// halt has nothing new begun.
func (r *drainRun) halt(ctx context.Context, why string) error {
	if err := r.cat.HaltDrain(ctx, r.d, why); err != nil {
		return err
	}
	r.d.State, r.d.Error, r.mine = catalog.DrainHalted, why, false
	r.log.ErrorContext(ctx, "drain halted", "drain", r.d.ID, "server", r.d.Server, "reason", why)
	return nil
}

// namedFailures is how many of those are named who could not be moved.
const namedFailures = 5

func failures(list []catalog.DrainFailure) string {
	var parts []string
	for i, one := range list {
		if i == namedFailures {
			parts = append(parts, fmt.Sprintf("and %d more", len(list)-namedFailures))
			break
		}
		parts = append(parts, one.Tenant+": "+one.Error)
	}
	return strings.Join(parts, "; ")
}

// DrainPlan is what a drain would be.
type DrainPlan struct {
	Server  string                 `json:"server"`
	Moves   []MovePlan             `json:"moves"`   // by slug
	Refused []catalog.DrainFailure `json:"refused"` // who could not be moved, and why
	Waits   []string               `json:"waits"`   // slugs of tenants that are provisioning or being deleted
	Ready   int                    `json:"ready"`   // ready databases that would be dropped
	Bytes   int64                  `json:"bytes"`
}

// PlanDrain tells what a drain would be, and changes nothing: who would go where if
// each were the next to leave, since a place is looked for when it is needed. What
// keeps somebody is part of the plan. catalog.ErrNotFound.
func (f *Fleet) PlanDrain(ctx context.Context, spec catalog.DrainSpec) (DrainPlan, error) {
	server, err := f.cat.Server(ctx, spec.Server)
	if err != nil {
		return DrainPlan{}, fmt.Errorf("plan drain: %w", err)
	}
	list, err := f.tenants(ctx, func(t catalog.Tenant) bool { return t.Server == spec.Server && t.State != catalog.Deleted })
	if err != nil {
		return DrainPlan{}, fmt.Errorf("plan drain: %w", err)
	}
	plan := DrainPlan{Server: server.Name, Moves: []MovePlan{}, Refused: []catalog.DrainFailure{}, Waits: []string{}, Ready: server.ReadyNow}
	moves, errs := make([]MovePlan, len(list)), make([]error, len(list))
	var group errgroup.Group
	group.SetLimit(max(1, spec.Parallel))
	for i, t := range list {
		if t.State != catalog.Active && t.State != catalog.Suspended {
			plan.Waits = append(plan.Waits, t.Slug)
			continue
		}
		group.Go(func() error {
			moves[i], errs[i] = f.PlanMove(ctx, t.ID, MoveOptions{To: spec.To, Way: spec.Way, Actor: spec.Actor})
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return plan, err
	}
	for i, t := range list {
		switch {
		case errs[i] != nil:
			plan.Refused = append(plan.Refused, catalog.DrainFailure{Tenant: t.Slug, Error: reason(ctx, errs[i])})
		case moves[i].Tenant != "":
			plan.Moves = append(plan.Moves, moves[i])
			plan.Bytes += moves[i].Bytes
		}
	}
	slices.SortFunc(plan.Moves, func(a, b MovePlan) int { return cmp.Compare(a.Tenant, b.Tenant) })
	return plan, nil
}
