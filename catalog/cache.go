package catalog

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"
)

// CacheConfig of a Cache; zero values are the documented defaults.
type CacheConfig struct {
	NodeName, Version string
	Poll              time.Duration // 250 ms
	StaleServe        time.Duration // 60 s
	Logger            *slog.Logger

	// SchemaMin and SchemaMax are the versions of the tenants' schema that this node
	// serves, as it is listed; 0: it doesn't say.
	SchemaMin, SchemaMax int64

	MaxKeys   int // keys known at once; 20 000
	MaxRoutes int // routes known at once; 20 000

	// Health is what this node says of itself, written with its heartbeat: a JSON
	// object of at most 8 kB. It is called once a second, on the goroutine that keeps
	// the cache true, so it must not wait. Nil: nothing.
	Health func() []byte
}

func (cfg CacheConfig) withDefaults() CacheConfig {
	cfg.Poll = orDefault(cfg.Poll, 250*time.Millisecond)
	cfg.StaleServe = orDefault(cfg.StaleServe, time.Minute)
	cfg.MaxKeys = max(1, orDefault(cfg.MaxKeys, 20_000))
	cfg.MaxRoutes = max(1, orDefault(cfg.MaxRoutes, 20_000))
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

const (
	// loadTimeout bounds a read that several callers wait for; it outlives them.
	loadTimeout = 5 * time.Second
	// waitTimeout bounds what one caller waits for such a read.
	waitTimeout = 2 * time.Second
	// maxReads bounds such reads at any time: made-up keys and ids cost the
	// catalog no more than these.
	maxReads = 8
)

// Cache is what a node knows of the catalog, kept true by notifications and a
// poll: an answer is never older than the epoch it bears, and a change is seen
// within one Poll also when its notification was lost. Until Run has read the
// clock for the first time nothing is kept, and every answer is read. It is safe
// for concurrent use.
type Cache struct {
	catalog *Catalog
	cfg     CacheConfig
	node    uuid.UUID
	changed []func(id TenantID, epoch int64)
	moving  []func(ctx context.Context, id TenantID, epoch int64) error
	drains  drains

	known    known
	flights  singleflight.Group
	reading  chan struct{} // holds one for each read of a key or a route
	routed   atomic.Bool   // a route was asked for
	platform atomic.Pointer[platform]

	born      time.Time
	confirmed atomic.Int64 // when the catalog last answered, in ns since born; 0: never
	down      atomic.Bool  // the catalog couldn't be reached at the last attempt
}

// NewCache makes a cache over an open catalog. It does no I/O.
func NewCache(c *Catalog, cfg CacheConfig) *Cache {
	cfg = cfg.withDefaults()
	cache := &Cache{catalog: c, cfg: cfg, node: uuid.Must(uuid.NewV7()), born: time.Now()}
	cache.reading = make(chan struct{}, maxReads)
	cache.drains.running = map[TenantID]draining{}
	cache.known.init(cfg)
	return cache
}

// OnChange registers fn, called (never under a lock) with each tenant whose epoch
// moved; register before Run. It is called on the goroutine that keeps the cache
// true, so it must not wait.
func (c *Cache) OnChange(fn func(id TenantID, epoch int64)) { c.changed = append(c.changed, fn) }

// OnMoving registers fn, called with each tenant that is seen to be moving, now
// or since before Run, in a goroutine of its own; register before Run. It returns
// nil once this node holds no connection of the tenant from before epoch and will
// make none, which is then told to the catalog (Catalog.AwaitDrained); after an
// error it is called again. ctx ends when the tenant moves no longer, at a later
// epoch (fn is called with that one then) or with Run, which waits for fn.
// Without any fn the node holds nothing, and tells that.
func (c *Cache) OnMoving(fn func(ctx context.Context, id TenantID, epoch int64) error) {
	c.moving = append(c.moving, fn)
}

// Confirmed reports whether the catalog answered within d.
func (c *Cache) Confirmed(d time.Duration) bool {
	at := c.confirmed.Load()
	return at > 0 && time.Since(c.born)-time.Duration(at) <= d
}

// Ready reports whether the cache can be served from: it has read the clock, and
// the catalog has confirmed within StaleServe.
func (c *Cache) Ready() bool { return c.Confirmed(c.cfg.StaleServe) }

// Seen returns the number up to which every change is known here.
func (c *Cache) Seen() int64 { return c.known.mark().seen }

// NodeID names this process in Catalog.Nodes.
func (c *Cache) NodeID() string { return c.node.String() }

// Authenticate turns a bearer token into an Identity: checksum first (a mistyped
// key needs no look-up), then a constant-time comparison with the hash.
// ErrInvalidKey or ErrUnavailable. No round trip when warm. A suspended or moving
// tenant's key is good: State tells.
func (c *Cache) Authenticate(ctx context.Context, token string) (Identity, error) {
	id, err := ParseKey(token)
	if err != nil {
		return Identity{}, err
	}
	rec, unknown := c.known.key(id, time.Now())
	switch {
	case (rec != nil || unknown) && !c.Ready():
		return Identity{}, ErrUnavailable
	case unknown:
		return nobody.admit(token, time.Now())
	case rec == nil:
		if rec, err = c.loadKey(ctx, id); err != nil {
			return Identity{}, err
		}
	}
	return rec.admit(token, time.Now())
}

// Route is Catalog.Route, cached. minEpoch: a cached route older than this is
// read anew; what is read is returned also when it is older still. ErrNotFound
// or ErrUnavailable.
func (c *Cache) Route(ctx context.Context, id TenantID, minEpoch int64) (Route, error) {
	if r, ok := c.known.route(id); ok && r.Epoch >= minEpoch {
		if !c.Ready() {
			return Route{}, ErrUnavailable
		}
		return r, nil
	}
	return c.loadRoute(ctx, id, minEpoch)
}

// Refresh forgets a tenant, so that what is read next comes from the catalog.
func (c *Cache) Refresh(id TenantID) { c.known.forget(id) }
