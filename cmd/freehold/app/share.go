package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"freehold/catalog"
	"freehold/router"
)

// dropTimeout bounds one attempt to return silent nodes' shares of a server.
const dropTimeout = 10 * time.Second

// shares asks for this node's parts of the servers' budgets and, where others
// have fallen silent, returns theirs. Close it after the router.
type shares struct {
	ask  func(ctx context.Context, ask catalog.ShareAsk) (catalog.Share, error)
	drop func(ctx context.Context, server, node string, deadAfter time.Duration) (bool, error)
	dead time.Duration
	log  *slog.Logger

	mu       sync.Mutex // guards dropping and closed
	dropping map[string]bool
	closed   bool
	work     sync.WaitGroup

	// A drop outlives the ask that found it; close ends it.
	base context.Context
	stop context.CancelFunc
}

// newShares needs ask and drop set.
func newShares(deadAfter time.Duration, log *slog.Logger) *shares {
	s := &shares{dead: deadAfter, log: log, dropping: map[string]bool{}}
	// No caller's context: close ends it, after the asks that used it.
	s.base, s.stop = context.WithCancel(context.Background())
	return s
}

// share is router.Config.Share.
func (s *shares) share(ctx context.Context, ask catalog.ShareAsk) (catalog.Share, error) {
	got, err := s.ask(ctx, ask)
	if err == nil && len(got.Silent) > 0 {
		s.reclaim(ask.Server, got.Silent)
	}
	return got, err
}

// reclaim returns the silent nodes' shares, unless that is under way already. It
// doesn't wait: the router, which asks every few seconds, must not.
func (s *shares) reclaim(server string, nodes []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.dropping[server] {
		return
	}
	s.dropping[server] = true
	s.work.Go(func() {
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.dropping, server)
		}()
		ctx, cancel := context.WithTimeout(s.base, dropTimeout)
		defer cancel()
		for _, node := range nodes {
			// What isn't dropped now is found again by the next ask.
			if _, err := s.drop(ctx, server, node, s.dead); err != nil && s.base.Err() == nil {
				s.log.WarnContext(ctx, "silent node's share not returned", "server", server, "node", node, "error", err)
			}
		}
	})
}

func (s *shares) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.work.Wait()
}

// newRouter makes the router and tells the cache of it.
func newRouter(p *Platform, cache *catalog.Cache, sh *shares, set routing, tr *tracing, schemaMax int64, log *slog.Logger) (*router.Router, error) {
	cfg := router.Config{
		Route: cache.Route, Share: sh.share, Backends: p.Fleet.Backends, Node: cache.NodeID(),
		Weight: set.weight, MaxPools: set.maxPools, ConnsPerTenant: set.tenantConnections,
		QueueWait: set.queueWait, PauseWait: set.pauseWait, PauseQueue: set.pauseQueue,
		StaleServe: set.staleServe, IdleTimeout: set.idleTimeout, LeaseWarn: set.leaseWarn,
		SchemaMin: minSchema, SchemaMax: schemaMax, Logger: log,
	}
	if tr != nil {
		cfg.Tracer = tr.statements()
	}
	rt, err := router.New(cfg)
	if err != nil {
		return nil, err
	}
	cache.OnChange(rt.Invalidate)
	cache.OnMoving(rt.Drain)
	return rt, nil
}

// leave closes the router and, when no connection of it is left, gives its shares
// to the other nodes. Otherwise they wait until this node counts as dead.
func (n *node) leave(ctx context.Context) error {
	err := n.router.Close(ctx)
	n.shares.close()
	if err != nil {
		return err
	}
	return n.catalog.LeaveShares(ctx, n.cache.NodeID())
}
