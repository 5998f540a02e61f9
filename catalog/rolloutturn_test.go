package catalog_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/migrations/pgtest"
)

// Workers that race never have one target at once, and never more on a server than
// the rollout's parallel; each target is done once.
func TestRolloutTurn_race(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := 25
	if pgtest.Long() {
		n = 1000
	}
	list := append(b.many("pg-1", n), b.many("pg-2", n)...)
	spec := b.spec(list)
	spec.Options.Parallel = 3
	r := b.begin(spec)
	clock := b.number(b.admin(), `select seq from catalog_clock`)

	var mu sync.Mutex // guards what follows
	holders := map[catalog.TenantID]string{}
	onServer := map[string]int{}
	tries := map[catalog.TenantID]int{}
	recorded := 0
	var all sync.WaitGroup
	for i := range 4 {
		name, cat := fmt.Sprint("w", i), b.cat
		if i%2 == 1 {
			cat = b.open()
		}
		all.Go(func() {
			var held []catalog.TargetClaim
			for end := time.Now().Add(time.Minute); time.Now().Before(end); {
				mu.Lock() // what is told is let go of before anybody can claim it
				ended := ended(catalog.TargetDone, held[:rand.IntN(len(held)+1)]...)
				held = held[len(ended):]
				for _, e := range ended {
					delete(holders, e.Tenant)
					onServer[e.Server]--
				}
				mu.Unlock()
				taken, err := cat.RolloutTurn(t.Context(), catalog.Turn{
					Rollout: r.ID, Taker: worker(name), Ended: ended, Want: 1 + rand.IntN(6),
				})
				if err != nil || len(taken.Lost) > 0 {
					t.Errorf("%s: lost %v, %v", name, taken.Lost, err)
					return
				}
				mu.Lock()
				if len(ended) > 0 {
					recorded++
				}
				for _, c := range taken.Claims {
					if other := holders[c.Tenant]; other != "" {
						t.Errorf("%s has %s, which %s has", name, c.Slug, other)
					}
					holders[c.Tenant] = name
					tries[c.Tenant]++
					if onServer[c.Server]++; onServer[c.Server] > 3 {
						t.Errorf("%d at once on %s", onServer[c.Server], c.Server)
					}
				}
				mu.Unlock()
				held = append(held, taken.Claims...)
				if taken.Left == 0 {
					return
				}
			}
			t.Errorf("%s isn't done", name)
		})
	}
	all.Wait()
	for id, n := range tries {
		if n != 1 {
			t.Errorf("%s was tried %d times", id, n)
		}
	}
	if behind := b.number(b.admin(), `select count(*) from tenants where schema_version <> 5 or schema_needs <> 5 or epoch = 0`); behind > 0 || len(tries) != 2*n {
		t.Errorf("%d of %d were tried, %d tenants' rows don't say so", len(tries), 2*n, behind)
	}
	if ticks := b.number(b.admin(), `select seq from catalog_clock`) - clock; ticks != int64(recorded) {
		t.Errorf("%d numbers were taken for %d turns that recorded", ticks, recorded)
	}
	if ended, err := b.cat.EndRollout(t.Context(), r); err != nil || ended.State != catalog.RolloutDone {
		t.Errorf("ended %+v, %v", ended, err)
	}
}

