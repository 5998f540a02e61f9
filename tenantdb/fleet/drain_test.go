package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/fleet"
)

// resides wants as many living tenants on a server, each where its database is.
func (b *bench) resides(server string, n int) {
	b.Helper()
	list, err := b.cat.Tenants(b.Context(), catalog.TenantFilter{Server: server, Limit: 100})
	b.ok(err)
	if len(list) != n {
		b.Errorf("%d tenants on %s, want %d", len(list), server, n)
	}
	conn := b.at(server, "postgres")
	for _, t := range list {
		if one[int](b, conn, "select count(*)::int from pg_database where datname = $1", t.Database) != 1 {
			b.Errorf("%s isn't on %s", t.Slug, server)
		}
	}
}

// Everybody leaves: active tenants and suspended ones, each by the same rules as one
// that is moved, and ready databases go. What there is no room for halts it, once it is
// more than is borne; the same again goes on.
func TestDrain(t *testing.T) {
	t.Parallel()
	b := two(t)
	ctx := t.Context()
	one := 1
	_, err := b.cat.SetServer(ctx, "pg-1", catalog.ServerPatch{Ready: &one})
	b.ok(err)
	var ids []catalog.TenantID
	for _, slug := range []string{"acme", "beta", "calm"} {
		ids = append(ids, b.create(slug).ID)
	}
	b.ok(b.fleet.RefillReady(ctx))
	b.ok(b.fleet.Suspend(ctx, ids[2]))
	b.openSecond()
	_, err = b.cat.SetServer(ctx, "pg-2", catalog.ServerPatch{MaxDatabases: &one})
	b.ok(err)
	spec := catalog.DrainSpec{Server: "pg-1", Actor: "test", Way: fleet.ByCopy, Parallel: 2, MaxFailures: 1}

	plan, err := b.fleet.PlanDrain(ctx, spec)
	b.ok(err)
	if len(plan.Moves) != 3 || len(plan.Refused) != 0 || plan.Ready != 1 || plan.Bytes == 0 || plan.Moves[0].Tenant != "acme" || plan.Moves[0].To != "pg-2" {
		t.Errorf("plan: %+v", plan)
	}

	d, err := b.fleet.BeginDrain(ctx, spec)
	b.ok(err)
	told := 0
	status, err := b.fleet.RunDrain(ctx, d.ID, func(catalog.DrainStatus) { told++ })
	if !errors.Is(err, fleet.ErrPartial) || status.State != catalog.DrainHalted || told == 0 {
		t.Fatalf("there was room for one alone: %+v, %v", status, err)
	}
	if status.Moved != 1 || status.Left != 2 || len(status.Failed) != 2 || status.Ready != 0 ||
		!strings.Contains(status.Error, "2 moves failed, 1 are borne") || !strings.Contains(status.Error, "pg-2: full, 1 of 1 databases") {
		t.Errorf("halted: %+v", status)
	}
	b.resides("pg-1", 2)
	b.resides("pg-2", 1)

	// Who has it go on dies with a move under way.
	none := 0
	_, err = b.cat.SetServer(ctx, "pg-2", catalog.ServerPatch{MaxDatabases: &none})
	b.ok(err)
	dead := catalog.Taker{Worker: "dead", Lease: beat}
	again, err := b.cat.BeginDrain(ctx, spec, dead)
	b.ok(err)
	for _, id := range ids {
		if now, err := b.cat.Tenant(ctx, id); err != nil || now.Server != "pg-1" {
			continue
		}
		op, err := b.fleet.BeginMove(ctx, id, fleet.MoveOptions{Way: fleet.ByCopy, Actor: "test"})
		b.ok(err)
		_, err = b.cat.TakeOperation(ctx, op.ID, dead)
		b.ok(err)
		break
	}
	stop := b.work(b.newFleet(fleet.Config{Heartbeat: beat}))
	status, err = b.fleet.RunDrain(ctx, again.ID, nil) // watches, or is quicker
	if err != nil || status.Moved != 3 {
		t.Errorf("%d moved, %v", status.Moved, err)
	}
	// The last one lives elsewhere, and its old database may not be kept yet.
	for deadline := time.Now().Add(30 * time.Second); err == nil && status.Kept < 3 && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		status, err = b.cat.DrainStatus(ctx, again.ID)
	}
	stop()
	if err != nil || again.ID != d.ID || status.State != catalog.DrainDone || status.Moved != 3 || status.Left != 0 || status.Kept != 3 || status.KeptUntil == nil {
		t.Errorf("done: %+v, %v", status, err)
	}
	b.resides("pg-1", 0)
	b.resides("pg-2", 3)
	for i, want := range []catalog.State{catalog.Active, catalog.Active, catalog.Suspended} {
		if now, err := b.cat.Tenant(ctx, ids[i]); err != nil || now.State != want {
			t.Errorf("%s is %s, want %s: %v", now.Slug, now.State, want, err)
		}
	}
	if list, err := b.cat.ReadyDatabases(ctx, "pg-1"); err != nil || len(list) != 0 {
		t.Errorf("ready databases: %+v, %v", list, err)
	}
	b.ok(b.fleet.RefillReady(ctx)) // makes none there
	if list, err := b.cat.ReadyDatabases(ctx, "pg-1"); err != nil || len(list) != 0 {
		t.Errorf("made on a server that is drained: %+v, %v", list, err)
	}
	if err := b.cat.RemoveServer(ctx, "pg-1"); !errors.Is(err, catalog.ErrConflict) || !strings.Contains(err.Error(), "keeps databases") {
		t.Errorf("removed with what it keeps: %v", err)
	}
}

