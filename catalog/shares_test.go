package catalog_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
)

// budgeted registers a server with a budget.
func (b *bench) budgeted(name string, budget int) string {
	b.Helper()
	s, err := b.cat.AddServer(b.Context(), catalog.ServerSpec{
		Name: name, Host: "db.invalid", Port: 5432, SSLMode: "disable", AdminUser: "admin",
		Password: "p", Version: 150000, MaxConnections: 100, Budget: budget,
	})
	b.ok(err)
	return s.ID
}

func newNode() string { return uuid.Must(uuid.NewV7()).String() }

// asking is a bench's server with what is asked there.
type asking struct {
	*bench
	server    string
	deadAfter time.Duration
}

func (a asking) ask(node string, keep, demand int) catalog.Share {
	a.Helper()
	s, err := a.cat.Share(a.Context(), node, catalog.ShareAsk{Server: a.server, Cap: keep, Demand: demand}, a.deadAfter)
	a.ok(err)
	return s
}

func TestShare(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := asking{b, b.budgeted("pg-1", 10), time.Minute}
	one, two := newNode(), newNode()
	want := func(got catalog.Share, granted, target, nodes int) {
		t.Helper()
		if got.Granted != granted || got.Target != target || got.Nodes != nodes || got.Budget != 10 || got.Silent != nil {
			t.Errorf("%+v, want %d granted, target %d, %d nodes", got, granted, target, nodes)
		}
	}
	want(a.ask(one, 0, 0), 10, 10, 1)
	want(a.ask(two, 0, 0), 0, 5, 2) // nothing is left until it is given back
	want(a.ask(one, 10, 0), 10, 5, 2)
	want(a.ask(one, 7, 0), 7, 5, 2)
	want(a.ask(two, 0, 0), 3, 5, 2)
	want(a.ask(one, 5, 0), 5, 5, 2)
	want(a.ask(two, 3, 0), 5, 5, 2)
	want(a.ask(two, 99, 9), 5, 9, 2) // Cap raises nothing
	want(a.ask(one, 1, 0), 1, 1, 2)
	want(a.ask(two, 5, 9), 9, 9, 2)
	b.ok(b.cat.LeaveShares(t.Context(), two))
	want(a.ask(one, 1, 0), 10, 10, 1)
	want(a.ask(two, 9, 9), 0, 9, 2) // who left begins anew
}

// The only node was killed and is started again: what is kept for one that joins
// serves until the dead one's part returns.
func TestShare_joiningNodeHasAPartAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := asking{b, b.budgeted("pg-1", 40), time.Minute}
	killed, again := newNode(), newNode()
	if s := a.ask(killed, 0, 99); s.Granted != 36 {
		t.Errorf("alone: %+v", s)
	}
	if s := a.ask(again, 0, 99); s.Granted != 4 {
		t.Errorf("beside a node that gives nothing back: %+v", s)
	}
	a.deadAfter = 100 * time.Millisecond
	time.Sleep(2 * a.deadAfter)
	if s := a.ask(again, 4, 99); s.Granted != 4 || s.Target != 4 || len(s.Silent) != 1 {
		t.Errorf("beside a silent node: %+v", s)
	}
	done, err := b.cat.DropShare(t.Context(), a.server, killed, a.deadAfter)
	b.ok(err)
	if s := a.ask(again, 4, 99); !done || s.Granted != 36 {
		t.Errorf("after the drop: %v, %+v", done, s)
	}
}

func TestShare_operatorLowersBudget(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := asking{b, b.budgeted("pg-1", 10), time.Minute}
	one, two := newNode(), newNode()
	a.ask(one, 0, 9)
	a.ask(two, 0, 9)
	a.ask(one, 5, 9)
	a.ask(two, 0, 9)
	b.exec(b.as("freehold_catalog"), `update servers set budget = 4`)
	for node, want := range map[string]int{one: 2, two: 2} {
		if s := a.ask(node, 5, 9); s.Granted != 5 || s.Target != want || s.Budget != 4 {
			t.Errorf("%+v", s)
		}
	}
	a.ask(one, 0, 9)
	if s := a.ask(one, 0, 9); s.Granted != 0 || s.Target != 2 {
		t.Errorf("granted although the other holds more than all: %+v", s)
	}
	a.ask(two, 2, 9)
	if s := a.ask(one, 0, 9); s.Granted != 2 {
		t.Errorf("%+v", s)
	}
}

