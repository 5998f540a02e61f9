package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

// Config of a Router. Route is required; zero values are the defaults named
// beside them.
type Config struct {
	// Route says where a tenant lives; minEpoch as in catalog.Cache.Route.
	Route func(ctx context.Context, id catalog.TenantID, minEpoch int64) (catalog.Route, error)
	// Share tells this node's part of a server's budget, and is told what the node
	// does with it. When nil the node is alone: the whole Route.Budget is its.
	Share func(ctx context.Context, ask catalog.ShareAsk) (catalog.Share, error)
	// Backends tells which of the backends are alive on the server, for sockets
	// whose end doesn't come within 5 s. When nil those count as gone.
	Backends func(ctx context.Context, server string, pids []uint32) ([]uint32, error)
	// Node names this process in application_name, "freehold-router/NODE".
	Node string
	// Weight is a plan's part in the queue of a server that is full, at least 1;
	// 1 for all when nil. It must be quick and ask nobody.
	Weight func(plan string) int

	// MaxPools bounds the pools kept open, 1024. It is exceeded only while every
	// pool is pinned, and then for as long as that lasts.
	MaxPools int
	// ConnsPerTenant bounds the connections of one tenant, 8.
	ConnsPerTenant int
	// QueueWait is how long a borrower waits for a connection, 5 s; settlements
	// wait until their context ends.
	QueueWait time.Duration
	// PauseWait and PauseQueue are how long, 10 s, and how many together, 1000,
	// the requests of one tenant wait while it moves.
	PauseWait  time.Duration
	PauseQueue int
	// StaleServe is how long a share is believed that nobody confirmed, 60 s.
	StaleServe time.Duration
	// OpenTimeout bounds a look-up, and a new connection with its proof, 5 s.
	OpenTimeout time.Duration
	// IdleTimeout is how long an unused connection stays open, 60 s, give or
	// take a tenth, and after that the pool without one.
	IdleTimeout time.Duration
	// CloseTimeout is how long a pool that goes out of use waits for its
	// borrowers, 30 s; then it is closed, and what is still borrowed is left to
	// the borrowers' contexts.
	CloseTimeout time.Duration
	// LeaseWarn is the age at which a lease is logged with where it was taken, 1 s.
	LeaseWarn time.Duration
	// SchemaMin is the oldest tenant schema that this binary serves, and SchemaMax
	// the latest that it knows: a later one is served when it needs no more than
	// that (Route.SchemaNeeds). 0 leaves that end open.
	SchemaMin, SchemaMax int64
	// Tracer sees every statement and acquire; nil for none.
	Tracer pgx.QueryTracer
	// Logger is silent when nil.
	Logger *slog.Logger
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func (c Config) withDefaults() Config {
	c.MaxPools = orDefault(c.MaxPools, 1024)
	c.ConnsPerTenant = orDefault(c.ConnsPerTenant, 8)
	c.QueueWait = orDefault(c.QueueWait, 5*time.Second)
	c.PauseWait = orDefault(c.PauseWait, 10*time.Second)
	c.PauseQueue = orDefault(c.PauseQueue, 1000)
	c.StaleServe = orDefault(c.StaleServe, time.Minute)
	c.OpenTimeout = orDefault(c.OpenTimeout, 5*time.Second)
	c.IdleTimeout = orDefault(c.IdleTimeout, time.Minute)
	c.CloseTimeout = orDefault(c.CloseTimeout, 30*time.Second)
	c.LeaseWarn = orDefault(c.LeaseWarn, time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Route == nil {
		bad("Route is required")
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"MaxPools", c.MaxPools}, {"ConnsPerTenant", c.ConnsPerTenant}, {"PauseQueue", c.PauseQueue}} {
		if n.value < 1 {
			bad("%s is %d, must be at least 1", n.name, n.value)
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"QueueWait", c.QueueWait}, {"PauseWait", c.PauseWait}, {"StaleServe", c.StaleServe},
		{"OpenTimeout", c.OpenTimeout}, {"IdleTimeout", c.IdleTimeout}, {"CloseTimeout", c.CloseTimeout},
		{"LeaseWarn", c.LeaseWarn},
	} {
		if d.value < 0 {
			bad("%s is %s, must not be negative", d.name, d.value)
		}
	}
	if c.SchemaMin < 0 || c.SchemaMax < 0 {
		bad("SchemaMin and SchemaMax must not be negative")
	}
	if c.SchemaMax > 0 && c.SchemaMin > c.SchemaMax {
		bad("SchemaMin is %d, must not exceed SchemaMax, %d", c.SchemaMin, c.SchemaMax)
	}
	return errors.Join(errs...)
}
