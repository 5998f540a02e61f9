package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"freehold/catalog"
)

// Config of a Router. Route is required; zero values are the defaults named
// beside them.
type Config struct {
	// Route says where a tenant lives; minEpoch as in catalog.Cache.Route.
	Route func(ctx context.Context, id catalog.TenantID, minEpoch int64) (catalog.Route, error)
	// MaxPools bounds the pools kept open, 256. It is exceeded only while every
	// pool is pinned, and then for as long as that lasts.
	MaxPools int
	// ConnsPerPool bounds the leases and the connections of one tenant, 4.
	ConnsPerPool int32
	// OpenTimeout bounds a cold open, look-up and proof included, 5 s.
	OpenTimeout time.Duration
	// IdleTimeout is how long an unused connection stays open, 60 s, give or
	// take a tenth.
	IdleTimeout time.Duration
	// CloseTimeout is how long a pool that goes out of use waits for its
	// borrowers, 30 s; then it is closed, and what is still borrowed is left to
	// the borrowers' contexts.
	CloseTimeout time.Duration
	// SchemaMin and SchemaMax are the tenant schema versions that this binary
	// serves, both included; 0 leaves that end open.
	SchemaMin, SchemaMax int64
	// Logger is silent when nil.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.MaxPools == 0 {
		c.MaxPools = 256
	}
	if c.ConnsPerPool == 0 {
		c.ConnsPerPool = 4
	}
	if c.OpenTimeout == 0 {
		c.OpenTimeout = 5 * time.Second
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = 60 * time.Second
	}
	if c.CloseTimeout == 0 {
		c.CloseTimeout = 30 * time.Second
	}
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
	if c.MaxPools < 1 {
		bad("MaxPools is %d, must be at least 1", c.MaxPools)
	}
	if c.ConnsPerPool < 1 {
		bad("ConnsPerPool is %d, must be at least 1", c.ConnsPerPool)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"OpenTimeout", c.OpenTimeout}, {"IdleTimeout", c.IdleTimeout}, {"CloseTimeout", c.CloseTimeout}} {
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
