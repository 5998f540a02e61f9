package catalog

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = time.Second
)

// Run keeps the cache true until ctx ends: one connection of its own that LISTENs
// and reads the clock every Poll, and a heartbeat row with how far it has seen.
// A lost connection is made anew and everything missed is read by number. It
// returns nil when ctx ends; from then on nothing is kept.
func (c *Cache) Run(ctx context.Context) error {
	defer c.leave(ctx)
	defer c.drains.end()
	backoff := minBackoff
	for {
		began := time.Now()
		worked, err := c.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case worked:
			c.cfg.Logger.Warn("catalog connection lost", "error", err, "dur_ms", time.Since(began).Milliseconds())
			c.catalog.renew()
		case !c.down.Swap(true):
			c.cfg.Logger.Error("catalog unreachable", "error", err)
		}
		// One that served for a while is replaced at once; one that breaks as soon
		// as it is made would else be made without end.
		if worked && time.Since(began) > maxBackoff {
			backoff = minBackoff
			continue
		}
		jitter := rand.N(backoff) //nolint:gosec // spreads nodes, hides nothing
		if !pause(ctx, backoff/2+jitter) {
			return nil
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

const deleteNode = `delete from nodes where id = $1`

// leave ends what Run began: nothing is kept that nobody keeps true, and the node
// is no longer waited for.
func (c *Cache) leave(ctx context.Context) {
	c.known.restart(0, false)
	c.platform.Store(nil)
	c.confirmed.Store(0)
	if c.down.Swap(false) {
		return
	}
	// ctx has ended, and the row would be taken for a dead node's.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, err := c.catalog.writer.Exec(ctx, deleteNode, c.node); err != nil {
		c.cfg.Logger.Warn("node's row not removed", "error", wrap("remove node", err))
	}
}
