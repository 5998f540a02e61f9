package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/router"
	"freehold/tenantdb"
)

// routerName is how the router's connections go by.
const routerName = "freehold-router%"

// routed is a router to the platform's tenants, on a server with a budget. Close it.
type routed struct {
	*router.Router
	tenants []*router.Tenant
	ids     []catalog.TenantID
	asked   *atomic.Int64 // look-ups of routes
}

// newRouted makes a router whose routes are answered from memory. edit, if any,
// changes the routes.
func (p *platform) newRouted(budget, conns int, edit func(*catalog.Route)) (*routed, error) {
	routes := make(map[catalog.TenantID]catalog.Route, len(p.tenants))
	for _, route := range p.tenants {
		route.Budget = budget
		if edit != nil {
			edit(&route)
		}
		routes[route.Tenant] = route
	}
	asked := new(atomic.Int64)
	r, err := router.New(router.Config{
		Route: func(_ context.Context, id catalog.TenantID, _ int64) (catalog.Route, error) {
			asked.Add(1)
			route, ok := routes[id]
			if !ok {
				return route, catalog.ErrNotFound
			}
			return route, nil
		},
		ConnsPerTenant: conns,
		// Long enough that nothing goes because other sides had their turns.
		IdleTimeout: 10 * time.Minute,
	})
	if err != nil {
		return nil, err
	}
	d := &routed{Router: r, asked: asked}
	for _, route := range p.tenants {
		d.tenants = append(d.tenants, r.For(route.Tenant, route.Epoch))
		d.ids = append(d.ids, route.Tenant)
	}
	return d, nil
}

func (r *routed) visit(ctx context.Context, tenant int, run func(context.Context, *tenantdb.DB) error) error {
	return r.tenants[tenant].Borrow(ctx, tenantdb.Interactive, run)
}

// visitAll borrows once for each of the first n tenants.
func (r *routed) visitAll(ctx context.Context, n int) error {
	var visiting errgroup.Group
	visiting.SetLimit(4)
	for i := range n {
		visiting.Go(func() error { return r.visit(ctx, i, selectOne) })
	}
	return visiting.Wait()
}

// explain prints what the router did to its connections.
func (r *routed) explain(b *bench) {
	s := r.Stats()
	for _, v := range r.View(0).Servers {
		b.progress("  router: %d hits, %d misses, %d evictions, %d dials, %d reclaims, %d refusals, %d of %d connections",
			s.Hits, s.Misses, s.Evictions, v.Dials, v.Reclaims, v.Refusals, v.Used, v.Share)
	}
}

func (r *routed) close() {
	// The run may have been interrupted, and this must be done all the same.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

// sampler reads a number again and again, beside what is measured, and keeps the
// highest. Stop it.
type sampler struct {
	stop chan struct{}
	done sync.WaitGroup
	most int64
	err  error
}

func sample(every time.Duration, read func() (int64, error)) *sampler {
	s := &sampler{stop: make(chan struct{})}
	s.done.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for s.err == nil {
			var n int64
			n, s.err = read()
			s.most = max(s.most, n)
			select {
			case <-s.stop:
				return
			case <-tick.C:
			}
		}
	})
	return s
}

func (s *sampler) end() (int64, error) {
	close(s.stop)
	s.done.Wait()
	return s.most, s.err
}
