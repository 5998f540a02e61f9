package router_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/tenantdb"
)

// A server that was slow for a while is tried again by callers who have less time
// than its connections took then.
func TestQueue_ASlowSpellIsForgotten(t *testing.T) {
	t.Parallel()
	const tenants, delay, patience = 13, 600 * time.Millisecond, 250 * time.Millisecond
	s := setup(t, tenants, nil)
	var slow atomic.Bool
	slow.Store(true)
	for _, id := range s.ids {
		s.book.change(id, func(r *catalog.Route) {
			dial := r.Config.DialFunc
			r.Config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if slow.Load() {
					time.Sleep(delay)
				}
				return dial(ctx, network, addr)
			}
		})
	}
	var all sync.WaitGroup
	for _, id := range s.ids[1:] {
		all.Go(func() { s.visit(t, id, 2) })
	}
	all.Wait()
	slow.Store(false)
	soon(t, "served again", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return s.For(s.ids[0], 2).Borrow(ctx, tenantdb.Interactive,
			func(context.Context, *tenantdb.DB) error { return nil }) == nil
	})
}