func TestShare_silentNode(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := asking{b, b.budgeted("pg-1", 10), time.Minute}
	dead, idle, alive := newNode(), newNode(), newNode()
	a.ask(dead, 0, 6)
	a.ask(idle, 0, 1) // holds nothing: all is the other's
	if s := a.ask(dead, 8, 6); s.Granted != 8 {
		t.Errorf("of two: %+v", s)
	}
	if done, err := b.cat.DropShare(t.Context(), a.server, dead, a.deadAfter); err != nil || done {
		t.Errorf("a live node was dropped: %v, %v", done, err)
	}
	a.deadAfter = 300 * time.Millisecond
	var s catalog.Share
	b.within(5*time.Second, "silent", func() bool {
		s = a.ask(alive, s.Granted, 99)
		return len(s.Silent) > 0
	})
	if s.Granted != 2 || s.Target != 2 || s.Nodes != 1 || !slices.Equal(s.Silent, []string{dead}) {
		t.Errorf("beside a silent node: %+v", s)
	}
	if n := b.number(b.as("freehold_catalog"), `select count(*) from budget_shares`); n != 2 {
		t.Errorf("%d rows, want the silent one's and the live one's", n)
	}
	done, err := b.cat.DropShare(t.Context(), a.server, dead, a.deadAfter)
	if err != nil || !done {
		t.Errorf("dropped %v, %v", done, err)
	}
	if s := a.ask(alive, 2, 99); s.Granted != 10 || s.Silent != nil {
		t.Errorf("after the drop: %+v", s)
	}
	// It comes back with what it believes to have.
	if s := a.ask(dead, 8, 6); s.Granted != 0 {
		t.Errorf("a dropped node: %+v", s)
	}
	done, err = b.cat.DropShare(t.Context(), a.server, newNode(), a.deadAfter)
	if err != nil || done {
		t.Errorf("a node that never was: %v, %v", done, err)
	}
}

func TestShare_refuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	_, err := b.cat.Share(ctx, newNode(), catalog.ShareAsk{Server: newNode()}, time.Minute)
	b.is(err, catalog.ErrNotFound)
	for _, ask := range []catalog.ShareAsk{{Server: "pg-1"}, {Server: newNode(), Cap: -1}, {Server: newNode(), Demand: -1}} {
		_, err := b.cat.Share(ctx, newNode(), ask, time.Minute)
		b.is(err, catalog.ErrInvalid)
	}
	_, err = b.cat.DropShare(ctx, newNode(), "me", time.Minute)
	b.is(err, catalog.ErrInvalid)
	b.is(b.cat.LeaveShares(ctx, "me"), catalog.ErrInvalid)

	// A server goes with the shares in it.
	a := asking{b, b.budgeted("pg-1", 10), time.Minute}
	a.ask(newNode(), 0, 1)
	b.ok(b.cat.RemoveServer(ctx, "pg-1"))
	if n := b.number(b.as("freehold_catalog"), `select count(*) from budget_shares`); n != 0 {
		t.Errorf("%d shares of a server that is gone", n)
	}
}

func TestCache_share(t *testing.T) {
	t.Parallel()
	b := setup(t)
	server := b.budgeted("pg-1", 10)
	cache := catalog.NewCache(b.cat, catalog.CacheConfig{StaleServe: 7 * time.Second})
	if cache.StaleServe() != 7*time.Second || cache.DeadAfter() != 12*time.Second {
		t.Errorf("stale after %s, dead after %s", cache.StaleServe(), cache.DeadAfter())
	}
	s, err := cache.Share(t.Context(), catalog.ShareAsk{Server: server, Demand: 3})
	b.ok(err)
	nodes := b.number(b.as("freehold_catalog"), `select count(*) from budget_shares where node = $1`, cache.NodeID())
	if s.Granted != 10 || nodes != 1 {
		t.Errorf("%+v, %d rows", s, nodes)
	}
}

// Nodes that ask at the same time get the parts that they would get one after
// the other.
func TestShare_converges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := asking{b, b.budgeted("pg-1", 20), time.Minute}
	demands := []int{40, 3, 12, 0}
	want := []int{7, 3, 7, 1} // of 18: two are kept for a node that joins
	nodes := make([]string, len(demands))
	for i := range nodes {
		nodes[i] = newNode()
	}
	slices.Sort(nodes)
	got := make([]catalog.Share, len(nodes))
	for range 5 {
		var all sync.WaitGroup
		for i, node := range nodes {
			all.Go(func() { got[i] = a.ask(node, min(got[i].Granted, got[i].Target), demands[i]) })
		}
		all.Wait()
	}
	for i, s := range got {
		if s.Granted != want[i] || s.Target != want[i] {
			t.Errorf("node %d with demand %d: %+v, want %d", i, demands[i], s, want[i])
		}
	}
}
