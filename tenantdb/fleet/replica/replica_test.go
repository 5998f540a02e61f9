package replica_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/migrations/pgtest"
	"freehold/tenantdb/fleet/replica"
)

// All of it in the order of a move: every type, partitions, sequences, changes under
// way and a killed worker; then what somebody else does on the target is found.
func TestReplication(t *testing.T) {
	t.Parallel()
	p := newPair(t, "all")
	must(t, p.owner, fill)
	p.begin(t)
	p.begin(t) // after a worker was killed anywhere in it
	p.catchUp(t)

	work := p.work(t)
	if n := ask[int](t, p.target, "select count(pg_terminate_backend(pid)) from pg_stat_subscription where subname = $1", p.name); n == 0 {
		t.Error("no worker to kill")
	}
	before, err := replica.BeforePause(t.Context(), p.source, p.target, p.name)
	check(t, err)
	check(t, replica.Freshen(t.Context(), p.source, p.target, before))
	noted, err := json.Marshal(before)
	check(t, err)
	before = replica.Compared{}
	check(t, json.Unmarshal(noted, &before))
	work.end(t)

	// A transaction that wasn't on disk when it was acknowledged.
	must(t, p.owner, "set synchronous_commit = off; insert into app.item (n) values (-1); truncate app.log_low")
	if d := p.catchUp(t); d > 10*time.Second {
		t.Errorf("catching up took %s", d)
	}
	check(t, replica.InPause(t.Context(), p.source, p.target, before))
	check(t, replica.InPause(t.Context(), p.source, p.target, before.ByKeys()))
	check(t, replica.Same(t.Context(), p.source, p.target))
	if n := ask[int](t, p.target, "select count(*) from app.item where n = -1"); n != 1 {
		t.Errorf("the last row is there %d times", n)
	}
	progress, err := replica.ReadProgress(t.Context(), p.source, p.target, p.name)
	check(t, err)
	if progress.Tables != 6 || progress.Ready != 6 || progress.Behind > 1<<20 {
		t.Errorf("progress = %+v", progress)
	}

	n, err := replica.Sequences(t.Context(), p.source, p.target)
	check(t, err)
	for _, sequence := range []string{"app.ticket", "app.item_id_seq"} {
		const next = "select nextval($1::text::regclass)"
		if s, o := ask[int64](t, p.owner, next, sequence), ask[int64](t, p.target, next, sequence); s != o || s < 78 {
			t.Errorf("%s goes on with %d, on the target with %d", sequence, s, o)
		}
	}
	if n != 2 {
		t.Errorf("%d sequences", n)
	}

	t.Run("behind its back", func(t *testing.T) { p.behindItsBack(t, before) })
	t.Run("disabled", p.disabled)
	t.Run("taken back", p.takenBack)
}

// work changes rows on the source until it is ended, hot ones again and again, and no
// faster than a slow machine's comparison gets on.
type work struct {
	stop context.CancelFunc
	done sync.WaitGroup
	err  error
}

func (p *pair) work(t *testing.T) *work {
	conn := connect(t, pgtest.SuperURL(t), p.database)
	ctx, cancel := context.WithCancel(t.Context())
	w := &work{stop: cancel}
	w.done.Go(func() {
		for i := 0; ctx.Err() == nil && w.err == nil; i++ {
			time.Sleep(5 * time.Millisecond)
			for _, statement := range []string{
				"insert into app.item (n, doc) values ($1, '{}')",
				"update app.item set n = n + $1 where id = 1",
				"update app.pair set t = t + 1, b = 'b' || length(b) || $1 where t % 100 = $1 % 100",
				"update app.bare set n = n + $1 where n = 1",
				"delete from app.log where id = $1",
				`insert into app."Quoted t" values ('key' || $1, 'v')`,
			} {
				if _, w.err = conn.Exec(context.WithoutCancel(ctx), strings.ReplaceAll(statement, "$1", "$1::int"), i); w.err != nil {
					return
				}
			}
		}
	})
	t.Cleanup(func() { cancel(); w.done.Wait() })
	return w
}

func (w *work) end(t *testing.T) {
	t.Helper()
	w.stop()
	w.done.Wait()
	check(t, w.err)
}

// wantDiffers wants exactly these tables to differ.
func wantDiffers(t *testing.T, err error, tables ...string) {
	t.Helper()
	d, ok := errors.AsType[*replica.Differs](err)
	if !ok || !slices.Equal(d.Tables, tables) {
		t.Errorf("got %v, want %v to differ", err, tables)
	}
}

