package fleet_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/catalog/catalogtest"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/fleet"
)

// two is a bench with two servers, pg-1 and pg-2, whose admins are superusers: only
// those may replicate on Postgres 15.
func two(t testing.TB) *bench {
	t.Helper()
	b := &bench{TB: t}
	b.cat, b.cfg = catalogtest.Open(t)
	b.fleet = b.newFleet(fleet.Config{Heartbeat: beat, DeadAfter: nodeDead})
	for name, at := range map[string]string{"pg-1": pgtest.SuperURL(t), "pg-2": pgtest.SecondSuperURL(t)} {
		u, err := url.Parse(at)
		b.ok(err)
		password, _ := u.User.Password()
		_, err = b.fleet.AddServer(t.Context(), fleet.ServerAdd{
			Name: name, Password: password, URL: "postgres://" + u.User.Username() + "@" + u.Host + "/postgres?sslmode=disable",
		})
		b.ok(err)
	}
	// Nothing but the tests' own choice places tenants.
	draining := catalog.ServerDraining
	_, err := b.cat.SetServer(t.Context(), "pg-2", catalog.ServerPatch{State: &draining})
	b.ok(err)
	return b
}

// openSecond lets pg-2 take tenants.
func (b *bench) openSecond() {
	b.Helper()
	active := catalog.ServerActive
	_, err := b.cat.SetServer(b.Context(), "pg-2", catalog.ServerPatch{State: &active})
	b.ok(err)
}

// at connects to a database of either server, as its superuser.
func (b *bench) at(server, database string) *pgx.Conn {
	b.Helper()
	address := pgtest.SuperURL(b)
	if server == "pg-2" {
		address = pgtest.SecondSuperURL(b)
	}
	cfg, err := pgx.ParseConfig(address)
	b.ok(err)
	cfg.Database = database
	conn, err := pgx.ConnectConfig(b.Context(), cfg)
	b.ok(err)
	b.closeLater(conn)
	return conn
}

// furnish gives a tenant some rows of a product.
func (b *bench) furnish(t catalog.Tenant) {
	b.Helper()
	_, err := b.at(t.Server, t.Database).Exec(b.Context(), `
		create schema shop authorization freehold_owner;
		set role freehold_owner;
		create table shop.orders (id bigint generated always as identity primary key, what text not null, at timestamptz default now());
		create index on shop.orders (at);
		grant usage on schema shop to freehold_tenant;
		grant select, insert, update, delete on shop.orders to freehold_tenant;
		insert into shop.orders (what) select repeat('x', 200) || n from generate_series(1, 500) n`)
	b.ok(err)
}

// writer adds orders as the tenant's role, wherever the tenant lives by what the
// catalog says, as fast as it can: a node that never waits. It ends with stop, and
// tells how many rows it was told are there.
type writer struct {
	done, refused atomic.Int64
	stop          func()
}

// orders are how many rows there may be besides those of the beginning: those that it
// was told of, and of each refusal it was told of nothing.
func (w *writer) orders() (least, most int64) {
	return 500 + w.done.Load(), 500 + w.done.Load() + w.refused.Load()
}

// addOrder adds one, as requests do: what the fence says is asked in the same transaction.
func addOrder(ctx context.Context, conn *pgx.Conn, epoch int64) error {
	var batch pgx.Batch
	batch.Queue(`select freehold.check_fence($1)`, epoch)
	batch.Queue(`insert into shop.orders (what) values ('served')`)
	return conn.SendBatch(ctx, &batch).Close()
}

func (b *bench) writes(id catalog.TenantID) *writer {
	w := &writer{}
	ctx, cancel := context.WithCancel(b.Context())
	var all sync.WaitGroup
	all.Go(func() {
		for ctx.Err() == nil {
			route, err := b.cat.Route(ctx, id)
			if err != nil || route.State != catalog.Active {
				time.Sleep(5 * time.Millisecond)
				continue
			}
			conn, err := pgx.ConnectConfig(ctx, route.Config)
			if err != nil {
				w.refused.Add(1)
				time.Sleep(5 * time.Millisecond)
				continue
			}
			for ctx.Err() == nil {
				if err := addOrder(ctx, conn, route.Epoch); err != nil {
					w.refused.Add(1)
					break
				}
				w.done.Add(1)
			}
			_ = conn.Close(context.WithoutCancel(ctx))
		}
	})
	w.stop = func() { cancel(); all.Wait() }
	b.Cleanup(w.stop)
	return w
}

