package fleet_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/tenantdb"
	"freehold/tenantdb/fleet"
)

// now deletes without grace.
var now = fleet.DeleteOptions{Now: true, Actor: "root@test"}

// state fails unless the tenant is in it.
func (b *bench) state(id catalog.TenantID, want catalog.State) catalog.Tenant {
	b.Helper()
	t, err := b.cat.Tenant(b.Context(), id)
	b.ok(err)
	if t.State != want {
		b.Fatalf("%s is %s, want %s", t.Slug, t.State, want)
	}
	return t
}

// When Delete has returned nobody is served: no key, no older truth, no session.
func TestG5_DeletedTenantIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme, token, err := b.fleet.Create(t.Context(), catalog.TenantSpec{Slug: "acme"})
	b.ok(err)
	free := make(chan struct{})
	close(free)
	node := b.node("node", free)
	if _, err := node.Authenticate(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	before, err := b.cat.Tenant(t.Context(), acme.ID)
	b.ok(err)
	conn, err := b.as(acme, acme.Database)
	b.ok(err)
	_, err = b.fleet.Delete(t.Context(), acme.ID, fleet.DeleteOptions{Actor: "root@test"})
	b.ok(err)
	b.state(acme.ID, catalog.Deleting)
	b.shut(acme)
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a session lives")
	}
	if err := b.admit(b.super(acme.Database), before.Epoch); !errors.Is(err, tenantdb.ErrFenced) {
		t.Errorf("who knows the old truth only: %v", err)
	}
	b.within(time.Second, "the key is refused", func() bool {
		_, err := node.Authenticate(t.Context(), token)
		return errors.Is(err, catalog.ErrInvalidKey)
	})
	if _, _, err := b.cat.CreateKey(t.Context(), acme.ID, catalog.KeySpec{Scopes: []string{catalog.ScopeAll}}); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("a new key: %v", err)
	}
}

// A deletion waits for its grace, can be brought forward and taken back, and then
// the tenant is what it was.
func TestDeleteAndUndelete(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme := b.create("acme")
	for _, bad := range []time.Duration{-time.Second, fleet.MaxGrace + 1} {
		if _, err := b.fleet.Delete(ctx, acme.ID, fleet.DeleteOptions{Grace: bad}); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("grace of %s: %v", bad, err)
		}
	}
	due := func(o fleet.DeleteOptions, want time.Duration) catalog.Operation {
		t.Helper()
		op, err := b.fleet.Delete(ctx, acme.ID, o)
		b.ok(err)
		if off := time.Until(op.RunAt) - want; off > 5*time.Second || off < -20*time.Second || op.State != catalog.OperationWaiting {
			t.Errorf("%+v: %s, due in %s", o, op.State, time.Until(op.RunAt))
		}
		return op
	}
	first := due(fleet.DeleteOptions{Actor: "root@test"}, fleet.DefaultGrace)
	for _, again := range []struct {
		grace, want time.Duration
	}{{8 * 24 * time.Hour, fleet.DefaultGrace}, {time.Hour, time.Hour}, {0, time.Hour}} {
		if op := due(fleet.DeleteOptions{Grace: again.grace}, again.want); op.ID != first.ID {
			t.Error("another operation")
		}
	}
	if err := b.fleet.Suspend(ctx, acme.ID); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("suspend: %v", err)
	}
	if err := b.fleet.Resume(ctx, acme.ID); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("resume: %v", err)
	}
	b.ok(b.fleet.Undelete(ctx, acme.ID))
	b.state(acme.ID, catalog.Suspended)
	b.shut(acme)
	if op, err := b.cat.Operation(ctx, first.ID); err != nil || op.State != catalog.OperationCancelled {
		t.Errorf("its operation is %s, %v", op.State, err)
	}
	if err := b.fleet.Undelete(ctx, acme.ID); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("undeleted twice: %v", err)
	}
	if err := b.fleet.Do(ctx, first.ID); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("the cancelled operation: %v", err)
	}
	b.ok(b.fleet.Resume(ctx, acme.ID))
	b.whole(b.state(acme.ID, catalog.Active), nil) // and looks from inside as the superuser, whom nobody can put out
	for super := b.super("postgres"); one[int](b, super, "select count(pg_terminate_backend(pid))::int from pg_stat_activity where datname = $1 and usename = current_user", acme.Database) > 0; {
		time.Sleep(10 * time.Millisecond)
	}

	// And once more, from suspended, to the end.
	b.ok(b.fleet.Suspend(ctx, acme.ID))
	second := due(now, 0)
	if second.ID == first.ID {
		t.Error("the cancelled operation came back")
	}
	b.ok(b.newFleet(fleet.Config{Blob: b.store()}).Do(ctx, second.ID))
	b.state(acme.ID, catalog.Deleted)
	for what, err := range map[string]error{
		"undelete": b.fleet.Undelete(ctx, acme.ID), "delete": errOf(b.fleet.Delete(ctx, acme.ID, now)),
		"suspend": b.fleet.Suspend(ctx, acme.ID), "resume": b.fleet.Resume(ctx, acme.ID),
	} {
		if !errors.Is(err, catalog.ErrNotFound) && !errors.Is(err, catalog.ErrConflict) {
			t.Errorf("%s of a deleted tenant: %v", what, err)
		}
	}
}

