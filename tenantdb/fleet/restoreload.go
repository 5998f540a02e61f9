package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/tenantdb"
	"freehold/tenantdb/fleet/dump"
)

// headerOf reads what a backup says of itself.
func (f *Fleet) headerOf(ctx context.Context, id catalog.TenantID, key string) (BackupHeader, error) {
	r, err := f.openBackupEach(ctx, id, key, func([]BackupObject) {})
	if err != nil {
		return BackupHeader{}, err
	}
	r.Close()
	return r.Header, nil
}

// knows refuses a backup that is newer than the fleet: catalog.ErrConflict, and
// migrations.ErrAhead.
func (f *Fleet) knows(h BackupHeader, known catalog.Versions) error {
	if h.Schema > f.latest {
		return fmt.Errorf("the backup is of schema %d, the latest here is %d: %w: %w", h.Schema, f.latest, migrations.ErrAhead, catalog.ErrConflict)
	}
	if h.Schema > known.Freehold || h.Product > known.Product {
		had := catalog.Versions{Freehold: h.Schema, Product: h.Product}
		return fmt.Errorf("the backup is of schema %s, the fleet is at %s: %w: %w", had, known, migrations.ErrAhead, catalog.ErrConflict)
	}
	return nil
}

// fits refuses a backup that can't be restored on that server, by its header alone.
func (f *Fleet) fits(ctx context.Context, id catalog.TenantID, key string, server catalog.Server, known catalog.Versions) error {
	h, err := f.headerOf(ctx, id, key)
	if err != nil {
		return err
	}
	if err := f.knows(h, known); err != nil {
		return err
	}
	if had, has := h.ServerVersion/versionUnit, server.Version/versionUnit; had > has {
		return fmt.Errorf("the backup is of Postgres %d, server %s is %d: %w", had, server.Name, has, catalog.ErrConflict)
	}
	if left := server.DiskBytes - server.UsedBytes; server.DiskBytes > 0 && h.Bytes > left {
		return fmt.Errorf("server %s has %d bytes left, the tenant had %d: %w", server.Name, max(0, left), h.Bytes, catalog.ErrConflict)
	}
	return nil
}

// wholeBackup reads all of a backup, and notes it where that isn't what was written.
func (f *Fleet) wholeBackup(ctx context.Context, id catalog.TenantID, backup, key string) error {
	_, _, err := f.checkBackup(ctx, id, key)
	if err == nil {
		return nil
	}
	return f.tellProof(ctx, backup, brokenBackup(err))
}

// tellProof notes what filling a database from a backup has shown of that: it was
// whole, or it isn't one. It returns err.
func (f *Fleet) tellProof(ctx context.Context, backup string, err error) error {
	failure := ""
	switch {
	case errors.Is(err, ErrBackupBroken):
		failure = reason(ctx, err)
	case err != nil:
		return err
	}
	told := f.cat.ProveTenantBackup(ctx, backup, failure)
	if errors.Is(told, catalog.ErrNotFound) { // it has been removed meanwhile
		told = nil
	}
	return errors.Join(err, told)
}

// fillFrom restores a tenant's backup into an empty database of a server, and compares
// each of its tables with what the backup says of it. It has statistics then, which
// dumps don't have. Errors: openBackup's,
// ErrBackupBroken, tenantdb.ErrForeign, tenantdb.ErrUnavailable.
func (f *Fleet) fillFrom(ctx context.Context, server, database string, id catalog.TenantID, key string) error {
	on, err := f.cat.Server(ctx, server)
	if err != nil {
		return err
	}
	tools, err := dump.Find(on.Version / versionUnit)
	if err != nil {
		return err
	}
	r, err := f.openBackupEach(ctx, id, key, func([]BackupObject) {})
	if err != nil {
		return err
	}
	defer r.Close()
	to, cleanup, err := f.client(ctx, server, database)
	defer cleanup()
	if err != nil {
		return err
	}
	if err := tools.In(ctx, to, r.Dump()); err != nil {
		return f.whoFailed(ctx, server, err)
	}
	want, err := r.Tables()
	if err != nil {
		return err
	}
	conn, err := f.builder(ctx, server, database)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	// Statistics, which dumps don't have, are made while the rows are compared.
	group, both := errgroup.WithContext(ctx)
	group.Go(func() error { return f.analyze(both, server, database) })
	group.Go(func() error { return holds(both, conn, want) })
	if err := group.Wait(); err != nil {
		return err
	}
	var whose catalog.TenantID
	if err := conn.QueryRow(ctx, selectIdentity).Scan(&whose); err != nil {
		return translate(ctx, err)
	}
	if whose != id {
		return tenantdb.ErrForeign
	}
	return nil
}

// builder connects to a database that is being built, as its owner. The caller closes.
func (f *Fleet) builder(ctx context.Context, server, database string) (*pgx.Conn, error) {
	cfg, err := f.ownerConfig(ctx, server, database)
	if err != nil {
		return nil, err
	}
	// Arrays and ids, whose types the server has to say; and tables that come and go.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
	cfg.RuntimeParams["statement_timeout"] = "0" // whole tables are read
	conn, err := connect(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the restored database: %w", err)
	}
	return conn, nil
}

// bringOn brings a database that was filled from a backup to these versions at least,
// and takes from it what the tenant's retention would have. It may be done again.
func (f *Fleet) bringOn(ctx context.Context, server, database string, id catalog.TenantID, madeAt time.Time, to catalog.Versions) error {
	cfg, err := f.ownerConfig(ctx, server, database)
	if err != nil {
		return err
	}
	if _, err := f.rise(ctx, cfg, to); err != nil {
		if away(ctx, err) {
			return because(ctx, err)
		}
		return &NotUpgraded{because(ctx, err)}
	}
	policy, err := f.cat.TenantConfig(ctx, id)
	if err != nil {
		return err
	}
	conn, err := f.builder(ctx, server, database)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	if err := age(ctx, conn, madeAt, policy.PredictionLogRetentionDays); err != nil {
		return fmt.Errorf("make it as old as it is: %w", translate(ctx, err))
	}
	return nil
}
