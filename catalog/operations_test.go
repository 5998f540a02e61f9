package catalog_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"freehold/catalog"
)

// act begins an operation of a tenant's.
func (b *bench) act(t catalog.Tenant, runAt time.Time) catalog.Operation {
	b.Helper()
	o, err := b.cat.BeginOperation(b.Context(), catalog.OperationSpec{
		Kind: "test", Tenant: t.ID, Actor: "ops", Args: map[string]int{"n": 1}, Steps: []string{"one", "two"}, RunAt: runAt,
	})
	b.ok(err)
	return o
}

func by(worker string, lease time.Duration) catalog.Taker {
	return catalog.Taker{Worker: worker, Lease: lease}
}

func TestOperation_life(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme := b.tenant("acme")
	begun := b.act(acme, time.Time{})
	if begun.State != catalog.OperationWaiting || begun.Tenant != "acme" || len(begun.Steps) != 2 || begun.Steps[1].Name != "two" {
		t.Errorf("begun %+v", begun)
	}
	_, err := b.cat.BeginOperation(ctx, catalog.OperationSpec{Kind: "other", Tenant: acme.ID, Actor: "ops"})
	if busy, ok := errors.AsType[*catalog.Busy](err); !ok || busy.Operation.ID != begun.ID || !strings.Contains(err.Error(), begun.ID) {
		t.Errorf("a second one: %v", err)
	}
	b.is(err, catalog.ErrConflict)

	o, found, err := b.cat.NextOperation(ctx, by("w1", time.Minute), "test")
	b.ok(err)
	if !found || o.ID != begun.ID || o.State != catalog.OperationRunning || o.Worker != "w1" || o.Attempts != 1 {
		t.Fatalf("taken %+v", o)
	}
	if _, found, err := b.cat.NextOperation(ctx, by("w2", time.Minute), "test"); err != nil || found {
		t.Errorf("taken twice: %v", err)
	}
	b.ok(b.cat.BeginStep(ctx, o, "one"))
	b.ok(b.cat.EndStep(ctx, o, "one", ""))
	b.ok(b.cat.BeginStep(ctx, o, "two"))
	b.ok(b.cat.EndStep(ctx, o, "two", "it broke"))
	b.ok(b.cat.EndOperation(ctx, o, catalog.OperationFailed, "two: it broke", 0))
	is, err := b.cat.Operation(ctx, o.ID)
	b.ok(err)
	if is.State != catalog.OperationFailed || is.Error != "two: it broke" || is.EndedAt == nil ||
		is.Steps[0].State != "done" || is.Steps[0].Millis == nil || is.Steps[1].State != "failed" || is.Steps[1].Error != "it broke" {
		t.Errorf("failed %+v", is)
	}
	b.is(b.cat.BeginStep(ctx, o, "two"), catalog.ErrLost)

	again, err := b.cat.RetryOperation(ctx, o.ID)
	b.ok(err)
	if again.State != catalog.OperationWaiting || again.Attempts != 0 || again.EndedAt != nil {
		t.Errorf("again %+v", again)
	}
	o, err = b.cat.TakeOperation(ctx, o.ID, by("w3", time.Minute))
	b.ok(err)
	b.ok(b.cat.EndOperation(ctx, o, catalog.OperationDone, "", 0))
	_, err = b.cat.RetryOperation(ctx, o.ID)
	b.is(err, catalog.ErrConflict)
	_, err = b.cat.CancelOperation(ctx, o.ID)
	b.is(err, catalog.ErrConflict)
	_, err = b.cat.TakeOperation(ctx, o.ID, by("w3", time.Minute))
	b.is(err, catalog.ErrConflict)
	_, err = b.cat.Operation(ctx, catalog.NewTenantID().String())
	b.is(err, catalog.ErrNotFound)
	_, err = b.cat.Operation(ctx, "nonsense")
	b.is(err, catalog.ErrNotFound)
}

