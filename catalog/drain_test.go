package catalog_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
)

// drains begins a drain of a server, in nobody's hands.
func (b *bench) drains(server string) catalog.Drain {
	b.Helper()
	d, err := b.cat.BeginDrain(b.Context(), catalog.DrainSpec{Server: server, Actor: "ops", Parallel: 4, MaxFailures: 3}, catalog.Taker{})
	b.ok(err)
	return d
}

func (b *bench) drainStatus(d catalog.Drain) catalog.DrainStatus {
	b.Helper()
	s, err := b.cat.DrainStatus(b.Context(), d.ID)
	b.ok(err)
	return s
}

func TestDrain_life(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.put(catalog.ServerSpec{Name: "old"})
	b.put(catalog.ServerSpec{Name: "new"})
	first := catalog.Taker{Worker: "first", Lease: time.Minute}
	d, err := b.cat.BeginDrain(t.Context(), catalog.DrainSpec{Server: "old", Actor: "ops", To: "new", Parallel: 4, MaxFailures: 3}, first)
	b.ok(err)
	if d.State != catalog.DrainRunning || d.Way != catalog.WayAuto || d.To != "new" || d.Worker != "first" || d.LeaseUntil == nil || !d.Open() {
		t.Errorf("begun: %+v", d)
	}
	if s, err := b.cat.Server(t.Context(), "old"); err != nil || s.State != catalog.ServerDraining {
		t.Errorf("%+v, %v", s, err)
	}
	active := catalog.ServerActive
	_, err = b.cat.SetServer(t.Context(), "old", catalog.ServerPatch{State: &active})
	b.is(err, catalog.ErrConflict)

	// Somebody has it: nobody else does, until its lease is over or it is left.
	second := catalog.Taker{Worker: "second", Lease: time.Minute}
	if _, taken, err := b.cat.TakeDrain(t.Context(), d.ID, second); err != nil || taken {
		t.Errorf("taken from who has it: %t, %v", taken, err)
	}
	if _, found, err := b.cat.NextDrain(t.Context()); err != nil || found {
		t.Errorf("one that somebody has is due: %t, %v", found, err)
	}
	b.ok(b.cat.KeepDrain(t.Context(), d, time.Minute))
	b.ok(b.cat.LeaveDrain(t.Context(), d))
	if next, found, err := b.cat.NextDrain(t.Context()); err != nil || !found || next.ID != d.ID {
		t.Errorf("left: %+v, %t, %v", next, found, err)
	}
	mine, taken, err := b.cat.TakeDrain(t.Context(), d.ID, second)
	b.ok(err)
	if !taken || mine.Token <= d.Token {
		t.Errorf("%t, token %d after %d", taken, mine.Token, d.Token)
	}
	// Who had it before changes nothing more.
	b.is(b.cat.KeepDrain(t.Context(), d, time.Minute), catalog.ErrLost)
	b.is(b.cat.HaltDrain(t.Context(), d, "x"), catalog.ErrLost)
	_, err = b.cat.EndDrain(t.Context(), d)
	b.is(err, catalog.ErrLost)

	b.ok(b.cat.HaltDrain(t.Context(), mine, "4 failed"))
	b.is(b.cat.KeepDrain(t.Context(), mine, time.Minute), catalog.ErrLost)
	if _, found, err := b.cat.NextDrain(t.Context()); err != nil || found {
		t.Errorf("a halted one is due: %t, %v", found, err)
	}
	if open, err := b.cat.OpenDrains(t.Context()); err != nil || len(open) != 1 || open[0].State != catalog.DrainHalted || open[0].Error != "4 failed" {
		t.Errorf("%+v, %v", open, err)
	}
	// The same command again has it go on, as it says now.
	again, err := b.cat.BeginDrain(t.Context(), catalog.DrainSpec{Server: "old", Actor: "eve", Parallel: 2, Way: catalog.WayCopy}, catalog.Taker{})
	b.ok(err)
	if again.ID != d.ID || again.State != catalog.DrainRunning || again.Error != "" || again.Parallel != 2 || again.Way != catalog.WayCopy ||
		again.To != "" || again.Worker != "" || !again.BegunAt.After(d.BegunAt) {
		t.Errorf("resumed: %+v", again)
	}
	again, _, err = b.cat.TakeDrain(t.Context(), d.ID, second)
	b.ok(err)
	if done, err := b.cat.EndDrain(t.Context(), again); err != nil || !done {
		t.Errorf("nobody lives there: %t, %v", done, err)
	}
	if now, err := b.cat.DrainOf(t.Context(), "old"); err != nil || now.State != catalog.DrainDone || now.EndedAt == nil || now.Open() {
		t.Errorf("%+v, %v", now, err)
	}
	_, err = b.cat.CancelDrain(t.Context(), "old", "ops")
	b.is(err, catalog.ErrConflict)
	b.set("old", catalog.ServerPatch{State: &active})

	d = b.drains("old")
	cancelled, err := b.cat.CancelDrain(t.Context(), "old", "ops")
	b.ok(err)
	if s, err := b.cat.Server(t.Context(), "old"); err != nil || s.State != catalog.ServerActive || cancelled.ID != d.ID || cancelled.State != catalog.DrainCancelled {
		t.Errorf("cancelled: %+v, %s, %v", cancelled, s.State, err)
	}
	conn := b.admin()
	for action, n := range map[string]int64{"server.drain": 3, "server.drain.cancel": 1} {
		if got := b.number(conn, `select count(*) from operator_audit where action = $1 and detail ->> 'server' = 'old'`, action); got != n {
			t.Errorf("%d audit rows of %s, want %d", got, action, n)
		}
	}
}