func TestRolloutTurn_deadWorker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	r := b.begin(b.spec(b.many("pg-1", 4)))
	short := catalog.Taker{Worker: "dead", Lease: time.Second}
	turn := catalog.Turn{Rollout: r.ID, Taker: short, Want: 2}
	held := b.turn(turn).Claims
	claimed := time.Now()
	if len(held) != 2 || held[0].Attempts != 1 || held[0].From != 4 || held[0].Database == "" || held[0].Server != "pg-1" {
		t.Fatalf("claimed %+v", held)
	}
	b.claim(r, "next", 4, 2)
	time.Sleep(time.Until(claimed.Add(short.Lease + 10*time.Millisecond)))
	again := b.claim(r, "next", 4, 2)
	if again[0].Tenant != held[0].Tenant || again[0].Claim != 2 || again[0].Attempts != 2 {
		t.Errorf("claimed anew %+v, was %+v", again[0], held[0])
	}
	// The dead one wakes up: it has nothing any more, and records nothing.
	taken := b.turn(catalog.Turn{Rollout: r.ID, Taker: short, Ended: ended(catalog.TargetDone, held...)})
	if len(taken.Lost) != 2 || b.number(b.admin(), `select count(*) from tenants where schema_version = 5`) != 0 {
		t.Errorf("a dead worker's record: %+v", taken)
	}
	// Told twice, since no answer came, is told once.
	for range 2 {
		b.record(r, catalog.TargetDone, again[0])
	}

	// Who is alive keeps what it has when another one leads; a take-over leaves it nothing.
	kept := again[1:]
	b.exec(b.admin(), `update rollouts set lease_until = now()`)
	led, ok, err := b.cat.LeadRollout(ctx, r.ID, worker("second"), false)
	if err != nil || !ok || led.Token != 2 || led.Worker != "second" {
		t.Fatalf("led %+v, %v, %v", led, ok, err)
	}
	b.claim(r, "greedy", 4, 0)
	if _, ok, err = b.cat.LeadRollout(ctx, r.ID, worker("third"), false); err != nil || ok {
		t.Errorf("led although another one does: %v", err)
	}
	if led, ok, err = b.cat.LeadRollout(ctx, r.ID, worker("third"), true); err != nil || !ok || led.Token != 3 {
		t.Errorf("took over %+v, %v, %v", led, ok, err)
	}
	taken, err = b.cat.RolloutTurn(ctx, catalog.Turn{Rollout: r.ID, Taker: worker("second"), Lead: 2, Want: 4})
	b.is(err, catalog.ErrLost)
	if len(taken.Claims) > 0 {
		t.Errorf("who was taken over from claimed %v", taken.Claims)
	}
	b.is(b.cat.WaveMigrated(ctx, catalog.Rollout{ID: r.ID, Token: 2}, 0), catalog.ErrLost)
	anew := b.turn(catalog.Turn{Rollout: r.ID, Taker: worker("third"), Lead: 3, Want: 4}).Claims
	if len(anew) != 3 {
		t.Fatalf("claimed %d after the take-over", len(anew))
	}
	if taken := b.turn(catalog.Turn{Rollout: r.ID, Taker: worker("next"), Ended: ended(catalog.TargetDone, kept...)}); len(taken.Lost) != 1 {
		t.Errorf("recorded after the take-over: %+v", taken)
	}
	_, err = b.cat.RolloutTurn(ctx, catalog.Turn{Rollout: catalog.NewTenantID().String(), Taker: short})
	b.is(err, catalog.ErrNotFound)
}

// A lease is kept of what the worker says it holds, and of nothing else.
func TestRolloutTurn_keepsLeases(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.begin(b.spec(b.many("pg-1", 2)))
	turn := catalog.Turn{Rollout: r.ID, Taker: catalog.Taker{Worker: "w", Lease: 300 * time.Millisecond}, Lead: 1, Want: 2}
	held := b.turn(turn).Claims
	turn.Want, turn.Held = 0, []catalog.TenantID{held[0].Tenant}
	lease := func() time.Time { return *b.rollout(r.ID).LeaseUntil }
	b.exec(b.admin(), `update rollouts set lease_until = now()`)
	before := lease()
	for end := time.Now().Add(350 * time.Millisecond); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		b.turn(turn)
	}
	if got := b.claim(r, "next", 2, 1); got[0].Tenant != held[1].Tenant {
		t.Errorf("%s was claimed, which is held", got[0].Slug)
	}
	if now := lease(); now.Sub(before) < 300*time.Millisecond {
		t.Errorf("the lead's lease grew by %s", now.Sub(before))
	}
}

