package admin

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/router"
	"freehold/tenantdb/fleet"
)

// MinToken is the least length of the operators' token, in characters.
const MinToken = 24

// Config of the operators' door. All but Ready, Metrics, NodeName, Version and
// PublicURL are required.
type Config struct {
	Catalog   *catalog.Catalog
	Cache     *catalog.Cache
	Fleet     *fleet.Fleet
	Router    *router.Router
	Token     string                      // at least MinToken characters
	Ready     func(context.Context) error // nil: always ready
	Metrics   func() ([]byte, error)      // in Prometheus' form; nil: no such route
	Logger    *slog.Logger
	NodeName  string // as nodes are listed; its id when empty
	Version   string
	PublicURL string // of this door, for its document; may be empty
}

func (c Config) validate() error {
	var errs []error
	for _, f := range []struct {
		missing bool
		name    string
	}{
		{c.Catalog == nil, "Catalog"}, {c.Cache == nil, "Cache"}, {c.Fleet == nil, "Fleet"}, {c.Router == nil, "Router"},
		{c.Logger == nil, "Logger"},
	} {
		if f.missing {
			errs = append(errs, errors.New("Config."+f.name+" is required"))
		}
	}
	if len(c.Token) < MinToken {
		errs = append(errs, fmt.Errorf("Config.Token has %d characters, want %d or more", len(c.Token), MinToken))
	}
	return errors.Join(errs...)
}

// server holds what handlers work with.
type server struct {
	catalog *catalog.Catalog
	cache   *catalog.Cache
	fleet   *fleet.Fleet
	router  *router.Router
	token   [sha256.Size]byte
	looks   chan struct{} // held while a token is looked up
	metrics func() ([]byte, error)
	log     *slog.Logger
	node    string
	version string
}

// New makes the door; Serve it. What it is given stays the caller's to close.
func New(cfg Config) (*rest.Door, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configure admin: %w", err)
	}
	d, err := rest.New(rest.Config{
		Title: "Freehold, operators", Version: cfg.Version, PublicURL: cfg.PublicURL, Logger: cfg.Logger, Ready: cfg.Ready,
	})
	if err != nil {
		return nil, fmt.Errorf("configure admin: %w", err)
	}
	s := &server{
		catalog: cfg.Catalog, cache: cfg.Cache, fleet: cfg.Fleet, router: cfg.Router,
		token: sha256.Sum256([]byte(cfg.Token)), looks: make(chan struct{}, lookUps), metrics: cfg.Metrics, log: cfg.Logger, node: cfg.NodeName, version: cfg.Version,
	}
	rest.Mount(d, s.gate, s.routes())
	return d, nil
}

// auditTimeout bounds the writing of an audit row.
const auditTimeout = 5 * time.Second

// audit writes down what an operator changed; detail holds no secret. The change
// stands already: it is audited also when its caller has gone meanwhile, and what
// can't be written down is for a person.
func (s *server) audit(ctx context.Context, who operator, r *rest.Request, action string, tenant catalog.TenantID, detail map[string]any) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	if err := s.catalog.AppendAudit(ctx, string(who), action, tenant, detail); err != nil {
		s.log.ErrorContext(ctx, "change without an audit row", "action", action, "request_id", r.ID, "error", err)
	}
}

// stands reports whether the change was made in spite of the error.
func stands(err error) bool {
	return errors.Is(err, fleet.ErrUnfenced) || errors.Is(err, fleet.ErrSessionsLeft)
}

// deleted is how a removal is answered.
type deleted struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Deleted bool   `json:"deleted"`
}
