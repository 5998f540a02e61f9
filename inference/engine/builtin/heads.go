package builtin

import (
	"container/list"
	"context"
	"sync"

	"golang.org/x/sync/singleflight"

	"freehold/inference/engine/builtin/head"
)

// loadsAtOnce bounds how many heads are read at the same time.
const loadsAtOnce = 4

// DefaultHeadBytes is how much memory loaded heads may take together.
const DefaultHeadBytes = 64 << 20

// headCache keeps the heads used last, by key, within a bound of bytes. Each is
// loaded once, however many ask for it at the same time; an error isn't kept.
type headCache struct {
	flight  singleflight.Group
	loading chan struct{} // who loads has put something in: what is on its way isn't bounded by bytes

	mu     sync.Mutex // guards what follows
	bound  int64
	used   int64
	byKey  map[string]*list.Element
	recent *list.List // of *keptHead, the last used first
}

type keptHead struct {
	key  string
	head *head.Head
	size int64
}

func newHeadCache(bound int64) *headCache {
	return &headCache{bound: bound, loading: make(chan struct{}, loadsAtOnce), byKey: map[string]*list.Element{}, recent: list.New()}
}

// KeepHeads sets how many bytes of tuned models stay loaded (DefaultHeadBytes at
// first). What is too much by now goes at once.
func (e *Engine) KeepHeads(bytes int64) {
	e.heads.mu.Lock()
	defer e.heads.mu.Unlock()
	e.heads.bound = bytes
	e.heads.shrink()
}

// HeadBytes is how many bytes of tuned models are loaded.
func (e *Engine) HeadBytes() int64 {
	e.heads.mu.Lock()
	defer e.heads.mu.Unlock()
	return e.heads.used
}

// get returns the head of a key, loaded by load if it isn't there.
func (c *headCache) get(ctx context.Context, key string, load func(context.Context) (*head.Head, error)) (*head.Head, error) {
	if h := c.find(key); h != nil {
		return h, nil
	}
	// One load for all who wait, which goes on when the first of them leaves.
	detached := context.WithoutCancel(ctx)
	done := c.flight.DoChan(key, func() (any, error) {
		if h := c.find(key); h != nil {
			return h, nil
		}
		ctx, cancel := context.WithTimeout(detached, loadTimeout)
		defer cancel()
		select {
		case c.loading <- struct{}{}:
			defer func() { <-c.loading }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		h, err := load(ctx)
		if err != nil {
			return nil, err
		}
		c.keep(key, h)
		return h, nil
	})
	select {
	case r := <-done:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*head.Head), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (c *headCache) find(key string) *head.Head {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.byKey[key]
	if at == nil {
		return nil
	}
	c.recent.MoveToFront(at)
	return at.Value.(*keptHead).head
}

func (c *headCache) keep(key string, h *head.Head) {
	size := h.Bytes()
	c.mu.Lock()
	defer c.mu.Unlock()
	if size > c.bound {
		return // it would push all others out, and then not stay itself
	}
	if c.byKey[key] == nil {
		c.byKey[key] = c.recent.PushFront(&keptHead{key, h, size})
		c.used += size
	}
	c.shrink()
}

// shrink lets go of what was used longest ago until the bound holds.
func (c *headCache) shrink() {
	for c.used > c.bound && c.recent.Len() > 0 {
		k := c.recent.Remove(c.recent.Back()).(*keptHead)
		delete(c.byKey, k.key)
		c.used -= k.size
	}
}
