package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"freehold/catalog"
	"freehold/router"
	"freehold/tenantdb/fleet"
)

// spec is all that a node is told.
type spec struct {
	Name       string
	Journal    string // file
	CatalogURL string
	Keyset     string // file
	Tenants    []tenant
	Hot        int // the first of them are called most
	Workers    int
	Pools      int
}

// tenant is one as its callers know it.
type tenant struct {
	ID     string
	Tokens []string // of its keys; the first one is never revoked
}

const (
	// staleServe is short, so that a killed node's share returns within the run.
	staleServe  = 2 * time.Second
	requestTime = 2 * time.Second
	openTime    = 20 * time.Second
	closeTime   = 15 * time.Second
	// visitTime is how long after the last trouble a tenant may be away, and
	// visitsTime how long it may take to visit all.
	visitTime  = 8 * time.Second
	visitsTime = time.Minute
	pageTime   = 100 * time.Millisecond
)

// node is the composed parts of one serving process.
type node struct {
	spec
	ids     []catalog.TenantID
	cat     *catalog.Catalog
	fleet   *fleet.Fleet
	cache   *catalog.Cache
	router  *router.Router
	journal *journal
}

// serve is a node's life: requests at random until ctx ends, then one to every
// tenant, then the end in order.
func serve(ctx context.Context, s spec) error {
	n := &node{spec: s}
	for _, t := range s.Tenants {
		id, err := catalog.ParseTenantID(t.ID)
		if err != nil {
			return err
		}
		n.ids = append(n.ids, id)
	}
	var err error
	if n.journal, err = openJournal(s.Journal); err != nil {
		return err
	}
	defer n.journal.file.Close()
	if err := n.open(ctx); err != nil {
		return err
	}
	// The parts outlive ctx: they are stopped in order below.
	parts, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var running, writing sync.WaitGroup
	running.Go(func() {
		if err := n.cache.Run(parts); err != nil {
			n.journal.wrong(left, "cache ended: %v", err)
		}
	})
	ended := make(chan struct{})
	writing.Go(func() { n.write(ended) })

	n.work(ctx)
	n.visitAll()
	n.close()
	stop()
	running.Wait()
	n.cat.Close()
	close(ended)
	writing.Wait()
	n.journal.note(func(p *page) { p.Ended = true })
	return n.journal.turn()
}

// open composes the node as the program does.
func (n *node) open(ctx context.Context) error {
	keys, err := catalog.ReadKeyset(n.Keyset)
	if err != nil {
		return err
	}
	for end := time.Now().Add(openTime); ; time.Sleep(100 * time.Millisecond) {
		// It may be cut off at this moment.
		if n.cat, err = catalog.Open(ctx, catalog.Config{URL: n.CatalogURL, Keyset: keys}); err == nil {
			break
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return fmt.Errorf("open catalog: %w", err)
		}
	}
	n.cache = catalog.NewCache(n.cat, catalog.CacheConfig{NodeName: n.Name, StaleServe: staleServe})
	if n.fleet, err = fleet.New(fleet.Config{Catalog: n.cat, DeadAfter: n.cache.DeadAfter()}); err != nil {
		return err
	}
	n.router, err = router.New(router.Config{
		Route: n.cache.Route, Share: n.share, Backends: n.fleet.Backends, Node: n.cache.NodeID(),
		MaxPools: n.Pools, ConnsPerTenant: 3, PauseWait: time.Second,
		StaleServe: staleServe, IdleTimeout: 2 * time.Second, CloseTimeout: time.Second,
	})
	if err != nil {
		return err
	}
	n.cache.OnChange(n.router.Invalidate)
	n.cache.OnMoving(n.router.Drain)
	return nil
}

// share asks for this node's part, and has the parts of nodes returned that are
// gone.
func (n *node) share(ctx context.Context, ask catalog.ShareAsk) (catalog.Share, error) {
	share, err := n.cache.Share(ctx, ask)
	for _, silent := range share.Silent {
		dropped, err := n.fleet.DropSilentShare(ctx, ask.Server, silent, n.cache.DeadAfter())
		if err == nil && dropped {
			n.journal.count("a dead node's share returned")
		}
	}
	return share, err
}

// write turns the journal's pages until the node ends.
func (n *node) write(ended <-chan struct{}) {
	every := time.NewTicker(pageTime)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-ended:
			return
		}
		if err := n.journal.turn(); err != nil {
			n.journal.wrong(left, "journal: %v", err)
		}
	}
}

// close ends the router and gives its shares back.
func (n *node) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if err := n.router.Close(ctx); err != nil {
		n.journal.wrong(left, "%v", err)
		return
	}
	if got := n.router.Stats(); got.Pools+got.Closing+got.Opening+got.Conns+got.Leases+got.Pinned != 0 {
		n.journal.wrong(left, "after close: %+v", got)
	}
	if err := n.cat.LeaveShares(ctx, n.cache.NodeID()); err != nil {
		n.journal.wrong(left, "%v", err)
	}
	err := n.router.For(n.ids[0], 1).Borrow(ctx, 0, nil)
	if !errors.Is(err, router.ErrClosed) {
		n.journal.wrong(left, "a closed router answers %v", err)
	}
}