// Who lost an operation changes nothing more, whatever it still wants to write.
func TestOperation_fencing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.act(b.tenant("acme"), time.Time{})
	dead, found, err := b.cat.NextOperation(ctx, by("dead", 50*time.Millisecond), "test")
	b.ok(err)
	if !found {
		t.Fatal("nothing to do")
	}
	b.ok(b.cat.KeepOperation(ctx, dead, 50*time.Millisecond))
	_, err = b.cat.TakeOperation(ctx, dead.ID, by("early", time.Minute))
	if _, busy := errors.AsType[*catalog.Busy](err); !busy {
		t.Errorf("taken from a living worker: %v", err)
	}
	var next catalog.Operation
	b.within(5*time.Second, "taken over", func() bool {
		next, found, err = b.cat.NextOperation(ctx, by("next", time.Minute), "test")
		return err == nil && found
	})
	if next.ID != dead.ID || next.Token <= dead.Token || next.Attempts != 2 {
		t.Errorf("taken over: %+v", next)
	}
	for name, err := range map[string]error{
		"keep": b.cat.KeepOperation(ctx, dead, time.Minute), "begin step": b.cat.BeginStep(ctx, dead, "one"),
		"end step": b.cat.EndStep(ctx, dead, "one", ""), "end": b.cat.EndOperation(ctx, dead, catalog.OperationDone, "", 0),
	} {
		if !errors.Is(err, catalog.ErrLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.ok(b.cat.EndOperation(ctx, next, catalog.OperationDone, "", 0))
}

// What isn't due waits, what is asked to be cancelled is told so between its steps.
func TestOperation_dueAndCancelled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	later := b.act(b.tenant("later"), time.Now().Add(time.Hour))
	_, err := b.cat.RetryOperation(ctx, later.ID)
	b.is(err, catalog.ErrConflict)
	if _, found, err := b.cat.NextOperation(ctx, by("w", time.Minute), "test"); err != nil || found {
		t.Errorf("taken before it is due: %v", err)
	}
	if _, found, err := b.cat.NextOperation(ctx, by("w", time.Minute), "unknown"); err != nil || found {
		t.Errorf("taken by who doesn't know it: %v", err)
	}
	gone, err := b.cat.CancelOperation(ctx, later.ID)
	b.ok(err)
	if gone.State != catalog.OperationCancelled || gone.EndedAt == nil {
		t.Errorf("cancelled %+v", gone)
	}
	b.act(b.tenant("acme"), time.Time{})
	o, _, err := b.cat.NextOperation(ctx, by("w", time.Minute), "test")
	b.ok(err)
	_, err = b.cat.CancelOperation(ctx, o.ID)
	b.is(err, catalog.ErrConflict)
	_, err = b.cat.RequestCancel(ctx, o.ID)
	b.ok(err)
	b.is(b.cat.KeepOperation(ctx, o, time.Minute), catalog.ErrCancelled)
	b.is(b.cat.BeginStep(ctx, o, "one"), catalog.ErrCancelled)
	b.ok(b.cat.EndOperation(ctx, o, catalog.OperationWaiting, "away", time.Hour))
	is, err := b.cat.Operation(ctx, o.ID)
	b.ok(err)
	if is.State != catalog.OperationWaiting || time.Until(is.RunAt) < 50*time.Minute || is.LeaseUntil != nil {
		t.Errorf("waits %+v", is)
	}
}

// What stops gives its operation back at once and uncounted, and a step of a newer
// release than the operation's beginning is done too.
func TestOperation_given_back(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.act(b.tenant("acme"), time.Time{})
	o, _, err := b.cat.NextOperation(ctx, by("w1", time.Minute), "test")
	b.ok(err)
	b.ok(b.cat.BeginStep(ctx, o, "one"))
	b.ok(b.cat.ReleaseOperation(ctx, o))
	b.is(b.cat.ReleaseOperation(ctx, o), catalog.ErrLost)
	o, found, err := b.cat.NextOperation(ctx, by("w2", time.Minute), "test")
	b.ok(err)
	if !found || o.Attempts != 1 {
		t.Fatalf("given back: %t %+v", found, o)
	}
	b.ok(b.cat.BeginStep(ctx, o, "three"))
	b.ok(b.cat.EndStep(ctx, o, "three", ""))
	_, err = b.cat.RequestCancel(ctx, o.ID)
	b.ok(err)
	b.is(b.cat.BeginStep(ctx, o, "two"), catalog.ErrCancelled)
	is, err := b.cat.Operation(ctx, o.ID)
	b.ok(err)
	if len(is.Steps) != 3 || is.Steps[2].Name != "three" || is.Steps[2].State != "done" || is.Steps[1].State != "waiting" {
		t.Errorf("steps %+v", is.Steps)
	}
	b.ok(b.cat.IgnoreCancel(ctx, o))
	b.ok(b.cat.BeginStep(ctx, o, "two"))
	// A failed one that is taken up again hasn't ended, and what was asked of it is over.
	_, err = b.cat.RequestCancel(ctx, o.ID)
	b.ok(err)
	b.ok(b.cat.EndOperation(ctx, o, catalog.OperationFailed, "it broke", 0))
	o, err = b.cat.TakeOperation(ctx, o.ID, by("w3", time.Minute))
	b.ok(err)
	if o.EndedAt != nil {
		t.Errorf("running since %s", o.EndedAt)
	}
	b.ok(b.cat.BeginStep(ctx, o, "two"))
}

// Who was suspended before its onboarding could write its end was active.
func TestActivateTenant_late(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.tenant("acme")
	epoch, err := b.cat.SetState(t.Context(), acme.ID, catalog.Suspended, catalog.Active)
	b.ok(err)
	b.ok(b.cat.ActivateTenant(t.Context(), acme.ID))
	is, err := b.cat.Tenant(t.Context(), acme.ID)
	b.ok(err)
	if is.State != catalog.Suspended || is.Epoch != epoch {
		t.Errorf("%+v", is)
	}
}

