package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/fleet"
)

// A worker that is told to stop leaves its operation to the next one at once, and
// that was no failed try: also when it stops in the middle of a migration.
func TestWork_stopped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.newFleet(fleet.Config{Tenant: with("select pg_sleep(3);")})
	made, err := f.Register(t.Context(), catalog.TenantSpec{Slug: "acme"})
	b.ok(err)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	f.Crash(func(point string) {
		if point == "onboard/template:begun" {
			time.AfterFunc(700*time.Millisecond, stop)
		}
	})
	if err := f.Work(ctx); err != nil {
		t.Error(err)
	}
	o, err := b.cat.Operation(t.Context(), made.Operation.ID)
	b.ok(err)
	if o.State != catalog.OperationWaiting || o.RunAt.After(time.Now().Add(50*time.Millisecond)) || o.Attempts != 0 {
		t.Errorf("stopped: %s %q, attempts %d, due in %s", o.State, o.Error, o.Attempts, time.Until(o.RunAt))
	}
}

// A cancellation that comes when the tenant is active already is refused, and the
// tenant isn't busy for ever.
func TestCancelOnboarding_too_late(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store, cfg := b.bucket()
	o := b.orders(cfg)
	o.Create, o.DieAt = "acme", "onboard/activate:made"
	b.dies(o)
	f := b.newFleet(fleet.Config{Blob: store, Heartbeat: beat})
	list, err := b.cat.Operations(t.Context(), catalog.OperationFilter{Tenant: "acme"})
	b.ok(err)
	if _, err := f.CancelOperation(t.Context(), list[0].ID, "ops"); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("cancelled when it was active: %v", err)
	}
	b.work(f)
	b.settled(10 * time.Second)
	done, err := b.cat.Operation(t.Context(), list[0].ID)
	b.ok(err)
	if done.State != catalog.OperationDone {
		t.Errorf("%+v", done)
	}
	acme, err := b.cat.TenantBySlug(t.Context(), "acme")
	b.ok(err)
	b.whole(acme, store)
}

// An onboarding that failed makes nothing any more once its tenant is deleted.
func TestOnboarding_of_a_deleted_tenant(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store := b.store()
	f := b.newFleet(fleet.Config{Blob: store, Heartbeat: beat})
	made, err := f.Register(t.Context(), catalog.TenantSpec{Slug: "acme"})
	b.ok(err)
	taken, err := b.cat.TakeOperation(t.Context(), made.Operation.ID, catalog.Taker{Worker: "w", Lease: time.Minute})
	b.ok(err)
	b.ok(b.cat.EndOperation(t.Context(), taken, catalog.OperationFailed, "it broke", 0))
	deletion, err := f.Delete(t.Context(), made.Tenant.ID, fleet.DeleteOptions{Now: true, Actor: "ops"})
	b.ok(err)
	failing, err := b.cat.TakeOperation(t.Context(), deletion.ID, catalog.Taker{Worker: "w", Lease: time.Minute})
	b.ok(err)
	b.ok(b.cat.EndOperation(t.Context(), failing, catalog.OperationFailed, "it broke", 0))
	if err := f.Do(t.Context(), made.Operation.ID); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("its tenant is being deleted: %v", err)
	}
	b.ok(f.Do(t.Context(), deletion.ID))
	if err := f.Do(t.Context(), made.Operation.ID); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("its tenant is deleted: %v", err)
	}
	b.nothingLeft(store)
}

// The fleet's version can fall: ready databases above it are replaced.
func TestRefillReady_above_the_fleet(t *testing.T) {
	t.Parallel()
	b := setup(t)
	newer := b.newFleet(fleet.Config{Tenant: with("create table freehold.notes (n integer);")})
	b.setReady(2)
	dying, die := context.WithCancel(t.Context())
	defer die()
	n := 0
	newer.Crash(func(point string) {
		if point == "ready/identity:made" {
			if n++; n == 2 {
				die()
			}
		}
	})
	if err := newer.RefillReady(dying); err == nil {
		t.Error("it was not stopped")
	}
	newer.Crash(nil)
	b.create("acme")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b.ok(newer.RefillReady(ctx))
	list, err := b.cat.ReadyDatabases(ctx, "")
	b.ok(err)
	for _, r := range list {
		has := one[bool](b, b.super(r.ID.DatabaseName()), "select to_regclass('freehold.notes') is not null")
		if r.State != "ready" || r.SchemaVersion != latest || has {
			t.Errorf("%+v, newer schema: %t", r, has)
		}
	}
	if len(list) != 2 {
		t.Errorf("%+v", list)
	}
}