func TestDrain_refuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.put(catalog.ServerSpec{Name: "old"})
	b.put(catalog.ServerSpec{Name: "dead"})
	down := catalog.ServerDown
	b.set("dead", catalog.ServerPatch{State: &down})
	good := catalog.DrainSpec{Server: "old", Actor: "ops", Parallel: 1}
	for what, c := range map[string]struct {
		change func(*catalog.DrainSpec)
		is     error
		text   string
	}{
		"unknown server":  {func(s *catalog.DrainSpec) { s.Server = "nope" }, catalog.ErrNotFound, "begin drain: not found"},
		"unknown target":  {func(s *catalog.DrainSpec) { s.To = "nope" }, catalog.ErrNotFound, "begin drain: server nope: not found"},
		"down":            {func(s *catalog.DrainSpec) { s.Server = "dead" }, catalog.ErrConflict, "it is down"},
		"to itself":       {func(s *catalog.DrainSpec) { s.To = "old" }, catalog.ErrInvalid, "to: it is the server itself"},
		"nobody at work":  {func(s *catalog.DrainSpec) { s.Parallel = 0 }, catalog.ErrInvalid, "parallel: want 1 to 64"},
		"too many":        {func(s *catalog.DrainSpec) { s.Parallel = 65 }, catalog.ErrInvalid, "parallel: want 1 to 64"},
		"less than none":  {func(s *catalog.DrainSpec) { s.MaxFailures = -1 }, catalog.ErrInvalid, "max_failures"},
		"an unknown way":  {func(s *catalog.DrainSpec) { s.Way = "cart" }, catalog.ErrInvalid, "way: want auto, replication, copy"},
		"a cursor's text": {func(s *catalog.DrainSpec) { s.Actor = "a\nb" }, catalog.ErrInvalid, "actor"},
	} {
		spec := good
		c.change(&spec)
		_, err := b.cat.BeginDrain(t.Context(), spec, catalog.Taker{})
		if !errors.Is(err, c.is) || !strings.Contains(fmt.Sprint(err), c.text) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if s, err := b.cat.Server(t.Context(), "old"); err != nil || s.State != catalog.ServerActive {
		t.Errorf("a refused drain changed it: %s, %v", s.State, err)
	}
	_, err := b.cat.Drain(t.Context(), "x")
	b.is(err, catalog.ErrNotFound)
	_, err = b.cat.DrainOf(t.Context(), "old")
	b.is(err, catalog.ErrNotFound)
	_, err = b.cat.CancelDrain(t.Context(), "nope", "ops")
	b.is(err, catalog.ErrNotFound)
}

