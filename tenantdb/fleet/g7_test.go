package fleet_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/fleet"
)

// crashPoints are the points at which a worker is killed: in the short form where
// an effect is there that nobody has written down, in the long form all.
func crashPoints(points []string) []string {
	var some []string
	for _, p := range points {
		if pgtest.Long() || strings.HasSuffix(p, ":made") || strings.Contains(p, "/register:") {
			some = append(some, p)
		}
	}
	return some
}

// atOnce runs fn for each of the names, a few at a time.
func atOnce(names []string, fn func(name string)) {
	var all sync.WaitGroup
	slots := make(chan struct{}, 3)
	for _, name := range names {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			fn(name)
		})
	}
	all.Wait()
}

func slugOf(point string) string {
	return "t-" + strings.NewReplacer("/", "-", ":", "-").Replace(point)
}

// Killed with -9 at every step of onboarding, each tenant is whole in the end, and
// nothing is left that belongs to none.
func TestG7_OnboardingSurvivesKill(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store, cfg := b.bucket()
	o := b.orders(cfg)
	points := crashPoints(fleet.Points(catalog.KindOnboard))
	atOnce(points, func(point string) {
		o := o
		o.Create, o.DieAt = slugOf(point), point
		b.dies(o)
	})
	if t.Failed() {
		return
	}
	began := time.Now()
	b.work(b.newFleet(fleet.Config{Blob: store, Heartbeat: beat}))
	b.settled(30 * time.Second)
	t.Logf("%d onboardings were gone on with in %s", len(points), time.Since(began).Round(time.Millisecond))
	for _, point := range points {
		made, err := b.cat.TenantBySlug(t.Context(), slugOf(point))
		b.ok(err)
		b.whole(made, store)
		b.owedMails(made, 1)
	}
	b.nothingLeft(store)
}

// The same for deletions: in the end nothing is left of any.
func TestG7_DeletionSurvivesKill(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store, cfg := b.bucket()
	f := b.newFleet(fleet.Config{Blob: store, Heartbeat: beat})
	o := b.orders(cfg)
	points := crashPoints(fleet.Points(catalog.KindDelete))
	ids := map[string]catalog.TenantID{}
	var mu sync.Mutex
	atOnce(points, func(point string) {
		made, _, err := f.Create(t.Context(), catalog.TenantSpec{Slug: slugOf(point)})
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		ids[point] = made.ID
		mu.Unlock()
		o := o
		o.Delete, o.DieAt = slugOf(point), point
		b.dies(o)
	})
	if t.Failed() {
		return
	}
	b.work(f)
	b.settled(30 * time.Second)
	for point, id := range ids {
		dead, err := b.cat.Tenant(t.Context(), id)
		b.ok(err)
		if dead.State != catalog.Deleted {
			t.Errorf("%s: %s", point, dead.State)
		}
	}
	b.nothingLeft(store)
}

// And for ready databases, made and dropped: the next pass goes on.
func TestG7_ReadyDatabasesSurviveKill(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store, cfg := b.bucket()
	f := b.newFleet(fleet.Config{Blob: store})
	o := b.orders(cfg)
	o.Refill = true
	b.setReady(1)
	points := fleet.ReadyPoints()
	for _, point := range crashPoints(points) {
		if strings.HasPrefix(point, "unready/") {
			continue
		}
		o := o
		o.DieAt = point
		b.dies(o)
	}
	b.ok(f.RefillReady(t.Context()))
	list, err := b.cat.ReadyDatabases(t.Context(), "")
	b.ok(err)
	if len(list) != 1 || list[0].State != "ready" || list[0].SchemaVersion != latest {
		t.Fatalf("ready: %+v", list)
	}
	b.nothingLeft(store)
	b.setReady(0)
	for _, point := range crashPoints(points) {
		if strings.HasPrefix(point, "unready/") {
			o := o
			o.DieAt = point
			b.dies(o)
		}
	}
	b.ok(f.RefillReady(t.Context()))
	if list, err = b.cat.ReadyDatabases(t.Context(), ""); err != nil || len(list) > 0 {
		t.Errorf("left: %+v %v", list, err)
	}
	b.nothingLeft(store)
}

