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
	"freehold/inference/files"
	"freehold/inference/finetune"
	"freehold/router"
	"freehold/tenantdb"
	"freehold/tenantdb/blob"
)

// Config of the tenants' door. Cache, Router, Inference, Tuning, Due, Keys, Audits,
// Exports and Logger are required.
type Config struct {
	Cache     *catalog.Cache
	Router    *router.Router
	Inference *inference.Service
	Tuning    *finetune.Service
	Keys      Keys
	Audits    Audits
	Exports   Exports
	Ready     func(context.Context) error // nil: always ready
	Logger    *slog.Logger
	Version   string
	MaxBody   int // bytes; 4 MiB
	Objects   Objects
	MaxFile   int64 // bytes; files.MaxBytes
	// Due has a worker visit a tenant in that time, or sooner: catalog.MarkDue.
	Due func(ctx context.Context, id catalog.TenantID, in time.Duration) error
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
		{c.Tuning == nil, "Tuning"}, {c.Due == nil, "Due"},
		{c.Keys.missing(), "Keys"}, {c.Audits.missing(), "Audits"}, {c.Exports.missing(), "Exports"},
		{c.Logger == nil, "Logger"},
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
	if c.MaxFile < 0 {
		errs = append(errs, fmt.Errorf("Config.MaxFile is %d bytes, want 0 or more", c.MaxFile))
	}
	return errors.Join(errs...)
}

// server holds what handlers work with.
type server struct {
	cache     *catalog.Cache
	router    *router.Router
	inference *inference.Service
	tuning    *finetune.Service
	keeper    *files.Service
	objects   Objects
	due       func(ctx context.Context, id catalog.TenantID, in time.Duration) error
	manage    Keys
	audits    Audits
	exports   Exports
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
	maxFile := cmp.Or(cfg.MaxFile, files.MaxBytes)
	keeper, err := files.New(files.Config{Logger: cfg.Logger, MaxBytes: maxFile})
	if err != nil {
		return nil, fmt.Errorf("configure api: %w", err)
	}
	if cfg.Objects == nil {
		cfg.Objects = func(catalog.TenantID) *blob.Objects { return nil }
	}
	s := &server{
		keeper: keeper, objects: cfg.Objects, due: cfg.Due,
		cache: cfg.Cache, router: cfg.Router, inference: cfg.Inference, tuning: cfg.Tuning, manage: cfg.Keys, audits: cfg.Audits, exports: cfg.Exports,
		verifying: make(chan struct{}, verifications), revoking: make(chan struct{}, revocations), log: cfg.Logger, wait: cmp.Or(cfg.DatabaseWait, 10*time.Second),
	}
	rest.Mount(d, s.gate, s.routes())
	rest.Mount(d, s.gate, s.fileRoutes(maxFile))
	rest.Mount(d, s.gate, s.tuningRoutes())
	rest.Mount(d, s.gate, s.exportRoutes())
	return d, nil
}

// caller is who calls, and their hold on the tenant: there is no other way from
// here to a tenant's rows and objects.
type caller struct {
	catalog.Identity
	tenant  bounded
	objects *blob.Objects // nil: there is no object store
}

// needsSchema refuses while the tenant's database is older than that.
func (c caller) needsSchema(version int64) error {
	if c.SchemaVersion < version {
		return router.ErrUpgrading
	}
	return nil
}

// call is the caller as the pipeline knows them.
func (c caller) call(r *rest.Request) inference.Call {
	return inference.Call{
		Tenant: c.tenant, Scope: c.Tenant.String(), Epoch: c.Epoch, Schema: c.SchemaVersion, Config: c.Config, Limits: c.Limits,
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

// decisions bounds how often a request is decided anew: while it waits for a tenant
// that moves, the pause may be taken back and begun again.
const decisions = 8

// gate runs the handler as the caller, once they are admitted.
// When the tenant's database says that this was decided on an old truth, nothing
// has been done yet, and all of it is decided anew; a handler that has begun to
// read an upload sees to that itself.
func (s *server) gate(ctx context.Context, r *rest.Request, scope string, run func(caller) (*rest.Reply, error)) (*rest.Reply, error) {
	for n := 1; ; n++ {
		who, err := s.admit(ctx, r, scope)
		if err != nil {
			return nil, err
		}
		reply, err := run(who)
		if n == decisions || r.Begun() || !errors.Is(err, tenantdb.ErrFenced) {
			return reply, err
		}
		s.cache.Refresh(who.Tenant)
	}
}

// admit authenticates, and checks state, scope and schema.
func (s *server) admit(ctx context.Context, r *rest.Request, scope string) (caller, error) {
	id, err := s.cache.Authenticate(ctx, r.Token)
	if err != nil {
		return caller{}, err
	}
	r.Tenant = id.Tenant.String()
	if err := admissible(id, scope); err != nil {
		return caller{}, err
	}
	// Also what needs no database waits for a binary that fits: a handler may rely
	// on the schema that it was written for.
	if err := s.router.Serves(id.SchemaVersion, id.SchemaNeeds); err != nil {
		return caller{}, err
	}
	return caller{id, bounded{s.router.For(id.Tenant, id.Epoch), s.wait}, s.objects(id.Tenant)}, nil
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