func TestOperations_filters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	for _, slug := range []string{"aa", "bb"} {
		b.act(b.tenant(slug), time.Time{})
	}
	for _, c := range []struct {
		filter catalog.OperationFilter
		want   int
	}{
		{catalog.OperationFilter{}, 4},
		{catalog.OperationFilter{Kind: "test"}, 2},
		{catalog.OperationFilter{State: catalog.OperationWaiting}, 2},
		{catalog.OperationFilter{Tenant: "aa"}, 2},
		{catalog.OperationFilter{Tenant: "aa", Kind: "onboard"}, 1},
		{catalog.OperationFilter{Limit: 3}, 3},
	} {
		list, err := b.cat.Operations(ctx, c.filter)
		b.ok(err)
		if len(list) != c.want {
			t.Errorf("%+v: %d, want %d", c.filter, len(list), c.want)
		}
	}
	first, err := b.cat.Operations(ctx, catalog.OperationFilter{Limit: 3})
	b.ok(err)
	rest, err := b.cat.Operations(ctx, catalog.OperationFilter{After: first[2].ID})
	b.ok(err)
	if len(rest) != 1 || rest[0].ID >= first[2].ID {
		t.Errorf("the next page: %+v", rest)
	}
	_, err = b.cat.Operations(ctx, catalog.OperationFilter{After: "x"})
	b.is(err, catalog.ErrInvalid)
}

// Claims at once never share a database, and none waits for another.
func TestClaim_each_once(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.server("pg-1")
	const ready, claims = 6, 10
	for range ready {
		r, added, err := b.cat.AddReady(ctx, "pg-1", ready)
		b.ok(err)
		if !added {
			t.Fatal("not added")
		}
		r.SchemaVersion = 1
		b.ok(b.cat.SetReady(ctx, r, "making", "ready"))
	}
	if _, added, err := b.cat.AddReady(ctx, "pg-1", ready); err != nil || added {
		t.Errorf("one too many: %v", err)
	}
	var mu sync.Mutex
	claimed, made := map[catalog.TenantID]bool{}, 0
	var all sync.WaitGroup
	for range claims {
		all.Go(func() {
			c, err := b.cat.CreateTenant(ctx, catalog.TenantSpec{Slug: unique("t"), Email: "a@example.com"}, here())
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				t.Error(err)
			case c.Claimed:
				claimed[c.Tenant.ID] = true
				if c.Tenant.State != catalog.Active || c.Tenant.Epoch == 0 || c.Tenant.SchemaVersion != 1 ||
					c.Tenant.Database != c.Tenant.ID.DatabaseName() || c.Token == "" || c.Operation.ID != "" {
					t.Errorf("claimed %+v", c)
				}
			default:
				made++
			}
		})
	}
	all.Wait()
	if len(claimed) != ready || made != claims-ready {
		t.Errorf("%d claimed, %d to be made", len(claimed), made)
	}
	if left, err := b.cat.ReadyDatabases(ctx, ""); err != nil || len(left) != 0 {
		t.Errorf("left %+v: %v", left, err)
	}
	// Each has its mail, owed in the same transaction.
	if n := b.number(b.admin(), `select count(*) from mail_outbox m join tenants t on t.id = m.tenant where t.state = 'active'`); n != ready {
		t.Errorf("%d mails", n)
	}
}

// One that is of another schema than the fleet, or taken, isn't claimed.
func TestClaim_only_what_fits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme := b.tenant("acme")
	b.ok(b.cat.SetVersions(ctx, acme.ID, catalog.Versions{Freehold: 1}, -1))
	r, _, err := b.cat.AddReady(ctx, "pg-1", 1)
	b.ok(err)
	r.SchemaVersion = 2
	b.ok(b.cat.SetReady(ctx, r, "making", "ready"))
	_, err = b.cat.CreateTenant(ctx, catalog.TenantSpec{Slug: "acme"}, here())
	b.is(err, catalog.ErrExists)
	if list, err := b.cat.ReadyDatabases(ctx, "pg-1"); err != nil || len(list) != 1 {
		t.Errorf("a refused creation took it: %+v %v", list, err)
	}
	o := here()
	o.Latest = 2
	made, err := b.cat.CreateTenant(ctx, catalog.TenantSpec{Slug: "other"}, o)
	b.ok(err)
	if made.Claimed || !strings.Contains(string(made.Operation.Args), `"schema": 1`) {
		t.Errorf("the fleet is at 1: %+v %s", made, made.Operation.Args)
	}
	b.ok(b.cat.SetReady(ctx, r, "ready", "dropping"))
	b.is(b.cat.SetReady(ctx, r, "ready", "dropping"), catalog.ErrConflict)
	b.ok(b.cat.RemoveReady(ctx, r.ID))
	_, err = b.cat.ReadyLogin(ctx, r.ID)
	b.is(err, catalog.ErrNotFound)
	o.Latest = 0
	_, err = b.cat.CreateTenant(ctx, catalog.TenantSpec{Slug: "newest"}, o)
	b.is(err, catalog.ErrConflict) // this binary is older than the fleet
}
