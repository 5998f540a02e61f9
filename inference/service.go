package inference

import (
	"context"
	"errors"
	"log/slog"

	"freehold/catalog"
	"freehold/inference/engine"
	"freehold/tenantdb"
)

// Borrower lends the tenant's database; *router.Tenant is one.
type Borrower interface {
	Borrow(ctx context.Context, class tenantdb.Class, fn func(ctx context.Context, db *tenantdb.DB) error) error
}

// Call is who asks: identity is an argument.
type Call struct {
	Tenant    Borrower
	Scope     string // the tenant's id, as a cache scope for engines
	Config    catalog.TenantConfig
	KeyID     string
	RequestID string
}

// Config of a Service. All fields are required.
type Config struct {
	// Model looks a platform model up: catalog.ErrNotFound when there is none.
	Model func(ctx context.Context, name string) (catalog.Model, error)
	// Models lists them.
	Models func(ctx context.Context) ([]catalog.Model, error)
	// Engine returns the engine of that name, ready to use.
	Engine func(ctx context.Context, name string) (engine.Engine, error)
	Logger *slog.Logger
}

func (c Config) validate() error {
	var errs []error
	for _, f := range []struct {
		missing bool
		name    string
	}{
		{c.Model == nil, "Model"}, {c.Models == nil, "Models"}, {c.Engine == nil, "Engine"}, {c.Logger == nil, "Logger"},
	} {
		if f.missing {
			errs = append(errs, errors.New("inference: Config."+f.name+" is required"))
		}
	}
	return errors.Join(errs...)
}

// Service answers requests of all tenants. It is safe for concurrent use and
// keeps nothing between calls.
//
// Besides the errors that each method names, what Borrow and the functions of
// Config return comes up unchanged; after tenantdb.ErrFenced nothing was done and
// the same request can be made again with a fresh Call.
type Service struct{ cfg Config }

// New checks cfg.
func New(cfg Config) (*Service, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Service{cfg}, nil
}
