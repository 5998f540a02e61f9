package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/inference"
	"freehold/router"
	"freehold/tenantdb"
)

// Config of the tenants' door. Cache, Router, Inference, Keys, Audits and
// Logger are required.
type Config struct {
	Cache     *catalog.Cache
	Router    *router.Router
	Inference *inference.Service
	Keys      Keys
	Audits    Audits
	Ready     func(context.Context) error // nil: always ready
	Logger    *slog.Logger
	Version   string
	MaxBody   int // bytes; 4 MiB
	// DatabaseWait bounds what a user waits for the tenant's database each time,
	// connection and statements; 10 s. It should be longer than the router's own
	// waits.
	DatabaseWait time.Duration
}

func (c Config) validate() error {
	var errs []error
	for _, f := range []struct {
		missing bool
		name    string
	}{
		{c.Cache == nil, "Cache"}, {c.Router == nil, "Router"}, {c.Inference == nil, "Inference"},
		{c.Keys.missing(), "Keys"}, {c.Audits.missing(), "Audits"}, {c.Logger == nil, "Logger"},
	} {
		if f.missing {
			errs = append(errs, errors.New("Config."+f.name+" is required"))
		}
	}
	if c.DatabaseWait < 0 {
		errs = append(errs, fmt.Errorf("Config.DatabaseWait is %s, want 0 or more", c.DatabaseWait))
	}
	if c.MaxBody < 0 {
		errs = append(errs, fmt.Errorf("Config.MaxBody is %d bytes, want 0 or more", c.MaxBody))
	}
	return errors.Join(errs...)
}

// server holds what handlers work with.
type server struct {
	cache     *catalog.Cache
	router    *router.Router
	inference *inference.Service
	manage    Keys
	audits    Audits
	verifying chan struct{} // held while an audit is verified
	revoking  chan struct{} // held while a key is revoked
	log       *slog.Logger
	wait      time.Duration
}

// New makes the door; Serve it. What it is given stays the caller's to close.
func New(cfg Config) (*rest.Door, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configure api: %w", err)
	}
	d, err := rest.New(rest.Config{
		Title: "Freehold", Version: cfg.Version, Logger: cfg.Logger, Ready: cfg.Ready, MaxBody: cfg.MaxBody,
	})
	if err != nil {
		return nil, fmt.Errorf("configure api: %w", err)
	}
	s := &server{
		cache: cfg.Cache, router: cfg.Router, inference: cfg.Inference, manage: cfg.Keys, audits: cfg.Audits,
		verifying: make(chan struct{}, verifications), revoking: make(chan struct{}, revocations), log: cfg.Logger, wait: cmp.Or(cfg.DatabaseWait, 10*time.Second),
	}
	rest.Mount(d, s.gate, s.routes())
	return d, nil
}

// caller is who calls, and their hold on the tenant: there is no other way from
// here to a tenant's rows.
type caller struct {
	catalog.Identity
	tenant bounded
}

// call is the caller as the pipeline knows them.
func (c caller) call(r *rest.Request) inference.Call {
	return inference.Call{
		Tenant: c.tenant, Scope: c.Tenant.String(), Epoch: c.Epoch, Config: c.Config, Limits: c.Limits,
		KeyID: c.KeyID, RequestID: r.ID, Gone: rest.ClientGone,
	}
}

// asks is the call of a request for inference. What it is told of the caller's
// limits is in standing once it returns without an error.
func (c caller) asks(r *rest.Request, standing *inference.Standing) inference.Call {
	call := c.call(r)
	call.Told = func(st inference.Standing) { *standing = st }
	if r.IdempotencyKey != "" {
		call.IdempotencyKey, call.RequestHash = r.IdempotencyKey, r.Hash()
	}
	return call
}

// gate authenticates, checks state, scope and schema, and runs the handler as the
// caller.
// When the tenant's database says that this was decided on an old truth, nothing
// has been done yet, and all of it is decided once more.
func (s *server) gate(ctx context.Context, r *rest.Request, scope string, run func(caller) (*rest.Reply, error)) (*rest.Reply, error) {
	for again := false; ; again = true {
		id, err := s.cache.Authenticate(ctx, r.Token)
		if err != nil {
			return nil, err
		}
		r.Tenant = id.Tenant.String()
		if err := admissible(id, scope); err != nil {
			return nil, err
		}
		// Also what needs no database waits for a binary that fits: a handler may rely
		// on the schema that it was written for.
		if err := s.router.Serves(id.SchemaVersion, id.SchemaNeeds); err != nil {
			return nil, err
		}
		reply, err := run(caller{id, bounded{s.router.For(id.Tenant, id.Epoch), s.wait}})
		if again || !errors.Is(err, tenantdb.ErrFenced) {
			return reply, err
		}
		s.cache.Refresh(id.Tenant)
	}
}

// admissible refuses by the tenant's state, then by the key's scopes.
func admissible(id catalog.Identity, scope string) error {
	switch id.State {
	case catalog.Active, catalog.Moving:
		// The router lets what touches the database of one that moves wait.
	case catalog.Suspended:
		return router.ErrSuspended
	case catalog.Provisioning, catalog.Deleting, catalog.Deleted:
		return catalog.ErrInvalidKey
	default:
		return fmt.Errorf("tenant in unknown state %q", id.State)
	}
	// A route without a scope is a mistake in the table, and closed.
	if !slices.Contains(scopes, scope) || !id.Has(scope) {
		return rest.ErrScope
	}
	return nil
}

// scopes are those that a route here may need.
var scopes = []string{
	catalog.ScopeInference, catalog.ScopeRead, catalog.ScopeErase, catalog.ScopeModels, catalog.ScopeFiles,
	catalog.ScopeFineTuning, catalog.ScopeKeys, catalog.ScopeExport,
}

// bounded is a tenant whose interactive borrows end in time, however long the
// request itself may last.
type bounded struct {
	tenant *router.Tenant
	wait   time.Duration
}

// Borrow is router.Tenant's.
func (b bounded) Borrow(ctx context.Context, class tenantdb.Class, fn func(ctx context.Context, db *tenantdb.DB) error) error {
	if class == tenantdb.Interactive {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, b.wait)
		defer cancel()
	}
	return b.tenant.Borrow(ctx, class, fn)
}
