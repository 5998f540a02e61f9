package main

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"freehold/tenantdb"
)

// door is a way to a tenant's database, given by its place in platform.tenants.
type door func(ctx context.Context, tenant int, run func(context.Context, *tenantdb.DB) error) error

// connsPerTenant bounds a tenant's connections on every side.
const connsPerTenant = 8

// peerName begins the application_name of all connections that aren't the router's.
const peerName = "freehold-bench-"

// peerConfig is how a peer logs in as a tenant.
func (p *platform) peerConfig(tenant int, peer string) *pgx.ConnConfig {
	cfg := p.tenants[tenant].Config.Copy()
	cfg.RuntimeParams["application_name"] = peerName + peer
	return cfg
}

// poolConfig is a plain pgxpool: its own defaults, but for the number of
// connections.
func poolConfig(cfg *pgx.ConnConfig, conns int) (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig("host=127.0.0.1 user=x dbname=x sslmode=disable")
	if err != nil {
		return nil, err
	}
	c.ConnConfig = cfg
	c.MaxConns = int32(conns)
	return c, nil
}

// array is a pool for every tenant, all of them open: the least that a request
// can cost in this process. Close it.
type array struct{ pools []*pgxpool.Pool }

func openArray(ctx context.Context, tenants, conns int, config func(tenant int) *pgx.ConnConfig) (*array, error) {
	a := &array{pools: make([]*pgxpool.Pool, tenants)}
	for i := range a.pools {
		cfg, err := poolConfig(config(i), conns)
		if err != nil {
			return nil, err
		}
		if a.pools[i], err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), cfg); err != nil {
			return nil, err
		}
	}
	var opening errgroup.Group
	opening.SetLimit(4)
	for i := range a.pools {
		opening.Go(func() error { return a.visit(ctx, i, selectOne) })
	}
	if err := opening.Wait(); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func (a *array) visit(ctx context.Context, tenant int, run func(context.Context, *tenantdb.DB) error) error {
	conn, err := a.pools[tenant].Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return run(ctx, tenantdb.On(conn, 1))
}

func (a *array) close() {
	var all sync.WaitGroup
	for _, pool := range a.pools {
		if pool != nil {
			all.Go(pool.Close)
		}
	}
	all.Wait()
}

// connectEach is a connection for each request.
func (p *platform) connectEach(ctx context.Context, tenant int, run func(context.Context, *tenantdb.DB) error) error {
	conn, err := pgx.ConnectConfig(ctx, p.peerConfig(tenant, "connect"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return run(ctx, tenantdb.On(conn, 1))
}

// evictor is the plain LRU of pools that one would write first: the least recently
// used one is closed to make room. Nothing keeps it from closing a pool that a
// request has just been given. Close it.
type evictor struct {
	config func(tenant int) *pgx.ConnConfig
	room   int
	conns  int

	mu    sync.Mutex // guards pools
	pools *simplelru.LRU[int, *pgxpool.Pool]
}

func newEvictor(room, conns int, config func(tenant int) *pgx.ConnConfig) (*evictor, error) {
	pools, err := simplelru.NewLRU[int, *pgxpool.Pool](room+1, nil)
	return &evictor{config: config, room: room, conns: conns, pools: pools}, err
}

func (e *evictor) visit(ctx context.Context, tenant int, run func(context.Context, *tenantdb.DB) error) error {
	pool, err := e.get(ctx, tenant)
	if err != nil {
		return err
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return run(ctx, tenantdb.On(conn, 1))
}

func (e *evictor) get(ctx context.Context, tenant int) (*pgxpool.Pool, error) {
	e.mu.Lock()
	if pool, ok := e.pools.Get(tenant); ok {
		e.mu.Unlock()
		return pool, nil
	}
	cfg, err := poolConfig(e.config(tenant), e.conns)
	if err != nil {
		e.mu.Unlock()
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), cfg)
	if err != nil {
		e.mu.Unlock()
		return nil, err
	}
	e.pools.Add(tenant, pool)
	var evicted *pgxpool.Pool
	if e.pools.Len() > e.room {
		_, evicted, _ = e.pools.RemoveOldest()
	}
	e.mu.Unlock()
	if evicted != nil {
		evicted.Close()
	}
	return pool, nil
}

func (e *evictor) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, pool := range e.pools.Values() {
		pool.Close()
	}
	e.pools.Purge()
}

// warmth is how long a side works before its turn counts.
const warmth = 100 * time.Millisecond

// steady is a side of callers who ask for tenants by z through a door, in which
// no request may fail; it returns requests a second.
func steady(name string, z *zipf, callers int, through door, w work) *side {
	return &side{name: name + ", " + w.name, turn: func(ctx context.Context, round int, d time.Duration) (float64, error) {
		ask := func(ctx context.Context, caller, i int) error {
			return through(ctx, z.at(round, caller, i), w.run)
		}
		if _, err := closed(ctx, callers, min(warmth, d/2), ask).whole(); err != nil {
			return 0, err
		}
		return closed(ctx, callers, d, ask).whole()
	}}
}

// plain returns how a peer logs in as each tenant.
func (p *platform) plain(peer string) func(tenant int) *pgx.ConnConfig {
	return func(tenant int) *pgx.ConnConfig { return p.peerConfig(tenant, peer) }
}
