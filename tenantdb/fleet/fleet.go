package fleet

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/tenantdb/blob"
)

// Config of a Fleet: Catalog required; Blob may be nil (no object prefix is made
// then, as in migration-only use).
type Config struct {
	Catalog *catalog.Catalog
	Blob    *blob.Store
	Tenant  migrations.Set // default migrations.Tenant()
	Logger  *slog.Logger   // default none

	// DeadAfter is how long a node must have been silent for a move not to wait
	// for it: catalog.DeadAfter of the longest StaleServe of any node. Default: of
	// a minute.
	DeadAfter time.Duration

	// Worker names this process in operations; default: a name of its own.
	Worker string
	// Heartbeat is how often who works on an operation says so: default 5 s. After
	// two and a half of them in silence another worker goes on with it.
	Heartbeat time.Duration
}

func (c Config) withDefaults() Config {
	if c.Tenant.FS == nil {
		c.Tenant = migrations.Tenant()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.DeadAfter == 0 {
		c.DeadAfter = catalog.DeadAfter(time.Minute)
	}
	if c.Worker == "" {
		c.Worker = "worker-" + uuid.NewString()[:8]
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 5 * time.Second
	}
	return c
}

func (c Config) validate() error {
	var errs []error
	if c.Catalog == nil {
		errs = append(errs, errors.New("Catalog: required"))
	}
	if c.DeadAfter < 0 {
		errs = append(errs, errors.New("DeadAfter: not negative"))
	}
	if c.Heartbeat < 0 {
		errs = append(errs, errors.New("Heartbeat: not negative"))
	}
	return errors.Join(errs...)
}

// Fleet acts on the databases of a catalog's tenants. It holds no connections
// between calls, needs no closing, and is safe for concurrent use by any number
// of processes.
type Fleet struct {
	cat    *catalog.Catalog
	blob   *blob.Store
	set    migrations.Set
	log    *slog.Logger
	latest int64 // of set
	dead   time.Duration
	worker string
	beat   time.Duration

	patience time.Duration // fenceTimeout, but in tests
	kept     keptProduct

	// crash, when not nil, is called at each point at which dying differs: how
	// tests kill a worker there.
	crash func(point string)
}

// New makes a Fleet. It does no I/O.
func New(cfg Config) (*Fleet, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	latest, err := cfg.Tenant.Latest()
	if err != nil {
		return nil, fmt.Errorf("fleet: tenant migrations: %w", err)
	}
	return &Fleet{
		cat: cfg.Catalog, blob: cfg.Blob, set: cfg.Tenant, log: cfg.Logger, latest: latest, dead: cfg.DeadAfter,
		worker: cfg.Worker, beat: cfg.Heartbeat, patience: fenceTimeout,
	}, nil
}