// moved fails unless the tenant is served on pg-2 with all its rows, is kept on pg-1
// under another name that nobody can connect to, and nothing else is left of the move.
func (b *bench) moved(id catalog.TenantID, least, most int64) {
	b.Helper()
	t, err := b.cat.Tenant(b.Context(), id)
	b.ok(err)
	if t.State != catalog.Active || t.Server != "pg-2" {
		b.Errorf("%s: %s on %s", t.Slug, t.State, t.Server)
		return
	}
	there := b.at("pg-2", t.Database)
	if n := one[int64](b, there, "select count(*) from shop.orders"); n < least || n > most {
		b.Errorf("%s: %d orders, want %d to %d", t.Slug, n, least, most)
	}
	if fence := one[int64](b, there, "select fence from freehold.tenant_identity"); fence != t.Epoch {
		b.Errorf("%s: fence %d, epoch %d", t.Slug, fence, t.Epoch)
	}
	conn, err := b.as(t, t.Database)
	b.ok(err)
	_, err = conn.Exec(b.Context(), "insert into shop.orders (what) values ('after')") // its sequence went along
	b.ok(err)
	kept, err := b.cat.KeptDatabases(b.Context(), catalog.KeptFilter{Tenant: id})
	b.ok(err)
	old := b.at("pg-1", "postgres")
	if len(kept) != 1 || kept[0].Server != "pg-1" || kept[0].Why != catalog.KeptMoved || kept[0].DropAt == nil ||
		one[int64](b, old, "select count(*) from pg_database where datname = $1 and not datallowconn", kept[0].Database) != 1 {
		b.Errorf("%s: kept %+v", t.Slug, kept)
	}
	b.apart(t, "pg-1")
}

// apart fails if a server has anything of a tenant that doesn't live there.
func (b *bench) apart(t catalog.Tenant, server string) {
	b.Helper()
	conn := b.at(server, "postgres")
	if n := one[int64](b, conn, "select count(*) from pg_database where datname = $1", t.Database); n != 0 {
		b.Errorf("%s: a database of its name on %s", t.Slug, server)
	}
}

// unlinked fails if a replication of a move of these tenants is left.
func (b *bench) unlinked(ops ...catalog.Operation) {
	b.Helper()
	for _, server := range []string{"pg-1", "pg-2"} {
		conn := b.at(server, "postgres")
		for _, o := range ops {
			name := b.fleet.LinkOf(b.Context(), o.ID)
			n := one[int64](b, conn, `select (select count(*) from pg_replication_slots where slot_name = $1)
				+ (select count(*) from pg_roles where rolname = $1) + (select count(*) from pg_subscription where subname = $1)`, name)
			if n != 0 {
				b.Errorf("%s: %d things left of the replication", server, n)
			}
		}
	}
}

// A tenant moves while it is written to: every row that somebody was told of is
// there, and it goes on being written to.
func TestG6_MoveLosesNothing(t *testing.T) {
	t.Parallel()
	b := two(t)
	acme := b.create("acme")
	b.furnish(acme)
	b.openSecond()
	w := b.writes(acme.ID)
	b.until("it is written to", func() bool { return w.done.Load() > 20 })
	op, err := b.fleet.Move(t.Context(), acme.ID, fleet.MoveOptions{To: "pg-2", Actor: "test"})
	b.ok(err)
	if op.State != catalog.OperationDone {
		t.Fatalf("%+v", op)
	}
	before := w.done.Load()
	b.until("it is written to again", func() bool { return w.done.Load() > before+20 })
	w.stop()
	notes, err := op.Notes()
	b.ok(err)
	if len(notes["pause_ms"]) == 0 {
		t.Errorf("notes: %v", notes)
	}
	least, most := w.orders()
	b.moved(acme.ID, least, most)
	b.unlinked(op)
	t.Logf("%d rows, %d refused, pause %s ms", w.done.Load(), w.refused.Load(), notes["pause_ms"])

	// What is kept goes in the end, and with it what was for it alone.
	past := time.Now().Add(-time.Minute)
	kept, err := b.cat.KeptDatabases(t.Context(), catalog.KeptFilter{Tenant: acme.ID})
	b.ok(err)
	kept[0].DropAt = &past
	b.ok(b.cat.KeepDatabase(t.Context(), kept[0]))
	b.ok(b.fleet.DropKept(t.Context()))
	conn := b.at("pg-1", "postgres")
	if n := one[int64](b, conn, `select (select count(*) from pg_database where datname = $1)
		+ (select count(*) from pg_roles where rolname = $2)`, kept[0].Database, acme.Role); n != 0 {
		t.Error("the kept database or its role is still there")
	}
	b.nothingLeft(nil)
}

// Suspended, it is copied: it stays suspended, and its role is out.
func TestMove_suspended(t *testing.T) {
	t.Parallel()
	b := two(t)
	acme := b.create("acme")
	b.furnish(acme)
	b.ok(b.fleet.Suspend(t.Context(), acme.ID))
	b.openSecond()
	op, err := b.fleet.Move(t.Context(), acme.ID, fleet.MoveOptions{To: "pg-2", Actor: "test"})
	b.ok(err)
	now, err := b.cat.Tenant(t.Context(), acme.ID)
	b.ok(err)
	if op.State != catalog.OperationDone || now.State != catalog.Suspended || now.Server != "pg-2" {
		t.Fatalf("%s; %s on %s", op.State, now.State, now.Server)
	}
	if _, err := b.as(now, now.Database); err == nil {
		t.Error("its role may log in")
	}
	b.ok(b.fleet.Resume(t.Context(), acme.ID))
	b.moved(acme.ID, 500, 500)
}

