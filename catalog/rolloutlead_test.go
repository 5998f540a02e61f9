package catalog_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"freehold/catalog"
)

// A rollout meets those who came, forgets those who left, and ends when no active
// tenant is below its target.
func TestNewcomers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	list := b.many("pg-1", 8)
	spec := b.spec(list[:1], list[1:6]) // two aren't its targets
	spec.Options.Parallel = 10
	r := b.begin(spec)
	state := func(to catalog.State, tenants ...catalog.Tenant) {
		t.Helper()
		for _, one := range tenants {
			b.exec(b.admin(), `update tenants set state = $2 where id = $1`, one.ID, string(to))
		}
	}
	newcomers := func(want int) {
		t.Helper()
		if added, err := b.cat.Newcomers(ctx, r.ID, r.Token); err != nil || added != want {
			t.Errorf("%d newcomers, want %d: %v", added, want, err)
		}
	}
	states := func() (list []string) {
		t.Helper()
		rows, err := b.cat.RolloutTargets(ctx, r.ID, catalog.TargetFilter{})
		b.ok(err)
		for _, x := range rows {
			list = append(list, x.State)
		}
		return list
	}
	end := func(want string) {
		t.Helper()
		if ended, err := b.cat.EndRollout(ctx, r); err != nil || ended.State != want {
			t.Errorf("ended as %s, want %s: %v", ended.State, want, err)
		}
	}
	is := func(want ...string) {
		t.Helper()
		if got := states(); !slices.Equal(got, want) {
			t.Errorf("targets are %v, want %v", got, want)
		}
	}
	const done, waiting, gone, running = catalog.TargetDone, catalog.TargetWaiting, catalog.TargetGone, catalog.TargetRunning
	state(catalog.Suspended, list[7])
	state(catalog.Suspended, list[1])
	state(catalog.Deleting, list[2])
	newcomers(1)
	newcomers(0)
	is(waiting, gone, gone, waiting, waiting, waiting, waiting)
	b.ok(b.cat.WavePassed(ctx, r, 0, nil))
	held := b.claim(r, "w", 10, 5)
	end(catalog.RolloutRunning) // somebody is at it
	b.record(r, catalog.TargetDone, held...)
	// Resumed below the target, at the last moment; restored from before.
	state(catalog.Active, list[1])
	b.exec(b.admin(), `update tenants set schema_version = 3 where id = $1`, list[3].ID)
	end(catalog.RolloutRunning)
	newcomers(2)
	is(done, waiting, gone, waiting, done, done, done)
	got := b.claim(r, "w", 10, 2)
	// A dead worker's tenant was suspended meanwhile.
	state(catalog.Suspended, list[1])
	newcomers(0)
	is(done, running, gone, running, done, done, done)
	b.exec(b.admin(), `update rollout_targets set lease_until = now() where state = 'running'`)
	newcomers(0)
	is(done, gone, gone, running, done, done, done)
	for _, c := range got {
		if c.Tenant == list[3].ID {
			b.record(r, catalog.TargetDone, c)
		}
	}
	end(catalog.RolloutDone)
	end(catalog.RolloutDone) // twice is once
	if floors, err := b.cat.Floors(ctx); err != nil || floors.Freehold != 5 {
		t.Errorf("floors %v, %v", floors, err)
	}
	if _, err := b.cat.EndRollout(ctx, catalog.Rollout{ID: r.ID, Token: 9}); err == nil {
		t.Error("ended by who doesn't lead")
	}
	b.is(b.cat.HaltRollout(ctx, catalog.Rollout{ID: r.ID, Token: 9}, ""), catalog.ErrLost)
}

// The end waits for whoever is about to make a tenant active, and sees it.
func TestEndRollout_waitsForActivation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	list := b.many("pg-1", 2)
	b.exec(b.admin(), `update tenants set state = 'suspended' where id = $1`, list[1].ID)
	r := b.begin(b.spec(list[:1]))
	b.record(r, catalog.TargetDone, b.claim(r, "w", 1, 1)...)
	conn := b.admin()
	b.exec(conn, `begin`)
	b.exec(conn, `select pg_advisory_xact_lock_shared(hashtextextended('freehold activation', 0))`)
	b.exec(conn, `update tenants set state = 'active' where id = $1`, list[1].ID)
	type answer struct {
		catalog.Rollout
		err error
	}
	ended := make(chan answer, 1)
	go func() {
		got, err := b.cat.EndRollout(t.Context(), r)
		ended <- answer{got, err}
	}()
	select {
	case got := <-ended:
		t.Errorf("ended %+v before the activation", got)
	case <-time.After(100 * time.Millisecond):
		b.exec(conn, `commit`)
		if got := <-ended; got.err != nil || got.State != catalog.RolloutRunning {
			t.Errorf("ended as %s: %v", got.State, got.err)
		}
	}
}

