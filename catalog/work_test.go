package catalog_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/migrations/pgtest"
)

var builtin = []string{"builtin"}

func newWork(t catalog.Tenant) catalog.WorkSpec {
	return catalog.WorkSpec{ID: uuid.Must(uuid.NewV7()).String(), Tenant: t.ID, Trainer: "builtin"}
}

// enqueue has work of a tenant wait, and returns its id.
func (b *bench) enqueue(t catalog.Tenant) string {
	b.Helper()
	spec := newWork(t)
	b.ok(b.cat.Enqueue(b.Context(), spec))
	return spec.ID
}

// work takes a piece of work that has to be there.
func (b *bench) work(worker string) catalog.WorkItem {
	b.Helper()
	item, found, err := b.cat.TakeWork(b.Context(), by(worker, time.Minute), builtin)
	b.ok(err)
	if !found {
		b.Fatal("nothing to take")
	}
	return item
}

// idle fails the test if there is something to take.
func (b *bench) idle(why string, trainers ...string) {
	b.Helper()
	if len(trainers) == 0 {
		trainers = builtin
	}
	if item, found, err := b.cat.TakeWork(b.Context(), by("idle", time.Minute), trainers); err != nil || found {
		b.Fatalf("%s: taken %+v, error %v", why, item, err)
	}
}

func (b *bench) limits(t catalog.Tenant, running, queued int) {
	b.Helper()
	_, _, err := b.cat.PatchConfig(b.Context(), t.ID, catalog.ConfigPatch{FineTuningRunningLimit: &running, FineTuningQueueLimit: &queued})
	b.ok(err)
}

// Limits hold exactly, whoever enqueues and takes at the same time, each by a
// connection of its own.
func TestWork_limits(t *testing.T) {
	t.Parallel()
	const many = 16
	b := setup(t)
	ctx := t.Context()
	acme, globex := b.tenant("acme"), b.tenant("globex")
	b.limits(acme, 2, 6)
	b.limits(globex, 1, 100)
	b.cfg.WriterConns = many
	cat := b.open()
	all := func(do func(trainer string)) {
		var ready, done sync.WaitGroup
		ready.Add(many)
		for i := range many {
			done.Go(func() {
				ready.Done()
				ready.Wait()
				do([]string{"builtin", "openai", "command:trl"}[i%3])
			})
		}
		done.Wait()
	}

	var added, refused atomic.Int64
	all(func(trainer string) {
		for _, of := range []catalog.Tenant{acme, globex} {
			spec := newWork(of)
			spec.Trainer = trainer
			err := cat.Enqueue(ctx, spec)
			full, over := errors.AsType[*catalog.TooMuchWork](err)
			switch {
			case err == nil:
				added.Add(1)
			case over && full.Limit == 6 && of.ID == acme.ID:
				refused.Add(1)
			default:
				t.Error(err)
			}
		}
	})
	if added.Load() != many+6 || refused.Load() != many-6 {
		t.Fatalf("%d added, %d refused, want %d and %d", added.Load(), refused.Load(), many+6, many-6)
	}

	// In each round all take, and no more runs than may; then it is given back. Who
	// has other trainers chooses other work, so that no row is in their way.
	rounds := 12
	if pgtest.Long() {
		rounds = 200
	}
	for range rounds {
		var mu sync.Mutex
		var held []catalog.WorkItem
		running := map[string]int{}
		all(func(trainer string) {
			for {
				item, found, err := cat.TakeWork(ctx, by("w", time.Minute), []string{trainer})
				if err != nil {
					t.Error(err)
				}
				if err != nil || !found {
					return
				}
				mu.Lock()
				held = append(held, item)
				running[item.Slug]++
				mu.Unlock()
			}
		})
		if running["acme"] != 2 || running["globex"] != 1 {
			t.Fatalf("%v at a time, want as many as may be", running)
		}
		for _, item := range held {
			b.ok(b.cat.ReleaseWork(ctx, item, item.Stage, 0, ""))
		}
	}
}

// Tenants have their turns one after the other, however much each of them has
// asked for, and each one's oldest comes first.
func TestWork_turns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenants := map[byte]catalog.Tenant{'a': b.tenant("a-1"), 'b': b.tenant("b-1"), 'c': b.tenant("c-1")}
	for _, one := range tenants {
		b.limits(one, 100, 100)
	}
	last := map[string]string{}
	order := func(n int) string {
		t.Helper()
		var got strings.Builder
		for range n {
			item := b.work("w")
			if last[item.Slug] >= item.ID {
				t.Errorf("%s of %s came after %s", item.ID, item.Slug, last[item.Slug])
			}
			last[item.Slug] = item.ID
			got.WriteString(item.Slug[:1])
		}
		return got.String()
	}
	for _, slug := range []byte("aaaaaabbc") {
		b.enqueue(tenants[slug])
	}
	if got := order(5); got != "abcab" {
		t.Errorf("turns %s", got)
	}
	// Who comes back has waited longest; who never had a turn comes first.
	b.enqueue(tenants['c'])
	d := b.tenant("d-1")
	tenants['d'] = d
	b.enqueue(d)
	b.enqueue(d)
	if got := order(7); got != "dcadaaa" {
		t.Errorf("turns %s", got)
	}
	b.idle("all is taken")
}

