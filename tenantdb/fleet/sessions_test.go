package fleet_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb"
	"freehold/tenantdb/fleet"
)

const (
	sessionsOf = "select count(*)::int from pg_stat_activity where usename = $1"
	mayLogin   = "select rolcanlogin from pg_roles where rolname = $1"
)

// shut fails unless the tenant has no session and its role can't have one.
func (b *bench) shut(t catalog.Tenant) {
	b.Helper()
	super := b.super("postgres")
	if n := one[int](b, super, sessionsOf, t.Role); n != 0 {
		b.Errorf("%s: %d sessions", t.Slug, n)
	}
	if one[bool](b, super, mayLogin, t.Role) {
		b.Errorf("%s: its role may log in", t.Slug)
	}
	if _, err := b.as(t, t.Database); sqlstate(err) != "28000" {
		b.Errorf("%s: logged in: %v", t.Slug, err)
	}
}

// When Suspend has returned no session is left, those at work included, and none
// comes until Resume.
func TestG5_SuspendLeavesNoSession(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme, globex := b.create("acme"), b.create("globex")
	idle, err := b.as(acme, acme.Database)
	b.ok(err)
	busy, err := b.as(acme, acme.Database)
	b.ok(err)
	neighbour, err := b.as(globex, globex.Database)
	b.ok(err)
	ended := make(chan error, 1)
	go func() {
		_, err := busy.Exec(context.WithoutCancel(t.Context()), "select pg_sleep(30)")
		ended <- err
	}()
	began := time.Now()
	b.ok(b.fleet.Suspend(t.Context(), acme.ID))
	if took := time.Since(began); took < time.Second {
		t.Errorf("ended after %s: settles had no second", took)
	}
	b.shut(acme)
	select {
	case err := <-ended:
		if sqlstate(err) != "57P01" {
			t.Errorf("at work: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("still at work")
	}
	if err := idle.Ping(t.Context()); err == nil {
		t.Error("the idle session lives")
	}
	b.ok(neighbour.Ping(t.Context()))
	admin, err := b.fleet.Admin(t.Context(), "pg-1")
	b.ok(err)
	b.closeLater(admin)
	if one[bool](b, b.super("postgres"), "select pg_has_role($1, $2, 'usage')", admin.Config().User, acme.Role) {
		t.Error("the admin has kept the role")
	}
	for range 2 {
		b.ok(b.fleet.Resume(t.Context(), acme.ID))
		again, err := b.as(acme, acme.Database)
		b.ok(err)
		b.ok(tenantdb.Prove(t.Context(), again, acme.ID))
	}
}

// Whoever logs in again and again doesn't get past the end of Suspend.
func TestG5_SuspendAgainstOneWhoInsists(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.create("acme")
	route, err := b.cat.Route(t.Context(), acme.ID)
	b.ok(err)
	ctx, stop := context.WithCancel(t.Context())
	var insisting sync.WaitGroup
	for range 4 {
		insisting.Go(func() {
			for ctx.Err() == nil {
				conn, err := pgx.ConnectConfig(ctx, route.Config.Copy())
				if err != nil {
					continue
				}
				_, _ = conn.Exec(ctx, "select pg_sleep(0.05)")
				_ = conn.Close(context.WithoutCancel(ctx))
			}
		})
	}
	defer insisting.Wait()
	defer stop()
	rounds := 1
	if pgtest.Long() {
		rounds = 10
	}
	for range rounds {
		time.Sleep(100 * time.Millisecond)
		b.ok(b.fleet.Suspend(t.Context(), acme.ID))
		super := b.super("postgres")
		for until := time.Now().Add(300 * time.Millisecond); time.Now().Before(until); {
			// Who is refused while logging in is no session of the tenant's.
			if n := one[int](b, super, sessionsOf+" and backend_type = 'client backend' and state is not null", acme.Role); n != 0 {
				t.Fatalf("%d sessions after Suspend", n)
			}
		}
		b.ok(b.fleet.Resume(t.Context(), acme.ID))
	}
}

// A tenant that nobody is connected to is suspended without waiting.
func TestSuspendOfAnIdleTenantIsQuick(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.create("acme")
	best := time.Hour
	for range 3 {
		began := time.Now()
		b.ok(b.fleet.Suspend(t.Context(), acme.ID))
		best = min(best, time.Since(began))
		b.shut(acme)
		b.ok(b.fleet.Resume(t.Context(), acme.ID))
	}
	if best >= time.Second {
		t.Errorf("took %s at best: it waited for settles of nobody", best)
	}
}

// Suspended by a release that left the role as it was, a tenant is shut by the same
// command, and resumed.
func TestSuspendedByAnOlderRelease(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.create("acme")
	older := func() {
		_, err := b.cat.SetState(t.Context(), acme.ID, catalog.Suspended, catalog.Active)
		b.ok(err)
	}
	older()
	b.ok(b.fleet.Resume(t.Context(), acme.ID))
	_, err := b.as(acme, acme.Database)
	b.ok(err)
	older()
	b.ok(b.fleet.Suspend(t.Context(), acme.ID))
	b.shut(acme)
}

// Suspended and resumed at once by many, a tenant ends as its state says.
func TestSuspendAndResumeAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.create("acme")
	rounds := 3
	if pgtest.Long() {
		rounds = 20
	}
	for range rounds {
		var calls sync.WaitGroup
		for i := range 6 {
			call := b.fleet.Suspend
			if i%2 == 0 {
				call = b.fleet.Resume
			}
			calls.Go(func() {
				if err := call(t.Context(), acme.ID); err != nil && !errors.Is(err, catalog.ErrConflict) {
					t.Errorf("call %d: %v", i, err)
				}
			})
		}
		calls.Wait()
		now, err := b.cat.Tenant(t.Context(), acme.ID)
		b.ok(err)
		if may := one[bool](b, b.super("postgres"), mayLogin, acme.Role); may != (now.State == catalog.Active) {
			t.Fatalf("%s, and its role may log in: %v", now.State, may)
		}
	}
}

// Nobody is told that no session is left when nobody could look; the same call goes
// on.
func TestSuspendWhenItsServerIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.create("acme")
	back := b.serverAway()
	b.fleet.Patience(time.Second)
	err := b.fleet.Suspend(t.Context(), acme.ID)
	if !errors.Is(err, fleet.ErrUnfenced) || !errors.Is(err, tenantdb.ErrUnavailable) {
		t.Errorf("suspended: %v", err)
	}
	if err := b.fleet.Resume(t.Context(), acme.ID); !errors.Is(err, tenantdb.ErrUnavailable) {
		t.Errorf("resumed: %v", err)
	}
	now, err := b.cat.Tenant(t.Context(), acme.ID)
	b.ok(err)
	if now.State != catalog.Suspended {
		t.Errorf("left %s", now.State)
	}
	back()
	b.ok(b.fleet.Suspend(t.Context(), acme.ID))
	b.shut(acme)
	b.ok(b.fleet.Resume(t.Context(), acme.ID))
}

// serverAway has the catalog send everybody to a port where nobody listens, until
// back.
func (b *bench) serverAway() (back func()) {
	b.Helper()
	conn := b.catalogDB()
	port := one[int](b, conn, "select port from servers where name = 'pg-1'")
	set := func(port int) {
		_, err := conn.Exec(b.Context(), "update servers set port = $1 where name = 'pg-1'", port)
		b.ok(err)
	}
	set(1)
	return func() { set(port) }
}

// catalogDB is the catalog's database, past every API.
func (b *bench) catalogDB() *pgx.Conn {
	b.Helper()
	cfg, err := pgx.ParseConfig(b.cfg.URL)
	b.ok(err)
	return b.super(cfg.Database)
}