// A tenant that is busy is waited for, and one whose making has failed halts it when
// nothing else is left.
func TestDrain_waits(t *testing.T) {
	t.Parallel()
	b := two(t)
	ctx := t.Context()
	acme := b.create("acme")
	by := catalog.Taker{Worker: "somebody", Lease: time.Minute}
	busy, err := b.cat.BeginOperation(ctx, catalog.OperationSpec{Kind: "audit", Tenant: acme.ID, Actor: "test", RunAt: time.Now().Add(time.Hour)})
	b.ok(err)
	made, err := b.fleet.Register(ctx, catalog.TenantSpec{Slug: "half"})
	b.ok(err)
	half, err := b.cat.TakeOperation(ctx, made.Operation.ID, by)
	b.ok(err)
	b.ok(b.cat.EndOperation(ctx, half, catalog.OperationFailed, "it broke", 0))
	b.openSecond()
	d, err := b.fleet.BeginDrain(ctx, catalog.DrainSpec{Server: "pg-1", Actor: "test", Way: fleet.ByCopy, Parallel: 4})
	b.ok(err)
	// Who is stopped leaves it to the next one.
	stopping, stop := context.WithCancel(ctx)
	defer stop()
	_, err = b.fleet.RunDrain(stopping, d.ID, func(catalog.DrainStatus) { stop() })
	if now, derr := b.cat.Drain(ctx, d.ID); derr != nil || !errors.Is(err, context.Canceled) || now.State != catalog.DrainRunning || now.Worker != "" {
		t.Errorf("stopped with %v: %+v, %v", err, now, derr)
	}
	var freed bool
	status, err := b.fleet.RunDrain(ctx, d.ID, func(s catalog.DrainStatus) {
		if !freed && s.Busy == 1 && s.Moved == 0 {
			freed = true
			_, err := b.cat.CancelOperation(ctx, busy.ID)
			b.ok(err)
		}
	})
	if !errors.Is(err, fleet.ErrPartial) || !freed || status.Moved != 1 || status.Left != 1 || !strings.Contains(status.Error, "half is provisioning") {
		t.Errorf("waited %t: %+v, %v", freed, status, err)
	}
	// Given up, it takes tenants again.
	if _, err := b.cat.CancelDrain(ctx, "pg-1", "test"); err != nil {
		t.Error(err)
	}
	if _, err := b.fleet.RunDrain(ctx, d.ID, nil); !errors.Is(err, fleet.ErrPartial) {
		t.Errorf("cancelled: %v", err)
	}
	if s, err := b.cat.Server(ctx, "pg-1"); err != nil || s.State != catalog.ServerActive {
		t.Errorf("%s, %v", s.State, err)
	}
}

// Killed wherever, with moves under way: another worker goes on until nobody lives there.
func TestDrain_killed(t *testing.T) {
	t.Parallel()
	var points []string // TestDrain has one that is as good as dead
	if pgtest.Long() {
		points = []string{"drain/turn", "drain/begun", "move/cutover:begun"}
	}
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			b := two(t)
			store, cfg := b.bucket()
			for i := range 2 {
				_, _, err := b.newFleet(fleet.Config{Blob: store}).Create(t.Context(), catalog.TenantSpec{Slug: fmt.Sprintf("t-%d", i)})
				b.ok(err)
			}
			b.openSecond()
			d, err := b.cat.BeginDrain(t.Context(), catalog.DrainSpec{Server: "pg-1", Actor: "test", Way: fleet.ByCopy, Parallel: 2}, catalog.Taker{})
			b.ok(err)
			o := b.orders(cfg)
			o.Drain, o.DieAt, o.DeadAfter = d.ID, point, nodeDead
			b.dies(o)
			b.work(b.newFleet(fleet.Config{Blob: store, Heartbeat: beat, DeadAfter: nodeDead}))
			var now catalog.Drain
			for deadline := time.Now().Add(4 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
				now, err = b.cat.Drain(t.Context(), d.ID)
				b.ok(err)
				if now.State != catalog.DrainRunning {
					break
				}
			}
			if now.State != catalog.DrainDone {
				moves, merr := b.cat.Operations(t.Context(), catalog.OperationFilter{Kind: catalog.KindMove})
				t.Fatalf("%+v\n%+v %v", now, moves, merr)
			}
			b.resides("pg-1", 0)
			b.resides("pg-2", 2)
			b.nothingLeft(store)
		})
	}
}