func errOf[T any](_ T, err error) error { return err }

// A tenant that moves, or is busy with another operation, isn't deleted.
func TestDeleteRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.create("acme")
	if _, err := b.fleet.Delete(t.Context(), catalog.NewTenantID(), now); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	paused, err := b.fleet.Pause(t.Context(), acme.ID)
	b.ok(err)
	if _, err := b.fleet.Delete(t.Context(), acme.ID, now); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("moving: %v", err)
	}
	b.ok(paused.Resume(t.Context()))
	other, err := b.cat.BeginOperation(t.Context(), catalog.OperationSpec{Kind: "backup", Tenant: acme.ID, Actor: "x", Steps: []string{"one"}})
	b.ok(err)
	_, err = b.fleet.Delete(t.Context(), acme.ID, now)
	var busy *catalog.Busy
	if !errors.As(err, &busy) || busy.Operation.ID != other.ID {
		t.Errorf("busy: %v", err)
	}
	b.state(acme.ID, catalog.Active)
	if err := b.fleet.Undelete(t.Context(), acme.ID); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("undelete of an active tenant: %v", err)
	}
}

// Killed while it was being made, a tenant is deleted without grace and bill,
// whatever there is of it.
func TestDeleteOfAHalfMadeTenant(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, last := range []string{"register", "role", "database", "identity"} {
		ctx, kill := context.WithCancel(t.Context())
		f := b.newFleet(fleet.Config{Blob: b.store()})
		f.Crash(func(point string) {
			if point == "onboard/"+last+":recorded" {
				kill()
			}
		})
		if _, _, err := f.Create(ctx, catalog.TenantSpec{Slug: "half-" + last}); err == nil {
			t.Fatalf("%s: made", last)
		}
		made, err := b.cat.TenantBySlug(t.Context(), "half-"+last)
		b.ok(err)
		var busy *catalog.Busy
		if _, err := f.Delete(t.Context(), made.ID, now); !errors.As(err, &busy) {
			t.Fatalf("%s: while a worker may go on: %v", last, err)
		}
		_, err = b.cat.CancelOperation(t.Context(), busy.Operation.ID)
		b.ok(err)
		op, err := f.Delete(t.Context(), made.ID, fleet.DeleteOptions{Actor: "root@test"})
		b.ok(err)
		if wait := time.Until(op.RunAt); wait > time.Second {
			t.Errorf("%s: waits for %s", last, wait)
		}
		if err := f.Undelete(t.Context(), made.ID); !errors.Is(err, catalog.ErrConflict) {
			t.Errorf("%s: undeleted: %v", last, err)
		}
		b.ok(f.Do(t.Context(), op.ID))
		b.state(made.ID, catalog.Deleted)
		if n := one[int](b, b.super("postgres"), `
			select (select count(*) from pg_database where datname = $1)::int + (select count(*) from pg_roles where rolname = $1)::int`, made.Database); n != 0 {
			t.Errorf("%s: %d of database and role are left", last, n)
		}
		if _, r, err := f.Receipt(t.Context(), made.ID.String()); err != nil || len(r.Bill) != 0 {
			t.Errorf("%s: receipt %+v %v", last, r, err)
		}
	}
}

