package router_test

import (
	"context"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/catalog/catalogtest"
	"freehold/router"
	"freehold/tenantdb"
)

const (
	staleServe = 300 * time.Millisecond
	// deadAfter is shorter than production's margin allows: here no dial takes
	// seconds.
	deadAfter = 900 * time.Millisecond
)

// fleet is nodes that share a server's budget through a catalog.
type fleet struct {
	*bundle
	t      *testing.T
	cat    *catalog.Catalog
	server string
	prefix string
}

// node is one of them, with callers of its own.
type node struct {
	*bundle
	id     string
	cut    atomic.Bool // from the catalog
	served atomic.Int64
	leave  context.CancelFunc
	idle   sync.WaitGroup
}

func newFleet(t *testing.T, budget, tenants int) *fleet {
	t.Helper()
	cat, _ := catalogtest.Open(t)
	server, err := cat.AddServer(t.Context(), catalog.ServerSpec{
		Name: "one", Host: "db.invalid", Port: 5432, SSLMode: "disable", AdminUser: "admin",
		Password: "never used", Version: 150000, MaxConnections: 100, Budget: budget,
	})
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{bundle: setup(t, tenants, nil), t: t, cat: cat, server: server.ID, prefix: nodeName()}
	for _, id := range f.ids {
		f.book.change(id, func(r *catalog.Route) { r.ServerID, r.Budget = server.ID, budget })
	}
	return f
}