func TestResumeRollout(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	list := b.many("pg-1", 3)
	spec := b.spec(list)
	spec.Options.Budget = "3"
	r := b.begin(spec)
	claims := b.claim(r, "w", 3, 3)
	b.record(r, catalog.TargetDone, claims[0])
	b.record(r, catalog.TargetFailed, claims[1:]...)
	b.ok(b.cat.WaveMigrated(ctx, r, 0))
	partial, err := b.cat.EndRollout(ctx, r)
	if err != nil || partial.State != catalog.RolloutPartial || partial.EndedAt == nil || partial.Worker != "" || !partial.Open() {
		t.Fatalf("ended %+v, %v", partial, err)
	}
	if _, led, err := b.cat.LeadRollout(ctx, r.ID, worker("w"), true); err != nil || led {
		t.Errorf("led what doesn't run: %v", err)
	}
	b.claim(r, "w", 3, 0)
	resumed, err := b.cat.ResumeRollout(ctx, r.ID, "ops")
	if err != nil || resumed.State != catalog.RolloutRunning || resumed.Token != 2 || resumed.EndedAt != nil {
		t.Errorf("resumed %+v, %v", resumed, err)
	}
	s, err := b.cat.RolloutStatus(ctx, r.ID)
	if err != nil || s.Failed != 0 || s.Waiting != 2 || s.Waves[0].MigratedAt != nil {
		t.Errorf("status %+v, %v", s, err)
	}
	again := b.claim(r, "w", 3, 2)
	// Resumed while it runs, as after a crash: what was taken can be taken at once.
	if _, err = b.cat.ResumeRollout(ctx, r.ID, "ops"); err != nil {
		t.Error(err)
	}
	b.claim(r, "x", 3, 2)
	aborted, err := b.cat.AbortRollout(ctx, r.ID, "ops", "it was the wrong day")
	if err != nil || aborted.State != catalog.RolloutAborted || aborted.Reason != "it was the wrong day" || aborted.EndedAt == nil || aborted.Open() {
		t.Errorf("aborted %+v, %v", aborted, err)
	}
	taken := b.turn(catalog.Turn{Rollout: r.ID, Taker: worker("w"), Ended: ended(catalog.TargetDone, again...)})
	if len(taken.Lost) != 2 || taken.Rollout.State != catalog.RolloutAborted {
		t.Errorf("afterwards %+v", taken)
	}
	_, err = b.cat.AbortRollout(ctx, r.ID, "ops", "")
	b.is(err, catalog.ErrConflict)
	_, err = b.cat.ResumeRollout(ctx, r.ID, "ops")
	b.is(err, catalog.ErrConflict)
	_, err = b.cat.ResumeRollout(ctx, catalog.NewTenantID().String(), "ops")
	b.is(err, catalog.ErrNotFound)
	if n := b.number(b.admin(), `select count(*) from operator_audit where action in ('rollout.resume', 'rollout.abort') and detail ->> 'rollout' = $1`, r.ID); n != 3 {
		t.Errorf("%d rows of audit, want 3", n)
	}
	// Done with, it makes room for the next.
	b.begin(b.spec(list))
}

// A restored catalog has its rollouts; one that was under way waits for a person.
func TestDump_rollouts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.begin(b.spec(b.many("pg-1", 2)))
	b.claim(r, "w", 1, 1)
	text, _ := b.dump()
	to := b.empty()
	_, err := to.cat.Load(t.Context(), bytes.NewReader(text), "the-dump")
	b.ok(err)
	now := to.rollout(r.ID)
	if now.State != catalog.RolloutHalted || now.Reason == "" || now.Token <= 100 || now.Worker != "" {
		t.Errorf("restored %+v", now)
	}
	_, err = to.cat.ResumeRollout(t.Context(), r.ID, "ops")
	b.ok(err)
	if got := to.claim(r, "w", 5, 2); got[0].Claim <= 100 || got[1].Claim <= 100 {
		t.Errorf("claimed %+v", got)
	}
}

// A rollout that ended in part goes on for whoever it hasn't met, and for no other.
func TestWakeRollout(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	list := b.many("pg-1", 2)
	b.exec(b.admin(), `update tenants set state = 'suspended' where id = $1`, list[1].ID)
	r := b.begin(b.spec(list[:1]))
	b.record(r, catalog.TargetFailed, b.claim(r, "w", 1, 1)...)
	_, err := b.cat.EndRollout(ctx, r)
	b.ok(err)
	for _, want := range []bool{false, true, false} {
		if woken, err := b.cat.WakeRollout(ctx, r.ID); err != nil || woken != want {
			t.Errorf("woken %v, want %v: %v", woken, want, err)
		}
		b.exec(b.admin(), `update tenants set state = 'active'`)
	}
	led, ok, err := b.cat.LeadRollout(ctx, r.ID, worker("w"), false)
	if err != nil || !ok {
		t.Fatalf("led %v, %v", ok, err)
	}
	if added, err := b.cat.Newcomers(ctx, r.ID, led.Token); err != nil || added != 1 {
		t.Errorf("%d newcomers: %v", added, err)
	}
}