func TestRolloutTurn_waves(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	one, two := b.many("pg-1", 4), b.many("pg-2", 2)
	r := b.begin(b.spec(one[:1], append(one[1:], two...)))
	first := b.claim(r, "w", 10, 1)
	taken := b.record(r, catalog.TargetDone, first...)
	if taken.Left != 0 || taken.NextIn != 0 {
		t.Errorf("left %d in %s", taken.Left, taken.NextIn)
	}
	b.ok(b.cat.WaveMigrated(ctx, r, 0))
	for range 2 { // twice is once
		b.ok(b.cat.WavePassed(ctx, r, 0, map[string]any{"passed": true}))
	}
	s, err := b.cat.RolloutStatus(ctx, r.ID)
	b.ok(err)
	if w := s.Waves; s.Wave != 1 || w[0].PassedAt == nil || w[0].MigratedAt == nil || w[1].BegunAt == nil || string(w[0].Health) != `{"passed": true}` {
		t.Errorf("waves %+v", s.Waves)
	}
	// A server that can't be reached is left out; a tenant that isn't active waits.
	b.exec(b.admin(), `update tenants set state = 'moving' where slug = $1`, one[1].Slug)
	got := b.turn(catalog.Turn{Rollout: r.ID, Taker: worker("w"), Want: 10, None: []string{serverID(b, "pg-2")}}).Claims
	if len(got) != 2 || got[0].Server != "pg-1" || got[1].Server != "pg-1" {
		t.Errorf("claimed %+v", got)
	}
	// Another try is due in its time, and what was given back unharmed was none.
	again := ended(catalog.TargetWaiting, got...)
	again[0].Kind, again[0].After = catalog.FailLocked, time.Hour
	again[1].Kind = ""
	b.turn(catalog.Turn{Rollout: r.ID, Taker: worker("w"), Ended: again})
	got = b.turn(catalog.Turn{Rollout: r.ID, Taker: worker("w"), Want: 10}).Claims
	if len(got) != 3 {
		t.Fatalf("claimed %+v", got)
	}
	for _, c := range got {
		if c.Tenant == again[0].Tenant || c.Attempts != 1 {
			t.Errorf("claimed %+v", c)
		}
	}
	b.exec(b.admin(), `update tenants set state = 'active' where slug = $1`, one[1].Slug)
	b.exec(b.admin(), `update rollout_targets set next_at = now() where next_at < now() + interval '2 seconds'`)
	last := b.claim(r, "w", 10, 1)
	taken = b.record(r, catalog.TargetDone, append(got, last...)...)
	if taken.Left != 1 || taken.NextIn < 59*time.Minute || taken.NextIn > time.Hour {
		t.Errorf("left %d in %s", taken.Left, taken.NextIn)
	}
	b.ok(b.cat.WavePassed(ctx, r, 1, nil))
	if now := b.rollout(r.ID); now.Wave != 1 {
		t.Errorf("behind the last wave is %d", now.Wave)
	}
}

func serverID(b *bench, server string) string {
	s, err := b.cat.Server(b.Context(), server)
	b.ok(err)
	return s.ID
}

// Those in front that can't be migrated now are in nobody's way.
func TestRolloutTurn_leftTheirPlace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	list := b.many("pg-1", 6)
	b.server("pg-2")
	spec := b.spec(list)
	spec.Options.Parallel = 2
	r := b.begin(spec)
	b.exec(b.admin(), `update tenants set state = 'suspended' where id in (select id from tenants order by id limit 2)`)
	b.exec(b.admin(), `update tenants set state = 'moving' where id in (select id from tenants order by id offset 2 limit 1)`)
	b.exec(b.admin(), `update tenants set server_id = $1 where id in (select id from tenants order by id offset 3 limit 1)`, serverID(b, "pg-2"))
	b.claim(r, "w", 10, 0)
	b.claim(r, "w", 10, 0)
	on := map[string]int{}
	for _, c := range b.claim(r, "w", 10, 3) {
		on[c.Server]++
	}
	if on["pg-1"] != 2 || on["pg-2"] != 1 {
		t.Errorf("claimed %v", on)
	}
	if s := b.targets(r, catalog.TargetGone); len(s) != 2 {
		t.Errorf("gone are %+v", s)
	}
	if s := b.targets(r, catalog.TargetWaiting); len(s) != 1 || s[0].Attempts != 0 {
		t.Errorf("waiting are %+v", s)
	}
}