// One that can't be made leaves the others to be.
func TestRefillReady_one_fails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bad, added, err := b.cat.AddReady(t.Context(), "pg-1", 1)
	b.ok(err)
	if !added {
		t.Fatal("not added")
	}
	super := b.super("postgres")
	for _, sql := range []string{"create database " + bad.ID.DatabaseName(), "revoke all on database " + bad.ID.DatabaseName() + " from public"} {
		_, err = super.Exec(t.Context(), sql)
		b.ok(err)
	}
	b.setReady(3)
	if err := b.fleet.RefillReady(t.Context()); err == nil || !strings.Contains(err.Error(), bad.ID.String()) {
		t.Errorf("which failed isn't told: %v", err)
	}
	list, err := b.cat.ReadyDatabases(t.Context(), "pg-1")
	b.ok(err)
	ready := 0
	for _, r := range list {
		if r.State == "ready" {
			ready++
		}
	}
	if ready != 2 {
		t.Errorf("ready: %+v", list)
	}
}

// A template that the fleet has left behind goes when the next one is made, and an
// onboarding that waited meanwhile makes it again; its tenant is brought to where the
// fleet is by then.
func TestTemplates_left_behind(t *testing.T) {
	t.Parallel()
	b := setup(t)
	set := with("create table freehold.left_behind (n integer);") // this test's own: templates are shared
	older := b.newFleet(fleet.Config{Tenant: set})
	_, _, err := older.Create(t.Context(), catalog.TenantSpec{Slug: "acme"})
	b.ok(err)
	super := b.super("postgres")
	there := func(f *fleet.Fleet) bool {
		return one[bool](b, super, "select exists (select from pg_database where datname = $1)", f.Template())
	}
	waits, err := older.Register(t.Context(), catalog.TenantSpec{Slug: "waits"})
	b.ok(err)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	older.Crash(func(point string) {
		if point == "onboard/template:recorded" {
			stop()
		}
	})
	if err := older.Do(ctx, waits.Operation.ID); !errors.Is(err, context.Canceled) || !there(older) {
		t.Fatalf("%v", err)
	}
	newer := b.newFleet(fleet.Config{Tenant: set.With(fstest.MapFS{
		fmt.Sprintf("%05d_more.sql", latest+2): {Data: []byte("-- +goose Up\ncreate table freehold.more (n integer);\n")},
	})})
	b.ok(newer.Upgrade(t.Context(), "ops"))
	_, _, err = newer.Create(t.Context(), catalog.TenantSpec{Slug: "globex"})
	b.ok(err)
	if there(older) || !there(newer) {
		t.Errorf("left: %t, made: %t", there(older), there(newer))
	}
	b.ok(newer.Do(t.Context(), waits.Operation.ID))
	made, err := b.cat.Tenant(t.Context(), waits.Tenant.ID)
	b.ok(err)
	if made.State != catalog.Active || made.SchemaVersion != latest+2 {
		t.Errorf("%+v", made)
	}
}

// While the catalog doesn't answer, a worker that could give no sign of life thinks
// itself dead before another one can take its operation; nobody waits for ever.
func TestWork_catalog_silent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	silent := &frozen{}
	cfg := b.cfg
	cfg.URL = silent.start(b, cfg.URL)
	cat, err := catalog.Open(t.Context(), cfg)
	b.ok(err)
	t.Cleanup(cat.Close)
	f, err := fleet.New(fleet.Config{Catalog: cat, Heartbeat: beat})
	b.ok(err)
	made, err := f.Register(t.Context(), catalog.TenantSpec{Slug: "acme"})
	b.ok(err)
	f.Crash(func(point string) {
		if point == "onboard/role:begun" {
			silent.freeze()
			time.Sleep(4 * beat)
		}
	})
	began := time.Now()
	err = f.Do(t.Context(), made.Operation.ID)
	if !errors.Is(err, catalog.ErrLost) || time.Since(began) > 20*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	b.work(b.newFleet(fleet.Config{Heartbeat: beat}))
	b.settled(20 * time.Second)
	acme, err := b.cat.TenantBySlug(t.Context(), "acme")
	b.ok(err)
	b.whole(acme, nil)
}

// frozen is a way to a server that can fall silent.
type frozen struct {
	silent chan struct{}
	once   sync.Once
}

func (f *frozen) freeze() { f.once.Do(func() { close(f.silent) }) }

// start serves it until the test ends, and returns the URL that goes by it.
func (f *frozen) start(b *bench, to string) string {
	b.Helper()
	f.silent = make(chan struct{})
	u, err := url.Parse(to)
	b.ok(err)
	target := u.Host
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	b.ok(err)
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	b.Cleanup(func() {
		cancel()
		_ = ln.Close()
		all.Wait()
	})
	pump := func(from, to net.Conn) {
		buf := make([]byte, 1<<14)
		for {
			n, err := from.Read(buf)
			select {
			case <-f.silent:
				<-ctx.Done()
			default:
			}
			if err == nil {
				_, err = to.Write(buf[:n])
			}
			if err != nil {
				_, _ = from.Close(), to.Close()
				return
			}
		}
	}
	all.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				_ = in.Close()
				continue
			}
			context.AfterFunc(ctx, func() { _, _ = in.Close(), out.Close() })
			all.Go(func() { pump(in, out) })
			all.Go(func() { pump(out, in) })
		}
	})
	u.Host = ln.Addr().String()
	return u.String()
}
