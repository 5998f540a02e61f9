package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

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
	return errors.Join(errs...)
}

// Fleet acts on the databases of a catalog's tenants. It holds no connections
// between calls, needs no closing, and is safe for concurrent use by any number
// of processes.
type Fleet struct {
	cat      *catalog.Catalog
	blob     *blob.Store
	set      migrations.Set
	log      *slog.Logger
	latest   int64  // of set
	template string // name of the database that tenants are cloned from
	dead     time.Duration

	// afterStep, when not nil, is called after each step of Create: how tests
	// kill it there.
	afterStep func(step string) error
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
	sum, err := fingerprint(cfg.Tenant.FS)
	if err != nil {
		return nil, fmt.Errorf("fleet: tenant migrations: %w", err)
	}
	return &Fleet{
		cat: cfg.Catalog, blob: cfg.Blob, set: cfg.Tenant, log: cfg.Logger, latest: latest, dead: cfg.DeadAfter,
		template: fmt.Sprintf("%s%d_%s", templatePrefix, latest, sum),
	}, nil
}

// fingerprint is short for what the migrations are: binaries of one version whose
// migrations differ must not share a template.
func fingerprint(fsys fs.FS) (string, error) {
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, name := range names {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s", name, len(text), text)
	}
	return hex.EncodeToString(h.Sum(nil)[:6]), nil
}