// Whatever somebody or an earlier run has destroyed already is found gone; and the
// receipt that was made stands.
func TestDeleteOfWhatIsGone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	store := b.store()
	f := b.newFleet(fleet.Config{Blob: store})
	acme, _, err := f.Create(ctx, catalog.TenantSpec{Slug: "acme"})
	b.ok(err)
	super, conn := b.super("postgres"), b.catalogDB()
	for _, sql := range []string{"drop database " + acme.Database, "drop role " + acme.Role} {
		_, err := super.Exec(ctx, sql)
		b.ok(err)
	}
	b.ok(store.Drop(ctx, acme.ID))
	op, err := f.Delete(ctx, acme.ID, now)
	b.ok(err)
	b.ok(f.Do(ctx, op.ID))
	b.state(acme.ID, catalog.Deleted)
	first, _, err := f.Receipt(ctx, acme.ID.String())
	b.ok(err)
	// As if the worker had been killed before the last step was recorded, and nothing
	// before it.
	for _, sql := range []string{
		"update tenants set state = 'deleting' where id = $1",
		"update operations set state = 'failed' where tenant = $1 and kind = 'delete'",
		"update operation_steps set state = 'running' where operation in (select id from operations where tenant = $1 and kind = 'delete')",
	} {
		_, err := conn.Exec(ctx, sql, acme.ID)
		b.ok(err)
	}
	again, err := f.Delete(ctx, acme.ID, now)
	b.ok(err)
	if again.ID != op.ID || again.State != catalog.OperationWaiting {
		t.Errorf("goes on as %+v", again)
	}
	b.ok(f.Do(ctx, again.ID))
	b.state(acme.ID, catalog.Deleted)
	second, _, err := f.Receipt(ctx, acme.ID.String())
	b.ok(err)
	if second.Document != first.Document || !second.MadeAt.Equal(first.MadeAt) {
		t.Error("another receipt")
	}
	// And only the record of the last step is missing.
	_, err = conn.Exec(ctx, "update operations set state = 'failed' where id = $1", op.ID)
	b.ok(err)
	_, err = conn.Exec(ctx, "update operation_steps set state = 'running' where operation = $1 and name = 'deleted'", op.ID)
	b.ok(err)
	b.ok(f.Do(ctx, op.ID))
}

// A database that says that it is another tenant's is left alone.
func TestDeleteSparesAForeignDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	f := b.newFleet(fleet.Config{Blob: b.store()})
	acme := b.create("acme")
	b.inside(acme.Database, "update freehold.tenant_identity set tenant = $1", catalog.NewTenantID())
	op, err := f.Delete(ctx, acme.ID, now)
	b.ok(err)
	if err := f.Do(ctx, op.ID); !errors.Is(err, tenantdb.ErrForeign) {
		t.Errorf("deleted: %v", err)
	}
	if !one[bool](b, b.super("postgres"), "select exists (select from pg_database where datname = $1)", acme.Database) {
		t.Error("the database is gone")
	}
	if err := f.Undelete(ctx, acme.ID); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("undeleted once begun: %v", err)
	}
	if after, err := b.cat.Operation(ctx, op.ID); err != nil || after.State != catalog.OperationFailed {
		t.Errorf("the operation is %s, %v: it needs a person", after.State, err)
	}
	// That person mended it, and says it once more.
	b.inside(acme.Database, "update freehold.tenant_identity set tenant = $1", acme.ID)
	again, err := f.Delete(ctx, acme.ID, now)
	b.ok(err)
	b.ok(f.Do(ctx, again.ID))
	b.state(acme.ID, catalog.Deleted)
}

// When the object store or the server is away in the middle, the operation waits
// and goes on; nothing is said to be gone that nobody looked for.
func TestDeleteGoesOnWhenThingsWereAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	store, away := b.unsteady()
	f := b.newFleet(fleet.Config{Blob: store})
	acme := b.person(f, store, "acme")
	op, err := f.Delete(ctx, acme.ID, now)
	b.ok(err)

	back := b.serverAway()
	if err := f.Do(ctx, op.ID); !errors.Is(err, tenantdb.ErrUnavailable) {
		t.Errorf("without its server: %v", err)
	}
	b.waits(op.ID, "sessions")
	back()
	away.Store(true)
	if err := f.Do(ctx, op.ID); !errors.Is(err, fleet.ErrStore) {
		t.Errorf("without the store: %v", err)
	}
	b.waits(op.ID, "bill") // what was spooled belongs on it
	b.state(acme.ID, catalog.Deleting)
	// Who has no store can't say that nothing lies there.
	if err := b.fleet.Do(ctx, op.ID); !errors.Is(err, fleet.ErrStore) {
		t.Errorf("with no store: %v", err)
	}
	away.Store(false)
	b.ok(f.Do(ctx, op.ID))
	b.state(acme.ID, catalog.Deleted)
	b.receipt(f, acme, op, 0)
}

// waits fails unless the operation waits for another try of the step.
func (b *bench) waits(id, step string) {
	b.Helper()
	op, err := b.cat.Operation(b.Context(), id)
	b.ok(err)
	for _, s := range op.Steps {
		if s.Name == step && (s.State != "failed" || s.Error == "") {
			b.Errorf("step %s is %s: %q", step, s.State, s.Error)
		}
	}
	if op.State != catalog.OperationWaiting || op.Error == "" {
		b.Errorf("%s, %q", op.State, op.Error)
	}
}
