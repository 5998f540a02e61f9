package catalog

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5"
)

// drains are the moving tenants that this node lets go of. Its fields are the
// goroutine's that runs the cache.
type drains struct {
	running map[TenantID]draining
	all     sync.WaitGroup

	known bool  // a heartbeat was written
	born  int64 // the clock's number then, when no route was asked for before; else 0
}

type draining struct {
	epoch int64
	stop  context.CancelFunc
}

// registered notes the clock's number at the first heartbeat. The heartbeats after
// it tell that number: not the first itself, since a route may have been asked for
// while it was written.
func (d *drains) registered(now int64, routed bool) {
	if !d.known && !routed {
		d.born = now
	}
	d.known = true
}

// end has everything stop, and waits for it.
func (d *drains) end() {
	d.keep(nil)
	d.all.Wait()
}

// keep stops those that aren't among the moving.
func (d *drains) keep(moving map[TenantID]bool) {
	for id, one := range d.running {
		if !moving[id] {
			one.stop()
			delete(d.running, id)
		}
	}
}

// drain begins to let go of a tenant that moves, and ends it for one that
// doesn't.
func (c *Cache) drain(ctx context.Context, m movement) {
	if one, ok := c.drains.running[m.id]; ok {
		if one.epoch == m.epoch && m.state == Moving {
			return
		}
		one.stop()
		delete(c.drains.running, m.id)
	}
	if m.state != Moving {
		return
	}
	ctx, stop := context.WithCancel(ctx)
	c.drains.running[m.id] = draining{m.epoch, stop}
	c.drains.all.Go(func() { c.letGo(ctx, m) })
}

// letGo has everybody drain the tenant, and writes that it is so. It gives up
// when ctx ends or the tenant has moved on.
func (c *Cache) letGo(ctx context.Context, m movement) {
	for _, fn := range c.moving {
		c.retry(ctx, "tenant not drained", m, func() error { return fn(ctx, m.id, m.epoch) })
	}
	c.retry(ctx, "drained tenant not told", m, func() error { return c.catalog.setDrained(ctx, m, c) })
}

func (c *Cache) retry(ctx context.Context, failed string, m movement, fn func() error) {
	for backoff := minBackoff; ctx.Err() == nil; backoff = min(2*backoff, maxBackoff) {
		err := fn()
		if err == nil || ctx.Err() != nil {
			return
		}
		c.cfg.Logger.Warn(failed, "tenant", m.id.String(), "epoch", m.epoch, "error", err)
		pause(ctx, backoff)
	}
}

// The row is locked, so that an acknowledgement can't outlive the state that it
// is for.
const insertDrained = `
insert into drained (tenant, node, epoch)
select t.id, $2::uuid, t.epoch from tenants t
 where t.id = $1 and t.state = 'moving' and t.epoch = $3 for share
on conflict (tenant, node) do update set epoch = greatest(drained.epoch, excluded.epoch)`

func (c *Catalog) setDrained(ctx context.Context, m movement, by *Cache) error {
	_, err := c.writer.Exec(ctx, insertDrained, m.id, by.node, m.epoch)
	return wrap("acknowledge move", err)
}

const selectMoving = `select id, epoch, state from tenants where state = 'moving'`

// pollMoving finds who is moving at this moment, whatever was missed.
func (w *watcher) pollMoving(ctx context.Context) error {
	running := ctx
	return bounded(ctx, func(ctx context.Context) error {
		rows, err := w.conn.Query(ctx, selectMoving)
		if err != nil {
			return wrap("read moving tenants", err)
		}
		moving := map[TenantID]bool{}
		var m movement
		_, err = pgx.ForEachRow(rows, []any{&m.id, &m.epoch, &m.state}, func() error {
			moving[m.id] = true
			w.cache.drain(running, m)
			return nil
		})
		if err != nil {
			return wrap("read moving tenants", err)
		}
		w.cache.drains.keep(moving)
		return nil
	})
}