// What can't be begun changes nothing.
func TestMove_refused(t *testing.T) {
	t.Parallel()
	b := two(t)
	ctx := t.Context()
	acme := b.create("acme")
	var full *catalog.Full
	if _, err := b.fleet.Move(ctx, acme.ID, fleet.MoveOptions{To: "pg-2"}); !errors.As(err, &full) {
		t.Errorf("to a server that takes nobody: %v", err)
	}
	b.openSecond()
	for what, o := range map[string]fleet.MoveOptions{
		"way":  {To: "pg-2", Way: "carrier pigeon"},
		"home": {To: "pg-1"},
	} {
		if _, err := b.fleet.Move(ctx, acme.ID, o); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := b.fleet.Move(ctx, acme.ID, fleet.MoveOptions{To: "pg-9"}); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("unknown server: %v", err)
	}
	// A table that a replication can't follow, and more of it than a pause may take.
	conn := b.at("pg-1", acme.Database)
	_, err := conn.Exec(ctx, `set role freehold_owner; create schema shop; create table shop.log (line text)`)
	b.ok(err)
	if _, err := b.fleet.Move(ctx, acme.ID, fleet.MoveOptions{To: "pg-2", Way: fleet.ByReplication}); !errors.Is(err, fleet.ErrNeedsPause) || !strings.Contains(err.Error(), "log") {
		t.Errorf("by replication: %v", err)
	}
	p, err := b.fleet.PlanMove(ctx, acme.ID, fleet.MoveOptions{To: "pg-2"})
	b.ok(err)
	if p.Way != fleet.ByCopy || len(p.Why) == 0 || p.Pause < time.Second {
		t.Errorf("plan %+v", p)
	}
	list, err := b.cat.Operations(ctx, catalog.OperationFilter{Kind: catalog.KindMove})
	b.ok(err)
	if now, err := b.cat.Tenant(ctx, acme.ID); err != nil || now.Epoch != acme.Epoch || len(list) != 0 {
		t.Errorf("%+v %v, %d operations", now, err, len(list))
	}
	b.apart(acme, "pg-2")
}

// A node that was cut off may be in the middle of something: its connection isn't
// closed before it counts as dead, and the tenant lives nowhere else before. What it
// writes meanwhile the fence refuses, and afterwards nothing of it reaches the old
// database.
func TestG4_AMoveLeavesACutOffNodeItsConnectionUntilItIsDead(t *testing.T) {
	t.Parallel()
	b := two(t)
	ctx := t.Context()
	acme := b.create("acme")
	b.furnish(acme)
	b.openSecond()
	began := time.Now()
	b.mute("cut-off")
	old, err := b.cat.Route(ctx, acme.ID)
	b.ok(err)
	conn, err := pgx.ConnectConfig(ctx, old.Config)
	b.ok(err)
	b.closeLater(conn)
	op, err := b.fleet.BeginMove(ctx, acme.ID, fleet.MoveOptions{To: "pg-2", Actor: "test"})
	b.ok(err)
	b.work(b.fleet)
	var written int64
	fenced := false
	for { // as it knows the tenant, for as long as it is let
		if err = addOrder(ctx, conn, old.Epoch); err == nil && !fenced {
			written++
		} else if err == nil {
			t.Error("it wrote behind the fence")
		}
		fenced = fenced || err != nil
		if _, err := conn.Exec(ctx, "select 1"); err != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if took := time.Since(began); took < nodeDead {
		t.Errorf("its connection was closed after %s, before it counted as dead", took)
	}
	b.settled(60 * time.Second)
	if again, err := b.cat.Operation(ctx, op.ID); err != nil || again.State != catalog.OperationDone {
		t.Fatalf("%+v %v", again, err)
	}
	if late, err := pgx.ConnectConfig(ctx, old.Config); err == nil {
		_ = late.Close(ctx)
		t.Error("it came into the old database again")
	}
	b.moved(acme.ID, 500+written, 500+written)
}

// nodeDead is for how long a node of these tests has to be silent.
const nodeDead = 3 * time.Second

// mute registers a node that never says anything again.
func (b *bench) mute(name string) {
	b.Helper()
	_, err := b.catalogDB().Exec(b.Context(), `insert into nodes (id, name, version, seen, born, heartbeat_at)
		values (gen_random_uuid(), $1, 'test', 0, 0, now())`, name)
	b.ok(err)
}
