package fleet

import (
	"context"
	"fmt"
	"time"

	"freehold/catalog"
)

// soak is where the lead is in the wave that it waits for.
type soak struct {
	wave    int
	since   time.Time // by this process's clock, when the wave was found migrated
	checked chan struct{}
	look    time.Time // until then there is nothing to see
}

// soakLook is how often is looked at a wave that soaks: to count its targets is work.
const soakLook = time.Second

// checkParallel is how many databases of a server are looked at at once after a wave.
const checkParallel = 4

// steer does what is the lead's when nothing is left of the current wave: the next
// wave behind soak and gate, or the end.
func (r *run) steer(ctx context.Context, taken catalog.TurnTaken) error {
	if r.lead == 0 || r.now.State != catalog.RolloutRunning || taken.Left > 0 || len(r.running) > 0 {
		return nil
	}
	if r.soaking.wave == r.now.Wave && time.Now().Before(r.soaking.look) {
		return nil
	}
	status, err := r.cat.RolloutStatus(ctx, r.id)
	if err != nil {
		return err
	}
	if r.now.Wave >= len(status.Waves) {
		return fmt.Errorf("rollout %s: it has no wave %d", r.id, r.now.Wave)
	}
	wave := status.Waves[r.now.Wave]
	last := r.now.Wave == len(status.Waves)-1
	if last {
		// Whoever came since is owed it too: none may be left below the target.
		if added, err := r.cat.Newcomers(ctx, r.id, r.lead); err != nil || added > 0 {
			return err
		}
	}
	if wave.MigratedAt == nil {
		if err := r.cat.WaveMigrated(ctx, r.now, r.now.Wave); err != nil {
			return err
		}
		r.log.InfoContext(ctx, "wave migrated", "rollout", r.id, "wave", wave.Name, "done", wave.Done, "failed", wave.Failed)
		now := time.Now()
		wave.MigratedAt, r.soaking = &now, soak{} // of before it was resumed, if at all
	}
	if r.soaking.checked == nil || r.soaking.wave != r.now.Wave {
		r.soaking = soak{wave: r.now.Wave, since: time.Now(), checked: make(chan struct{})}
		if !last {
			wave, done := r.now.Wave, r.soaking.checked
			r.checks.Go(func() { r.check(ctx, wave, done) })
		}
	}
	if last {
		return r.finish(ctx)
	}
	return r.gate(ctx, wave)
}

// check compares the schemas of a wave's tenants with what they should be: after
// it, so that nothing waits for that, and in its soak, so that status tells.
func (r *run) check(ctx context.Context, wave int, done chan<- struct{}) {
	defer close(done)
	ids, err := r.cat.UncheckedTenants(ctx, r.id, wave)
	if err == nil {
		err = r.CheckTargets(ctx, ids, checkParallel)
	}
	if err != nil && ctx.Err() == nil {
		r.log.WarnContext(ctx, "schemas not compared", "rollout", r.id, "wave", wave, "reason", reason(ctx, err))
	}
}

// finish ends the rollout, unless there are newcomers at the last moment.
func (r *run) finish(ctx context.Context) error {
	ended, err := r.cat.EndRollout(ctx, r.now)
	if err != nil {
		return err
	}
	r.now = ended
	if r.now.State == catalog.RolloutRunning {
		return nil
	}
	r.log.InfoContext(ctx, "rollout ended", "rollout", r.id, "state", r.now.State)
	r.show(ctx, true)
	done := make(chan struct{})
	r.check(ctx, r.now.Wave, done)
	return nil
}

// gate lets the next wave begin when the last one has soaked, and its tenants are
// served as they were before.
func (r *run) gate(ctx context.Context, wave catalog.RolloutWave) error {
	o := r.options
	live, err := r.cat.LiveNodes(ctx, r.dead)
	if err != nil {
		return err
	}
	served := len(live) > 0 && wave.Done > 0 // by nobody there is nothing to wait for
	if left := o.Soak - time.Since(r.soaking.since); served && left > 0 {
		r.soaking.look = time.Now().Add(min(left, soakLook))
		return nil
	}
	select {
	case <-r.soaking.checked:
	default:
		return nil
	}
	slots, err := r.cat.WaveHealth(ctx, r.id, r.now.Wave)
	if err != nil {
		return err
	}
	begun := *wave.MigratedAt
	if wave.BegunAt != nil {
		begun = *wave.BegunAt
	}
	seen, pass := judge(slots, begun, *wave.MigratedAt, o)
	if wave.Done == 0 {
		seen, pass = verdict{Passed: true, Sentence: "none of its tenants was migrated"}, true
	}
	if !pass {
		r.log.ErrorContext(ctx, "rollout halted", "rollout", r.id, "wave", wave.Name, "reason", seen.Sentence)
		return r.cat.HaltRollout(ctx, r.now, fmt.Sprintf("after wave %s: %s", wave.Name, seen.Sentence))
	}
	if err := r.cat.WavePassed(ctx, r.now, r.now.Wave, seen); err != nil {
		return err
	}
	r.log.InfoContext(ctx, "wave passed", "rollout", r.id, "wave", wave.Name, "health", seen.Sentence)
	return nil
}