// What a dead worker had is taken by another one, and then the dead one writes
// nothing more.
func TestWork_takenOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme := b.tenant("acme")
	b.limits(acme, 1, 10)
	id := b.enqueue(acme)
	dead, found, err := b.cat.TakeWork(ctx, by("dead", 50*time.Millisecond), []string{"openai", "builtin"})
	b.ok(err)
	if !found || dead.ID != id || dead.Tenant != acme.ID || dead.Slug != "acme" || dead.Trainer != "builtin" || dead.Stage != catalog.WorkValidate ||
		dead.Attempts != 1 || dead.Cancel || dead.Error != "" || dead.CreatedAt.IsZero() || dead.LeaseUntil.Before(dead.CreatedAt) {
		t.Fatalf("taken %+v", dead)
	}
	second := b.enqueue(acme)
	b.ok(b.cat.KeepWork(ctx, dead, 50*time.Millisecond))
	var next catalog.WorkItem
	b.within(5*time.Second, "taken over", func() bool {
		next, found, err = b.cat.TakeWork(ctx, by("next", time.Minute), builtin)
		return err == nil && found
	})
	if next.ID != id || next.Token <= dead.Token || next.Attempts != 2 {
		t.Errorf("taken over: %+v after %+v", next, dead)
	}
	for name, err := range map[string]error{
		"keep": b.cat.KeepWork(ctx, dead, time.Minute), "end": b.cat.EndWork(ctx, dead),
		"release": b.cat.ReleaseWork(ctx, dead, catalog.WorkTrain, 0, "late"),
	} {
		if !errors.Is(err, catalog.ErrLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.idle("one at a time")

	// It fails, waits, and comes back with what was wrong; a new stage begins anew.
	b.ok(b.cat.ReleaseWork(ctx, next, catalog.WorkValidate, time.Hour, "no luck\x00\xff"))
	b.is(b.cat.EndWork(ctx, next), catalog.ErrLost)
	other := b.work("w")
	if other.ID != second {
		t.Fatalf("taken %+v before it is due", other)
	}
	b.ok(b.cat.EndWork(ctx, other))
	b.is(b.cat.EndWork(ctx, other), catalog.ErrLost)
	b.idle("not due yet")
	admin := b.admin()
	b.exec(admin, `update work_queue set run_at = now()`)
	b.idle("another trainer's", "openai", "command:trl")
	again := b.work("w")
	if again.Attempts != 3 || again.Error != "no luck" || again.Token <= next.Token {
		t.Errorf("again %+v", again)
	}
	b.ok(b.cat.ReleaseWork(ctx, again, again.Stage, 0, "")) // its worker stops
	if again = b.work("w"); again.Attempts != 3 || again.Error != "" {
		t.Errorf("after a stop %+v", again)
	}
	b.is(b.cat.ReleaseWork(ctx, again, "serve", 0, ""), catalog.ErrInvalid)
	b.ok(b.cat.ReleaseWork(ctx, again, catalog.WorkTrain, 0, ""))
	if again = b.work("w"); again.Attempts != 1 || again.Stage != catalog.WorkTrain {
		t.Errorf("at the next stage %+v", again)
	}

	// A worker that was silent for a while goes on, unless another has its work, and
	// counts meanwhile; after minutes it is too late.
	b.enqueue(acme)
	b.exec(admin, `update work_queue set lease_until = now() - interval '3 minutes', trainer = 'openai' where id = $1`, id)
	b.idle("a silent worker's counts")
	b.ok(b.cat.KeepWork(ctx, again, time.Minute))
	b.exec(admin, `update work_queue set lease_until = now() - interval '4.5 minutes' where id = $1`, id)
	b.is(b.cat.KeepWork(ctx, again, time.Minute), catalog.ErrLost)
	b.idle("it may count still")
	b.exec(admin, `update work_queue set lease_until = now() - interval '6 minutes' where id = $1`, id)
	if item := b.work("w"); item.ID == id {
		t.Errorf("taken %+v", item)
	}
}

// A suspended tenant's work waits, also what runs already; nothing is enqueued.
func TestWork_suspended(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme := b.tenant("acme")
	b.enqueue(acme)
	waits := b.enqueue(acme)
	item := b.work("w")
	_, err := b.cat.SetState(ctx, acme.ID, catalog.Suspended, catalog.Active)
	b.ok(err)
	b.is(b.cat.KeepWork(ctx, item, time.Minute), catalog.ErrLost)
	b.is(b.cat.EndWork(ctx, item), catalog.ErrLost)
	b.idle("suspended")
	b.is(b.cat.Enqueue(ctx, newWork(acme)), catalog.ErrConflict)
	if v, err := b.cat.Work(ctx); err != nil || v.Waiting != 2 || v.Running != 0 {
		t.Errorf("%+v %v", v, err)
	}
	_, err = b.cat.SetState(ctx, acme.ID, catalog.Active, catalog.Suspended)
	b.ok(err)
	next := b.work("w")
	if next.ID != item.ID || next.Token <= item.Token || next.Attempts != 1 {
		t.Errorf("taken again %+v", next)
	}
	b.ok(b.cat.KeepWork(ctx, next, time.Minute))

	// Nor is anything done before a restore has ended.
	b.ok(b.cat.ChoreFailed(ctx, catalog.RestoreChore, "a dump"))
	b.idle("restoring")
	b.ok(b.cat.ChoreDone(ctx, catalog.RestoreChore))
	if next = b.work("w"); next.ID != waits {
		t.Errorf("taken %+v", next)
	}
	_, _, err = b.cat.BeginDeletion(ctx, acme.ID, 0, "op", []string{"one"})
	b.ok(err)
	b.is(b.cat.KeepWork(ctx, next, time.Minute), catalog.ErrLost)
	b.ok(b.cat.ErasePerson(ctx, acme.ID))
	if blank, err := b.cat.Erased(ctx, acme.ID); err != nil || !blank {
		t.Errorf("erased: %v %v", blank, err)
	}
	if left := b.number(b.admin(), `select (select count(*) from work_queue) + (select count(*) from work_turns)`); left != 0 {
		t.Errorf("%d rows are left", left)
	}
}

// What is cancelled is gone when nobody has had it, and else cleared up whatever
// the limit; twice the same is once.
func TestWork_cancelled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme := b.tenant("acme")
	b.limits(acme, 1, 2)
	spec := newWork(acme)
	for range 3 {
		b.ok(b.cat.Enqueue(ctx, spec))
	}
	other := b.enqueue(acme)
	_, full := errors.AsType[*catalog.TooMuchWork](b.cat.Enqueue(ctx, newWork(acme)))
	if !full {
		t.Error("a third one was taken")
	}
	b.ok(b.cat.Enqueue(ctx, spec)) // it is there: no limit is asked
	b.ok(b.cat.DropWork(ctx, other))
	b.ok(b.cat.DropWork(ctx, other))
	other = b.enqueue(acme)
	b.ok(b.cat.CancelWork(ctx, other))
	b.ok(b.cat.CancelWork(ctx, other))

	first := b.work("w")
	b.ok(b.cat.DropWork(ctx, first.ID)) // too late
	b.ok(b.cat.KeepWork(ctx, first, time.Minute))
	b.ok(b.cat.CancelWork(ctx, first.ID))
	b.is(b.cat.KeepWork(ctx, first, time.Minute), catalog.ErrCancelled)
	b.idle("it is in hands")
	b.ok(b.cat.ReleaseWork(ctx, first, first.Stage, time.Hour, "broke"))
	b.limits(acme, 0, 0)
	again := b.work("w") // at once
	if again.ID != first.ID || !again.Cancel || again.Attempts != 2 {
		t.Errorf("taken %+v", again)
	}
	b.is(b.cat.KeepWork(ctx, again, time.Minute), catalog.ErrCancelled)
	b.ok(b.cat.EndWork(ctx, again))
	if v, err := b.cat.Work(ctx); err != nil || v.Waiting != 0 || v.Running != 0 || v.Oldest != 0 {
		t.Errorf("%+v %v", v, err)
	}
	_, full = errors.AsType[*catalog.TooMuchWork](b.cat.Enqueue(ctx, newWork(acme)))
	if !full {
		t.Error("taken by who may have none")
	}
	b.is(b.cat.Enqueue(ctx, catalog.WorkSpec{ID: "1", Tenant: acme.ID, Trainer: "sh -c"}), catalog.ErrInvalid)
	b.is(b.cat.Enqueue(ctx, catalog.WorkSpec{ID: spec.ID, Tenant: catalog.NewTenantID(), Trainer: "builtin"}), catalog.ErrNotFound)
	b.is(b.cat.CancelWork(ctx, "1"), catalog.ErrInvalid)
	b.is(b.cat.DropWork(ctx, "1"), catalog.ErrInvalid)
}