func (p *pair) behindItsBack(t *testing.T, before replica.Compared) {
	ctx := t.Context()
	// strangers write in sessions of their own, whose statistics are told at their end.
	strange := func(sql string) {
		t.Helper()
		conn := connect(t, pgtest.SecondSuperURL(t), p.database)
		must(t, conn, sql)
		check(t, conn.Close(ctx))
	}
	// In tables that the source changed meanwhile: the last one holds no row by key.
	strange(`update app.item set t = 'y' where n = -1; update app.pair set v = 'z' where b = (select min(b) from app.pair);
		delete from app.bare where n = 10`)
	wantDiffers(t, replica.InPause(ctx, p.source, p.target, before), `"app"."bare"`, `"app"."item"`, `"app"."pair"`)
	if err := replica.InPause(ctx, p.source, p.target, before.ByKeys()); err == nil {
		t.Error("by their keys, changed rows don't differ")
	}
	// Where there is no slot to tell what has changed, all is compared.
	lost := before
	lost.Name = "freehold_move_lost"
	wantDiffers(t, replica.InPause(ctx, p.source, p.target, lost), `"app"."bare"`, `"app"."item"`, `"app"."pair"`)
	_, err := replica.BeforePause(ctx, p.source, p.target, p.name)
	wantDiffers(t, err, `"app"."bare"`, `"app"."item"`, `"app"."pair"`)
	strange(`update app.item set t = null where n = -1; update app.pair set v = null where v = 'z'; insert into app.bare values (10)`)

	// In a table that nothing changed on the source.
	before, err = replica.BeforePause(ctx, p.source, p.target, p.name)
	check(t, err)
	check(t, replica.InPause(ctx, p.source, p.target, before))
	strange(`update app.log set v = 'other' where id = 299`)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err = replica.InPause(ctx, p.source, p.target, before); err != nil || time.Now().After(end) {
			break
		}
	}
	wantDiffers(t, err, `"app"."log_high"`)
	strange(`update app.log set v = 'v' where id = 299`)
	check(t, replica.InPause(ctx, p.source, p.target, before)) // looked at again, and found the same

	strange(`create table app.more ()`)
	wantDiffers(t, replica.Same(ctx, p.source, p.target), `"app"."more"`)
	_, err = replica.BeforePause(ctx, p.source, p.target, p.name)
	wantDiffers(t, err, `"app"."more"`)
	strange(`drop table app.more`)
}

func (p *pair) disabled(t *testing.T) {
	ctx := t.Context()
	check(t, replica.Disable(ctx, p.target, p.name))
	must(t, p.owner, "insert into app.item (n) values (-2)")
	progress, err := replica.ReadProgress(ctx, p.source, p.target, p.name)
	check(t, err)
	if n := ask[int](t, p.target, "select count(*) from pg_stat_subscription where pid is not null and subname = $1", p.name); n != 0 || progress.Trouble == "" {
		t.Errorf("%d workers, progress = %+v", n, progress)
	}
	lsn, err := replica.FlushLSN(ctx, p.source)
	check(t, err)
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	// A connection whose question is cut off is closed.
	source, target := connect(t, pgtest.SuperURL(t), p.database), connect(t, pgtest.SecondSuperURL(t), p.database)
	if err := replica.CaughtUp(short, source, target, p.name, lsn); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("caught up while disabled: %v", err)
	}
	check(t, replica.Enable(ctx, p.target, p.name))
	p.catchUp(t)
	check(t, replica.Same(ctx, p.source, p.target))
}

// takenBack ends it with the source's database shut and its role refused, as after a
// switch; twice.
func (p *pair) takenBack(t *testing.T) {
	ctx := t.Context()
	if err := login(p); err != nil {
		t.Errorf("the login role can't log in: %v", err)
	}
	must(t, p.admin, "alter database "+p.database+" with allow_connections false")
	for range 2 {
		check(t, replica.DropSlots(ctx, p.admin, p.name, p.database)) // while the target reads one
		check(t, replica.DropLogin(ctx, p.admin, p.name))
	}
	must(t, p.admin, "alter database "+p.database+" with allow_connections true")
	if n := ask[int](t, p.admin, "select count(*) from pg_replication_slots where database = $1", p.database); n != 0 {
		t.Errorf("%d slots are left", n)
	}
	if _, err := replica.ReadProgress(ctx, p.source, p.target, p.name); !errors.Is(err, replica.ErrSlotLost) {
		t.Errorf("progress without a slot: %v", err)
	}
	if err := replica.CaughtUp(ctx, p.source, p.target, p.name, "0/1"); !errors.Is(err, replica.ErrSlotLost) {
		t.Errorf("catching up without a slot: %v", err)
	}
	for range 2 {
		check(t, replica.Unsubscribe(ctx, p.target, p.name))
		check(t, replica.Unpublish(ctx, p.owner, p.name))
		check(t, replica.Disable(ctx, p.target, p.name))
	}
	if n := ask[int](t, p.target, "select count(*) from pg_subscription where subname = $1", p.name); n != 0 {
		t.Error("the subscription is left")
	}
	if err := login(p); err == nil {
		t.Error("the login role is left")
	}
}

// login logs in as the target does, and looks what that may do.
func login(p *pair) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.conninfo(password))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var who string
	if err := conn.QueryRow(ctx, "select current_user::text from app.item limit 1").Scan(&who); err != nil {
		return err
	}
	if who != "freehold_owner" {
		return errors.New("it is " + who)
	}
	elsewhere := strings.Replace(p.conninfo(password), "dbname="+p.database, "dbname=postgres", 1)
	if other, err := pgx.Connect(ctx, elsewhere); err == nil {
		return errors.Join(errors.New("it gets into other databases"), other.Close(ctx))
	}
	return nil
}
