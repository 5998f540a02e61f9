package fleet_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/tenantdb/fleet"
)

// several creates tenants, tenant-00 and so on.
func (b *bench) several(n int) []catalog.Tenant {
	b.Helper()
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("tenant-%02d", i)
	}
	atOnce(names, func(slug string) {
		if _, _, err := b.fleet.Create(b.Context(), catalog.TenantSpec{Slug: slug}); err != nil {
			b.Error(err)
		}
	})
	list, err := b.cat.Tenants(b.Context(), catalog.TenantFilter{})
	b.ok(err)
	if b.Failed() || len(list) != n {
		b.Fatalf("%d of %d tenants were made", len(list), n)
	}
	return list
}

// runs works on a rollout; what is returned waits for its end.
func (b *bench) runs(f *fleet.Fleet, id string) (ended func() (catalog.Rollout, error)) {
	type end struct {
		catalog.Rollout
		err error
	}
	done := make(chan end, 1)
	go func() {
		r, err := f.RunRollout(b.Context(), id, true, nil)
		done <- end{r, err}
	}()
	return func() (catalog.Rollout, error) {
		b.Helper()
		select {
		case e := <-done:
			return e.Rollout, e.err
		case <-time.After(time.Minute):
			b.Fatal("the rollout doesn't end")
			return catalog.Rollout{}, nil
		}
	}
}

// holds stops f when it first comes to a point, until goOn.
func holds(f *fleet.Fleet, at string) (reached <-chan struct{}, goOn func()) {
	there, on := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	f.Crash(func(point string) {
		if point == at && once.CompareAndSwap(false, true) {
			close(there)
			<-on
		}
	})
	return there, func() { close(on) }
}

// comes waits for it.
func (b *bench) comes(what string, reached <-chan struct{}) {
	b.Helper()
	select {
	case <-reached:
	case <-time.After(30 * time.Second):
		b.Fatalf("waited in vain until %s", what)
	}
}

func (b *bench) status(id string) catalog.RolloutStatus {
	b.Helper()
	s, err := b.cat.RolloutStatus(b.Context(), id)
	b.ok(err)
	return s
}

// targets are a rollout's, by slug.
func (b *bench) targets(id string) map[string]catalog.TargetRow {
	b.Helper()
	list, err := b.cat.RolloutTargets(b.Context(), id, catalog.TargetFilter{})
	b.ok(err)
	by := map[string]catalog.TargetRow{}
	for _, row := range list {
		by[row.Tenant] = row
	}
	return by
}

// productAt checks which version of the product the catalog has of a tenant, and that
// its database has it.
func (b *bench) productAt(slug string, want int64) {
	b.Helper()
	t, err := b.cat.TenantBySlug(b.Context(), slug)
	b.ok(err)
	const has = `select coalesce(max(version_id), 0) from product.schema_version where is_applied`
	conn := b.super(t.Database)
	there := one[bool](b, conn, "select to_regclass('product.schema_version') is not null")
	if t.ProductVersion != want || there != (want > 0) || there && one[int64](b, conn, has) != want {
		b.Errorf("%s is at version %d, want %d", slug, t.ProductVersion, want)
	}
}

// Canaries come first, each wave soaks before the next begins, and what nodes tell of
// it holds the rollout; who is suspended meanwhile is brought up when it is resumed.
func TestRollout_waves(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.several(5)
	free := make(chan struct{})
	close(free)
	b.node("serves", free) // else there is nobody to wait for
	const soak = 300 * time.Millisecond
	r, err := b.fleet.StartRollout(t.Context(), fleet.RolloutSpec{
		Stream: catalog.StreamProduct, Set: product(b, "create schema app;\ncreate table app.a ();"), Actor: "ops",
		Canary: []string{"tenant-03"}, Waves: []float64{40}, Options: catalog.RolloutOptions{Parallel: 2, Soak: soak, GateFailures: 2},
	})
	b.ok(err)
	node, later := uuid.New(), time.Now().Add(time.Hour) // after the wave, whenever that will be
	b.ok(b.cat.ReportHealth(t.Context(), node, r.ID, 0, []catalog.HealthSlot{
		fast(500, 0).slot(r.CreatedAt.Add(-time.Minute)), fast(500, 250).slot(later),
	}))
	now, err := b.runs(b.fleet, r.ID)()
	if !errors.Is(err, fleet.ErrPartial) || now.State != catalog.RolloutHalted ||
		!strings.Contains(now.Reason, "after wave canary: 250 of 500 requests failed") {
		t.Fatalf("%s %q: %v", now.State, now.Reason, err)
	}
	last := ""
	for slug, row := range b.targets(r.ID) {
		if state := map[bool]string{true: catalog.TargetDone, false: catalog.TargetWaiting}[slug == "tenant-03"]; row.State != state || row.Wave > 0 && row.Attempts > 0 {
			t.Errorf("held: %+v", row)
		}
		if row.Wave == 2 {
			last = slug
		}
	}

	asleep, err := b.cat.TenantBySlug(t.Context(), last)
	b.ok(err)
	b.ok(b.fleet.Suspend(t.Context(), asleep.ID))
	b.ok(b.cat.ReportHealth(t.Context(), node, r.ID, 0, []catalog.HealthSlot{fast(500, 0).slot(later)}))
	_, err = b.cat.ResumeRollout(t.Context(), r.ID, "ops")
	b.ok(err)
	now, err = b.runs(b.fleet, r.ID)()
	if err != nil || now.State != catalog.RolloutDone {
		t.Fatalf("%s %q: %v", now.State, now.Reason, err)
	}
	targets, waves := b.targets(r.ID), b.status(r.ID).Waves
	if len(waves) != 3 || waves[0].Name != "canary" || waves[0].Targets != 1 || waves[1].Targets != 2 || waves[2].Targets != 2 {
		t.Fatalf("waves: %+v", waves)
	}
	for slug, row := range targets {
		if row.Wave > 0 && row.State == catalog.TargetDone && row.BeganAt.Before(*waves[row.Wave-1].PassedAt) {
			t.Errorf("%s began before the wave ahead of it had passed", slug)
		}
		if (row.State == catalog.TargetGone) != (slug == last) {
			t.Errorf("%+v", row)
		}
	}
	for _, w := range waves[:2] {
		// The clock that soaks is the leader's own, and begins a little before.
		if w.PassedAt.Sub(*w.MigratedAt) < soak-50*time.Millisecond || !strings.Contains(string(w.Health), `"passed": true`) {
			t.Errorf("wave %s passed after %s: %s", w.Name, w.PassedAt.Sub(*w.MigratedAt), w.Health)
		}
	}
	b.productAt(last, 0)
	b.ok(b.fleet.Resume(t.Context(), asleep.ID))
	for slug := range targets {
		b.productAt(slug, 1)
	}
}