// Who has to leave, and what keeps whom.
func TestDrain_resting(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.put(catalog.ServerSpec{Name: "old"})
	on := func(slug string) catalog.Tenant { return b.lives(catalog.TenantSpec{Slug: slug, Server: "old"}) }
	by := catalog.Taker{Worker: "w", Lease: time.Minute}
	fails := func(op catalog.Operation, state, why string) {
		t.Helper()
		taken, err := b.cat.TakeOperation(t.Context(), op.ID, by)
		b.ok(err)
		b.ok(b.cat.EndOperation(t.Context(), taken, state, why, 0))
	}
	b.put(catalog.ServerSpec{Name: "new"})
	failed, free, busy, gone, early := on("failed"), on("free"), on("busy"), on("gone"), on("early")
	half, err := b.cat.CreateTenant(t.Context(), catalog.TenantSpec{Slug: "half", Server: "old"}, here())
	b.ok(err)
	op, err := b.moves(early, "new", "")
	b.ok(err)
	fails(op, catalog.OperationFailed, "it broke before")

	d := b.drains("old")
	op, err = b.moves(failed, "new", "")
	b.ok(err)
	fails(op, catalog.OperationFailed, "it broke")
	other, err := b.cat.BeginOperation(t.Context(), catalog.OperationSpec{
		Kind: catalog.KindBackup, Tenant: busy.ID, Actor: "x", RunAt: time.Now().Add(time.Hour),
	})
	b.ok(err)
	_, err = b.cat.SetState(t.Context(), gone.ID, catalog.Deleting, catalog.Active)
	b.ok(err)

	list, err := b.cat.Resting(t.Context(), d.ID)
	b.ok(err)
	at := map[string]catalog.Resting{}
	for _, r := range list {
		at[r.Slug] = r
	}
	if r := at["failed"]; r.Failed != op.ID || !r.Now || r.Error != "it broke" || r.To != "new" || r.Busy != "" {
		t.Errorf("%+v", r)
	}
	if r := at["early"]; r.Failed == "" || r.Now || r.Error != "it broke before" {
		t.Errorf("%+v", r)
	}
	if r := at["free"]; r.ID != free.ID || r.Busy != "" || r.Failed != "" || r.State != catalog.Active {
		t.Errorf("%+v", r)
	}
	if r := at["busy"]; r.Busy != other.ID || r.Kind != catalog.KindBackup || r.Due {
		t.Errorf("%+v", r)
	}
	if r := at["half"]; r.State != catalog.Provisioning || r.Busy != half.Operation.ID {
		t.Errorf("%+v", r)
	}
	if len(list) != 5 {
		t.Errorf("%d have to leave", len(list))
	}
	s := b.drainStatus(d)
	if s.Left != 5 || s.Moving != 0 || s.Busy != 2 || s.Deleting != 1 || s.Moved != 0 || len(s.Failed) != 1 || s.Failed[0].Tenant != "failed" {
		t.Errorf("%+v", s)
	}
	mine, _, err := b.cat.TakeDrain(t.Context(), d.ID, by)
	b.ok(err)
	if done, err := b.cat.EndDrain(t.Context(), mine); err != nil || done {
		t.Errorf("done while five live there: %t, %v", done, err)
	}

	// One that is retried moves, and one that has moved is counted once.
	again, err := b.cat.RetryOperation(t.Context(), op.ID)
	b.ok(err)
	if s = b.drainStatus(d); s.Moving != 1 || len(s.Failed) != 0 {
		t.Errorf("retried: %+v", s)
	}
	_, err = b.cat.SetState(t.Context(), failed.ID, catalog.Moving, catalog.Active)
	b.ok(err)
	_, err = b.cat.SwitchServer(t.Context(), failed.ID, "new")
	b.ok(err)
	if s = b.drainStatus(d); s.Left != 4 || s.Moved != 1 { // its move has yet to retire the old database
		t.Errorf("lives elsewhere: %+v", s)
	}
	dropAt := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	b.ok(b.cat.KeepDatabase(t.Context(), catalog.KeptDatabase{
		TenantID: failed.ID, Server: "old", Database: "freehold_kept_x", Why: catalog.KeptMoved, Operation: op.ID, DropAt: &dropAt,
	}))
	fails(again, catalog.OperationDone, "")
	if s = b.drainStatus(d); s.Left != 4 || s.Moved != 1 || s.Kept != 1 || s.KeptUntil == nil || !s.KeptUntil.Equal(dropAt) {
		t.Errorf("moved: %+v", s)
	}
	b.is(b.cat.RemoveServer(t.Context(), "old"), catalog.ErrConflict)
}