// A worker is killed at every step of a creation that another one had begun, one
// step each.
func TestG7_EachWorkerDiesOneStepLater(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store, cfg := b.bucket()
	o := b.orders(cfg)
	o.Create = "acme"
	for _, point := range crashPoints(fleet.Points(catalog.KindOnboard)) {
		if strings.HasPrefix(point, "onboard/register:") {
			continue // who goes on doesn't come by it again
		}
		b.lapse()
		o.DieAt = point
		b.dies(o)
		o.Create, o.Work = "", true // what one began, the next worker goes on with
	}
	b.lapse()
	acme, err := b.cat.TenantBySlug(t.Context(), "acme")
	b.ok(err)
	b.work(b.newFleet(fleet.Config{Blob: store, Heartbeat: beat}))
	b.settled(20 * time.Second)
	acme, err = b.cat.Tenant(t.Context(), acme.ID)
	b.ok(err)
	b.whole(acme, store)
	b.nothingLeft(store)
}

// lapse waits until no operation's worker may be alive.
func (b *bench) lapse() {
	b.Helper()
	list, err := b.cat.Operations(b.Context(), catalog.OperationFilter{State: catalog.OperationRunning})
	b.ok(err)
	for _, o := range list {
		if o.LeaseUntil != nil {
			time.Sleep(time.Until(*o.LeaseUntil))
		}
	}
}

// Two workers, one killed in the middle of fifty onboardings.
func TestG7_FiftyOnboardingsAndADeadWorker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenants := 12
	if pgtest.Long() {
		tenants = 50
	}
	store, cfg := b.bucket()
	f := b.newFleet(fleet.Config{Blob: store, Heartbeat: beat})
	for i := range tenants {
		_, err := f.Register(t.Context(), catalog.TenantSpec{Slug: fmt.Sprintf("tenant-%02d", i), Email: "a@example.com"})
		b.ok(err)
	}
	o := b.orders(cfg)
	o.Work = true
	one, other := b.start(o), b.start(o)
	b.until("a third is done", func() bool { return b.active() >= tenants/3 })
	b.ok(one.Process.Kill())
	_ = one.Wait()
	b.settled(60 * time.Second)
	b.ok(other.Process.Kill())
	_ = other.Wait()
	for i := range tenants {
		made, err := b.cat.TenantBySlug(t.Context(), fmt.Sprintf("tenant-%02d", i))
		b.ok(err)
		b.whole(made, store)
		b.owedMails(made, 1)
	}
	b.nothingLeft(store)
}

func (b *bench) active() int {
	b.Helper()
	counts, err := b.cat.CountTenants(b.Context())
	b.ok(err)
	return counts[string(catalog.Active)]
}

func (b *bench) until(what string, ok func() bool) {
	b.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("waited in vain until %s", what)
		}
	}
}

// setReady has the server keep so many ready databases.
func (b *bench) setReady(n int) {
	b.Helper()
	_, err := b.cat.SetServer(b.Context(), "pg-1", catalog.ServerPatch{Ready: &n})
	b.ok(err)
}

func (b *bench) owedMails(t catalog.Tenant, want int) {
	b.Helper()
	if n := one[int](b, b.catalogDB(), "select count(*)::int from mail_outbox where tenant = $1", t.ID); n != want {
		b.Errorf("%s: %d mails", t.Slug, n)
	}
}

// nothingLeft has the reconciler look: it finds nothing of this catalog's.
func (b *bench) nothingLeft(store *blob.Store) {
	b.Helper()
	report, err := b.newFleet(fleet.Config{Blob: store}).Reconcile(b.Context())
	if err != nil && !errors.Is(err, fleet.ErrPartial) {
		b.Fatal(err)
	}
	for _, f := range report.Findings {
		// What bears no mark and is nobody's that this catalog knows may be another
		// test's, which has just made it: rows come first.
		if strings.HasSuffix(f.Kind, "_unknown") {
			continue
		}
		b.Errorf("the reconciler found %+v", f)
	}
}