// A rollout ends when it is aborted, when its deadline has passed, and in part; what is
// under way then is recorded, nothing more is begun, and each but the first goes on.
func TestRollout_ends(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.several(4)
	files := []string{"create schema app;\ncreate table app.a ();", "create table app.b ();"}
	f := b.newFleet(fleet.Config{Heartbeat: beat})
	spec := fleet.RolloutSpec{
		Stream: catalog.StreamProduct, Set: product(b, files[:1]...), Waves: []float64{100}, Actor: "ops",
		Options: catalog.RolloutOptions{Parallel: 1, Soak: -1, Budget: "1"},
	}
	counts := func(r catalog.Rollout, done, failed, waiting int) {
		t.Helper()
		s := b.status(r.ID)
		if s.Done != done || s.Failed != failed || s.Waiting != waiting || s.Running+s.Gone > 0 {
			t.Errorf("%s: %d done, %d failed, %d waiting, %d running, %d gone", s.State, s.Done, s.Failed, s.Waiting, s.Running, s.Gone)
		}
	}

	// Aborted while a migration runs.
	r, err := f.StartRollout(t.Context(), spec)
	b.ok(err)
	if _, err := f.StartRollout(t.Context(), spec); !isOpen(err, r.ID) {
		t.Errorf("a second one: %v", err)
	}
	reached, goOn := holds(f, "rollout/ddl")
	ended := b.runs(f, r.ID)
	b.comes("a migration runs", reached)
	_, err = b.cat.AbortRollout(t.Context(), r.ID, "ops", "not today")
	b.ok(err)
	goOn()
	now, err := ended()
	if err != nil || now.State != catalog.RolloutAborted || now.Reason != "not today" {
		t.Errorf("aborted: %+v %v", now, err)
	}
	counts(r, 1, 0, 3)
	if _, err := b.cat.ResumeRollout(t.Context(), r.ID, "ops"); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("resumed after that: %v", err)
	}

	// The next one meets those that are left; its deadline passes on the way.
	spec.Deadline = 500 * time.Millisecond
	reached, goOn = holds(f, "rollout/claimed")
	r, err = f.StartRollout(t.Context(), spec)
	b.ok(err)
	ended = b.runs(f, r.ID)
	b.comes("a target is claimed", reached)
	time.Sleep(time.Until(*r.Deadline) + 50*time.Millisecond)
	goOn()
	now, err = ended()
	if !errors.Is(err, fleet.ErrPartial) || now.State != catalog.RolloutHalted || now.Reason != "its deadline has passed" {
		t.Errorf("late: %+v %v", now, err)
	}
	counts(r, 1, 0, 2)
	_, err = b.cat.ResumeRollout(t.Context(), r.ID, "ops")
	b.ok(err)
	now, err = b.runs(f, r.ID)()
	if err != nil || now.State != catalog.RolloutDone {
		t.Errorf("without the deadline: %+v %v", now, err)
	}
	counts(r, 3, 0, 0)

	// In part. Whoever comes then is met by a worker; what failed waits for a person.
	odd, err := b.cat.TenantBySlug(t.Context(), "tenant-02")
	b.ok(err)
	super := b.super(odd.Database)
	_, err = super.Exec(t.Context(), "create table app.b ()")
	b.ok(err)
	spec.Set, spec.Deadline = product(b, files...), 0
	r, err = f.StartRollout(t.Context(), spec)
	b.ok(err)
	now, err = b.runs(f, r.ID)()
	if !errors.Is(err, fleet.ErrPartial) || now.State != catalog.RolloutPartial {
		t.Errorf("in part: %+v %v", now, err)
	}
	counts(r, 3, 1, 0)
	b.create("late") // where the fleet is, which is where the one that failed is
	b.productAt("late", 1)
	b.work(f)
	b.until("the late one is met", func() bool {
		s := b.status(r.ID)
		return s.Done == 4 && s.State == catalog.RolloutPartial
	})
	counts(r, 4, 1, 0)
	b.productAt("late", 2)
	_, err = super.Exec(t.Context(), "drop table app.b")
	b.ok(err)
	_, err = b.cat.ResumeRollout(t.Context(), r.ID, "ops")
	b.ok(err)
	b.until("a worker has ended it", func() bool { return b.status(r.ID).State == catalog.RolloutDone })
	counts(r, 5, 0, 0)
	b.productAt("tenant-02", 2)
}

func isOpen(err error, id string) bool {
	open, ok := errors.AsType[*catalog.OpenRollout](err)
	return ok && open.ID == id && errors.Is(err, catalog.ErrConflict)
}
