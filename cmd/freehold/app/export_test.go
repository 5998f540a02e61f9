package app

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/exaring/otelpgx"
	"go.opentelemetry.io/otel/trace"

	"freehold/catalog"
	"freehold/inference/engine"
)

// WriteEnv writes a file of one variable as dev writes dev.env.
func WriteEnv(path, name, value string) error { return writeEnv(path, []envVar{{name, value}}) }

// ReadEnv reads such a file.
var ReadEnv = readEnv

// AddDevModels adds what dev serves.
var AddDevModels = addDevModels

// PlanWeight is how FREEHOLD_PLAN_WEIGHTS weighs a plan.
func PlanWeight(text string) (func(plan string) int, error) {
	c := FromEnv(func(string) string { return "" })
	c.Routing.PlanWeights = text
	r, err := c.Routing.parse()
	return r.weight, err
}

// Shares is how a node asks for its parts of budgets.
type Shares = shares

// NewShares makes it of what it calls.
func NewShares(
	ask func(context.Context, catalog.ShareAsk) (catalog.Share, error),
	drop func(ctx context.Context, server, node string, deadAfter time.Duration) (bool, error),
) *Shares {
	s := newShares(time.Minute, slog.New(slog.DiscardHandler))
	s.ask, s.drop = ask, drop
	return s
}

func (s *shares) Share(ctx context.Context, ask catalog.ShareAsk) (catalog.Share, error) {
	return s.share(ctx, ask)
}

func (s *shares) Close() { s.close() }

// Tracing is what a node traces with.
type Tracing struct{ *tracing }

// OpenTracing opens what the environment asks for.
func OpenTracing(ctx context.Context, version string, log *slog.Logger) (*Tracing, error) {
	t, err := openTracing(ctx, telemetryFromEnv(os.Getenv), version, log)
	if t == nil {
		return nil, err
	}
	return &Tracing{t}, err
}

func (t Tracing) Requests() trace.Tracer          { return t.requests() }
func (t Tracing) Statements() *otelpgx.Tracer     { return t.statements() }
func (t Tracing) Close(ctx context.Context) error { return t.close(ctx) }

// BaseURL is where tenants find their API, as mail tells it.
func BaseURL(c Config) string { return c.baseURL() }

// Recorded is how a chore's runs are written down.
var Recorded = recorded

// Engines are a node's.
type Engines = engines

// NewEngines makes them of a catalog.
func NewEngines(cat *catalog.Catalog, cache *catalog.Cache) *Engines {
	return &engines{cat: cat, cache: cache, log: slog.New(slog.DiscardHandler), made: map[string]madeEngine{}}
}

func (e *engines) Get(ctx context.Context, name string) (engine.Engine, error) {
	return e.get(ctx, name)
}

func (e *engines) Breakers() map[string]string { return e.breakers() }

// RunsFolder is runsFolder.
func RunsFolder(base string) (string, func(), error) { return runsFolder(base) }
