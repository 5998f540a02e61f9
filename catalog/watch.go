package catalog

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// answerTimeout bounds each question on the watching connection; a peer that is
// silent for longer is given up.
const answerTimeout = 2 * time.Second

// watcher is one connection's life.
type watcher struct {
	cache    *Cache
	conn     *pgx.Conn
	platform int64     // number of the platform as loaded
	beat     time.Time // last heartbeat
	beaten   int64     // and the number it told
	said     time.Time // what the node says of itself, last
}

// watch connects, and keeps the cache true until the connection or ctx ends.
// worked reports whether it got as far as that once.
func (c *Cache) watch(ctx context.Context) (worked bool, err error) {
	w := &watcher{cache: c, platform: -1, beaten: -1}
	if err := w.open(ctx); err != nil {
		return false, err
	}
	defer closeConn(ctx, w.conn)
	// The node is known before it serves: whoever waits for all nodes waits for
	// this one.
	if err := w.heartbeat(ctx); err != nil {
		return false, err
	}
	// The connection was away: LISTEN first, then read all that was missed.
	if err := w.poll(ctx); err != nil {
		return false, err
	}
	if err := w.pollMoving(ctx); err != nil {
		return true, err
	}
	next := time.Now().Add(c.cfg.Poll)
	for {
		if err := w.heartbeat(ctx); err != nil {
			return true, err
		}
		if err := w.wait(ctx, next); err != nil {
			return true, err
		}
		next = time.Now().Add(c.cfg.Poll)
		if err := w.poll(ctx); err != nil {
			return true, err
		}
	}
}

const (
	listen = `listen freehold_catalog`

	// Rows of processes that were killed a day ago tell nobody anything.
	forgetNodes = `delete from nodes where heartbeat_at < now() - interval '1 day'`
)

func (w *watcher) open(ctx context.Context) error {
	cfg := w.cache.catalog.writer.Config().ConnConfig
	cfg.ConnectTimeout = answerTimeout
	return bounded(ctx, func(ctx context.Context) (err error) {
		if w.conn, err = pgx.ConnectConfig(ctx, cfg); err != nil {
			return wrap("watch catalog", err)
		}
		for _, sql := range []string{listen, forgetNodes} {
			if _, err := w.conn.Exec(ctx, sql); err != nil {
				closeConn(ctx, w.conn)
				return wrap("watch catalog", err)
			}
		}
		return nil
	})
}

func bounded(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return fn(ctx)
}

// One snapshot: the clock, and who changed since.
const selectChanges = `
select c.seq, c.platform_seq, t.id, t.epoch, t.state
  from catalog_clock c left join tenants t on t.epoch > $1
 order by t.epoch`

// poll reads the clock and applies what has changed.
func (w *watcher) poll(ctx context.Context) error {
	c, running := w.cache, ctx
	return bounded(ctx, func(ctx context.Context) error {
		asked := time.Since(c.born)
		from := c.known.mark().seen
		if c.confirmed.Load() == 0 {
			from = math.MaxInt64 // the first time nothing is known that could be wrong
		}
		clock, moves, err := w.changes(ctx, from)
		if err != nil {
			return err
		}
		if clock.platform != w.platform {
			p, err := loadPlatform(ctx, w.conn)
			if err != nil {
				return err
			}
			c.platform.Store(p)
			w.platform = clock.platform
		}
		switch {
		case from == math.MaxInt64:
			c.known.restart(clock.seq, true)
		case clock.seq < from:
			c.cfg.Logger.Warn("catalog went back in time", "seen", from, "clock", clock.seq)
			c.known.restart(clock.seq, true)
		default:
			c.known.advance(clock.seq, moves)
		}
		// First, so that whoever sees it confirmed may read from it too.
		if c.down.Swap(false) {
			c.cfg.Logger.Info("catalog reachable again")
		}
		// Before anybody waits for the callbacks; what they are told is forgotten.
		c.confirmed.Store(max(1, int64(asked)))
		for _, m := range moves {
			for _, fn := range c.changed {
				fn(m.id, m.epoch)
			}
			c.drain(running, m)
		}
		return nil
	})
}

type clock struct{ seq, platform int64 }

func (w *watcher) changes(ctx context.Context, from int64) (now clock, moves []movement, err error) {
	rows, err := w.conn.Query(ctx, selectChanges, from)
	if err != nil {
		return now, nil, wrap("read clock", err)
	}
	var m movement
	var epoch *int64
	var state *State
	_, err = pgx.ForEachRow(rows, []any{&now.seq, &now.platform, &m.id, &epoch, &state}, func() error {
		if epoch != nil && state != nil {
			moves = append(moves, movement{m.id, *epoch, *state})
		}
		return nil
	})
	return now, moves, wrap("read clock", err)
}

const upsertNode = `
insert into nodes (id, name, version, seen, born, health, keys, schema_min, schema_max)
values ($1, $2, $3, $4, $5, coalesce($6::jsonb, '{}'), $7, $8, $9)
on conflict (id) do update set seen = excluded.seen, born = excluded.born, keys = excluded.keys, heartbeat_at = now(),
                               health = coalesce($6::jsonb, nodes.health)
returning (select seq from catalog_clock)`

// heartbeat tells how far this node has seen, when that moved and every second, and
// which master keys it has.
func (w *watcher) heartbeat(ctx context.Context) error {
	c := w.cache
	seen := c.known.mark().seen
	if seen == w.beaten && time.Since(w.beat) < time.Second {
		return nil
	}
	keys := c.catalog.keyset.KeyIDs()
	err := bounded(ctx, func(ctx context.Context) error {
		var now int64
		err := w.conn.QueryRow(ctx, upsertNode, c.node, c.cfg.NodeName, c.cfg.Version, seen, c.drains.born,
			w.health(), keys, c.cfg.SchemaMin, c.cfg.SchemaMax).Scan(&now)
		if err == nil {
			c.drains.registered(now, c.routed.Load())
		}
		return wrap("write heartbeat", err)
	})
	w.beat, w.beaten = time.Now(), seen
	return err
}

// wait returns at a notification of something new, or when it is time.
func (w *watcher) wait(ctx context.Context, until time.Time) error {
	seen := w.cache.known.mark().seen
	waiting, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for {
		n, err := w.conn.WaitForNotification(waiting)
		switch {
		case err == nil:
			if number, err := strconv.ParseInt(n.Payload, 10, 64); err != nil || number > seen {
				return nil
			}
		case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) && !w.conn.IsClosed():
			return nil
		default:
			return wrap("watch catalog", err)
		}
	}
}