func (b *bench) targets(r catalog.Rollout, state string) []catalog.TargetRow {
	b.Helper()
	list, err := b.cat.RolloutTargets(b.Context(), r.ID, catalog.TargetFilter{State: state})
	b.ok(err)
	return list
}

func TestRolloutTurn_budget(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	list := b.many("pg-1", 99)
	for budget, borne := range map[string]int{"0": 0, "3": 3, "2%": 1, "2.5%": 2, "100%": 99} {
		spec := b.spec(list)
		spec.Options.Budget, spec.Options.Parallel = budget, 99
		r := b.begin(spec)
		claims := b.claim(r, "w", 99, 99)
		if taken := b.record(r, catalog.TargetFailed, claims[:borne]...); taken.Rollout.State != catalog.RolloutRunning {
			t.Errorf("budget %s: %s after %d failures: %s", budget, taken.Rollout.State, borne, taken.Rollout.Reason)
		}
		if borne == 99 {
			_, err := b.cat.AbortRollout(ctx, r.ID, "ops", "")
			b.ok(err)
			continue
		}
		taken := b.record(r, catalog.TargetFailed, claims[borne])
		want := fmt.Sprintf("%d of 99 tenants failed, and the budget of %s bears %d", borne+1, budget, borne)
		if taken.Rollout.State != catalog.RolloutHalted || taken.Rollout.Reason != want {
			t.Errorf("budget %s: %s: %q, want %q", budget, taken.Rollout.State, taken.Rollout.Reason, want)
		}
		// What is under way is recorded; nothing new is begun.
		b.record(r, catalog.TargetWaiting, claims[borne+1])
		b.record(r, catalog.TargetDone, claims[borne+2:]...)
		b.claim(r, "w", 5, 0)
		resumed, err := b.cat.ResumeRollout(ctx, r.ID, "ops")
		if err != nil || resumed.State != catalog.RolloutRunning || resumed.Reason != "" || resumed.Worker != "" || resumed.Token != 2 {
			t.Errorf("resumed %+v, %v", resumed, err)
		}
		if again := b.claim(r, "w", 99, borne+2); again[0].Attempts != 1 {
			t.Errorf("the failed one is at attempt %d", again[0].Attempts)
		}
		_, err = b.cat.AbortRollout(ctx, r.ID, "ops", "")
		b.ok(err)
	}
}

func TestRolloutTurn_deadline(t *testing.T) {
	t.Parallel()
	b := setup(t)
	spec := b.spec(b.many("pg-1", 1))
	spec.Deadline = time.Now().Add(time.Hour)
	r := b.begin(spec)
	b.exec(b.admin(), `update rollouts set deadline = now()`)
	taken := b.turn(catalog.Turn{Rollout: r.ID, Taker: worker("w"), Want: 1})
	if taken.Rollout.State != catalog.RolloutHalted || !strings.Contains(taken.Rollout.Reason, "deadline") || len(taken.Claims) > 0 {
		t.Errorf("after the deadline: %+v", taken)
	}
	if now, err := b.cat.ResumeRollout(t.Context(), r.ID, "ops"); err != nil || now.Deadline != nil {
		t.Errorf("resumed %+v, %v", now, err)
	}
	b.claim(r, "w", 1, 1)
}

// A turn costs about the same whatever the number of targets.
func TestRolloutTurn_ofMany(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := 2000
	if pgtest.Long() {
		n = 20_000
	}
	list := b.many("pg-1", n)
	spec := b.spec(list[:n/100], list[n/100:])
	spec.Options.Parallel = 8
	r := b.begin(spec)
	best := time.Hour
	var held []catalog.TargetClaim
	for range 40 {
		began := time.Now()
		taken := b.turn(catalog.Turn{Rollout: r.ID, Taker: worker("w"), Lead: 1, Ended: ended(catalog.TargetDone, held...), Want: 8})
		best = min(best, time.Since(began))
		if held = taken.Claims; len(held) == 0 {
			b.ok(b.cat.WavePassed(t.Context(), r, 0, nil))
		}
	}
	t.Logf("%d targets: %s", n, best)
	if best > 50*time.Millisecond {
		t.Errorf("a turn takes %s", best)
	}
}
