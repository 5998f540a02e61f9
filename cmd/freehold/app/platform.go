package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"freehold/catalog"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/fleet"
)

// Platform is what operators' commands work on. Close it.
type Platform struct {
	Catalog *catalog.Catalog
	Fleet   *fleet.Fleet
	Blob    *blob.Store // nil when it was not asked for
}

// Open opens the catalog and, with NeedS3, the object store. Who can do without
// the store leaves it out: an operator looks at a platform whose store is away.
func Open(ctx context.Context, cfg Config, need Need, log *slog.Logger) (*Platform, error) {
	if err := cfg.Check(need | NeedCatalog); err != nil {
		return nil, err
	}
	keys, err := catalog.ReadKeyset(cfg.MasterKeyFile)
	if err != nil {
		return nil, err
	}
	cat, err := catalog.Open(ctx, catalog.Config{URL: cfg.CatalogURL, Keyset: keys, Logger: log})
	if err != nil {
		return nil, err
	}
	p := &Platform{Catalog: cat}
	if need&NeedS3 != 0 {
		// A development store begins empty; a production bucket is its owner's to make.
		p.Blob, err = blob.Open(ctx, blob.Config{Endpoint: cfg.S3Endpoint, Bucket: cfg.S3Bucket}, false)
		if err != nil {
			cat.Close()
			return nil, err
		}
	}
	// Who moves a tenant waits for nodes as long as they may serve by themselves.
	set, err := cfg.Routing.parse()
	if err != nil {
		cat.Close()
		return nil, fmt.Errorf("%w:\n%w", ErrConfig, err)
	}
	p.Fleet, err = fleet.New(fleet.Config{
		Catalog: cat, Blob: p.Blob, DeadAfter: catalog.DeadAfter(set.staleServe), Logger: log,
	})
	if err != nil {
		cat.Close()
		return nil, err
	}
	return p, nil
}

// Close closes the catalog's connections.
func (p *Platform) Close() { p.Catalog.Close() }

// MigrateCatalog brings the catalog up. The first time, when neither a catalog
// nor a master key file exists, it writes a new master key.
func MigrateCatalog(ctx context.Context, cfg Config, log *slog.Logger) (from, to int64, newKey bool, err error) {
	if err := cfg.Check(NeedCatalog); err != nil {
		return 0, 0, false, err
	}
	keys, err := catalog.ReadKeyset(cfg.MasterKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		newKey = true
		keys, err = catalog.NewKeyset()
		if err == nil {
			err = keys.Write(cfg.MasterKeyFile)
		}
	}
	if err != nil {
		return 0, 0, false, err
	}
	from, to, err = catalog.Migrate(ctx, catalog.Config{URL: cfg.CatalogURL, Keyset: keys, Logger: log})
	if errors.Is(err, catalog.ErrWrongMasterKey) && newKey {
		// The catalog was sealed with a key that lies elsewhere: the new one is of no use.
		if rmErr := os.Remove(cfg.MasterKeyFile); rmErr != nil {
			err = errors.Join(err, rmErr)
		}
		newKey = false
		err = fmt.Errorf("%s does not exist: %w", cfg.MasterKeyFile, err)
	}
	return from, to, newKey, err
}
