package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"freehold/catalog"
)

// stampede sends a crowd to one tenant that the router has never seen.
func (a *arena) stampede(ctx context.Context, b *bench) error {
	const callers = 500
	var pools, dials, reads []float64
	for round := range b.opt.rounds {
		b.progress("stampede, round %d of %d", round+1, b.opt.rounds)
		var m dialMeter
		r, err := a.newRouted(plenty, connsPerTenant, func(route *catalog.Route) {
			route.Config = route.Config.Copy()
			route.Config.DialFunc = m.wrap(route.Config.DialFunc)
		})
		if err != nil {
			return err
		}
		tenant := a.all.at(round, 0, 0)
		var (
			first  firstError
			crowd  sync.WaitGroup
			signal = make(chan struct{})
		)
		for range callers {
			crowd.Go(func() {
				<-signal
				if err := r.visit(ctx, tenant, hold); err != nil {
					first.keep(err)
				}
			})
		}
		close(signal)
		crowd.Wait()
		s := r.Stats()
		r.close()
		if first.err != nil {
			return first.err
		}
		pools = append(pools, float64(s.Pools+s.Closing))
		dials = append(dials, float64(m.highest()))
		reads = append(reads, float64(r.asked.Load()))
	}
	note := fmt.Sprintf("%d callers", callers)
	return errors.Join(
		b.emitWorst("stampede_pools", "pools", atMost(1), pools, note),
		b.emitWorst("stampede_dials", "dials", atMost(4), dials, "under way at once, until logged in"),
		b.emitWorst("stampede_catalog_reads", "reads", atMost(1), reads, note),
	)
}

// dialMeter counts the connections that are under way: dialled and not yet logged in.
type dialMeter struct {
	mu        sync.Mutex // guards what follows
	now, most int
}

func (m *dialMeter) add(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now += n
	m.most = max(m.most, m.now)
}

func (m *dialMeter) highest() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.most
}

func (m *dialMeter) wrap(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		m.add(1)
		conn, err := dial(ctx, network, addr)
		if err != nil {
			m.add(-1)
			return nil, err
		}
		return &meteredConn{Conn: conn, meter: m}, nil
	}
}

// readyForQuery, outside of a transaction, is the last that a server says at a
// login.
var readyForQuery = []byte("Z\x00\x00\x00\x05I")

// meteredConn is under way until the server says for the first time that it is
// ready for a query, or until it is closed.
type meteredConn struct {
	net.Conn
	meter *dialMeter
	ended sync.Once
}

func (c *meteredConn) end() { c.ended.Do(func() { c.meter.add(-1) }) }

func (c *meteredConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if bytes.HasSuffix(p[:n], readyForQuery) {
		c.end()
	}
	return n, err
}

func (c *meteredConn) Close() error {
	c.end()
	return c.Conn.Close()
}