// join starts a node under load.
func (f *fleet) join() *node {
	f.t.Helper()
	n := &node{id: uuid.Must(uuid.NewV7()).String()}
	r, err := router.New(router.Config{
		Route: f.book.route, Node: f.prefix + n.id[30:], ConnsPerTenant: 3, StaleServe: staleServe,
		Share: func(ctx context.Context, ask catalog.ShareAsk) (catalog.Share, error) {
			if n.cut.Load() {
				return catalog.Share{}, catalog.ErrUnavailable
			}
			return f.cat.Share(ctx, n.id, ask, deadAfter)
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	n.bundle = &bundle{Router: r, book: f.book, ids: f.ids, dbs: f.dbs}
	ctx, leave := context.WithCancel(f.t.Context())
	n.leave = leave
	for range 8 {
		n.idle.Go(func() {
			for ctx.Err() == nil {
				err := n.For(f.ids[mathrand.IntN(len(f.ids))], 1).Borrow(ctx, tenantdb.Interactive,
					func(ctx context.Context, db *tenantdb.DB) error {
						_, _, err := whoami(ctx, db)
						return err
					})
				switch {
				case err == nil:
					n.served.Add(1)
				case !isTyped(err):
					f.t.Errorf("untyped: %v", err)
				}
			}
		})
	}
	f.t.Cleanup(func() {
		leave()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			f.t.Error(err)
		}
		n.idle.Wait()
	})
	return n
}

func (n *node) share() int {
	for _, s := range n.View(0).Servers {
		return s.Share
	}
	return 0
}

// end ends the node's callers and closes its connections.
func (n *node) end(t *testing.T) {
	t.Helper()
	n.leave()
	n.idle.Wait()
	if err := n.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// settled waits until the nodes have the whole of it, each at least a part, and
// all of them serve.
func (f *fleet) settled(whole, least int, nodes ...*node) {
	f.t.Helper()
	before := make([]int64, len(nodes))
	for i, n := range nodes {
		before[i] = n.served.Load()
	}
	sum, fewest := 0, 0
	soonWithin(f.t, 8*time.Second, "the whole budget shared by those who are there, and all served", func() bool {
		sum, fewest = 0, whole
		served := true
		for i, n := range nodes {
			sum, fewest = sum+n.share(), min(fewest, n.share())
			served = served && n.served.Load() > before[i]
		}
		return sum == whole && fewest >= least && served
	})
}

// Nodes under load that join, leave and die share a server's budget through the
// catalog, and what Postgres sees of all of them together keeps to it.
func TestG3_NodesShareTheBudget(t *testing.T) {
	t.Parallel()
	const budget = 6
	f := newFleet(t, budget, 6)
	w := watch(t, f.prefix, nil)

	a := f.join()
	f.settled(budget, budget, a)
	b := f.join()
	f.settled(budget, 2, a, b)
	c := f.join()
	f.settled(budget, 1, a, b, c)

	b.end(t)
	if err := f.cat.LeaveShares(t.Context(), b.id); err != nil {
		t.Fatal(err)
	}
	f.settled(budget, 2, a, c)

	// The catalog hears no more of c, whose connections live.
	release := c.occupy(t, f.ids[0], 1)
	c.cut.Store(true)
	held := c.share()
	time.Sleep(deadAfter + 500*time.Millisecond)
	if got := a.share(); got > budget-held {
		t.Errorf("%d for the survivor while the dead one may hold %d of %d", got, held, budget)
	}
	if err := release(); err != nil {
		t.Errorf("a lease of the node that was cut off: %v", err)
	}
	c.end(t)
	time.Sleep(200 * time.Millisecond)
	if got := a.share(); got > budget-held {
		t.Errorf("%d for the survivor before the dead one's part was dropped", got)
	}
	if dropped, err := f.cat.DropShare(t.Context(), f.server, c.id, deadAfter); err != nil || !dropped {
		t.Fatalf("dropped: %v, %v", dropped, err)
	}
	f.settled(budget, budget, a)
	w.within(t, budget)
}

// A node whose connections are never idle gives some to one that joins.
func TestG3_ASaturatedNodeGivesBack(t *testing.T) {
	t.Parallel()
	const budget = 3
	f := newFleet(t, budget, 1)
	w := watch(t, f.prefix, nil)
	a := f.join()
	f.settled(budget, budget, a)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, wait := a.load(ctx, t, f.ids[0], 12, sleepFor(10*time.Millisecond))
	soon(t, "saturated", func() bool { return a.explain(t, f.ids[0]).Leased == budget })
	b := f.join()
	f.settled(budget, 1, a, b)
	cancel()
	wait()
	w.within(t, budget)
}

// A node that the catalog doesn't answer opens nothing more once its share may
// have gone to others, keeps what it has, and goes on when it is heard again.
func TestG3_StaleShareOpensNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 4, 2)
	n := f.join()
	f.settled(4, 4, n)
	n.leave()
	n.idle.Wait()
	n.visit(t, f.ids[0], 1)
	n.cut.Store(true)
	time.Sleep(staleServe + 100*time.Millisecond)
	n.visit(t, f.ids[0], 1) // what is open is kept
	dials := n.View(0).Servers[0].Dials
	cold := f.coldTenant(n)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := n.For(cold, 1).Borrow(ctx, tenantdb.Interactive, func(context.Context, *tenantdb.DB) error { return nil })
	if err == nil || !isTyped(err) {
		t.Errorf("got %v, want a refusal", err)
	}
	if got := n.View(0).Servers[0].Dials; got != dials {
		t.Errorf("%d dials on a share that nobody confirms", got-dials)
	}
	n.cut.Store(false)
	soon(t, "served again", func() bool {
		return n.For(cold, 1).Borrow(t.Context(), tenantdb.Interactive, func(context.Context, *tenantdb.DB) error { return nil }) == nil
	})
}

// coldTenant makes a tenant without a connection at the node.
func (f *fleet) coldTenant(n *node) catalog.TenantID {
	f.t.Helper()
	more := setup(f.t, 1, nil)
	id := more.ids[0]
	route := more.book.routes[id]
	f.book.mu.Lock()
	route.ServerID, route.Budget = f.server, f.book.routes[f.ids[0]].Budget
	f.book.routes[id] = route
	f.book.mu.Unlock()
	return id
}
