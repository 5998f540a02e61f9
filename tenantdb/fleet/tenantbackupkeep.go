package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"freehold/catalog"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/fleet/dump"
)

const (
	// scheduledAtOnce is how many backups wait or run: fewer than a worker does
	// operations at a time, so that none has to wait for backups alone.
	scheduledAtOnce = workAtOnce - 1
	// scheduledPerServer is how many of them a server bears.
	scheduledPerServer = 2
)

// scheduler is the actor of what nobody asked for.
const scheduler = "system"

// KeepBackups begins the backups that are due by their tenants' plans, a few at a
// time: any worker does them. Tenants that are busy come later. The error names the
// servers that can't be backed up from here, since no client programs fit them.
func (f *Fleet) KeepBackups(ctx context.Context) error {
	if f.blob == nil {
		return fmt.Errorf("keep backups: %w: none is configured", ErrStore)
	}
	switch _, err := f.cat.Restoring(ctx); {
	case err == nil:
		return nil // nothing is done before that ends
	case !errors.Is(err, catalog.ErrNotFound):
		return fmt.Errorf("keep backups: %w", err)
	}
	owed, err := f.cat.BackupsOwed(ctx, scheduledAtOnce, scheduledPerServer)
	if err != nil {
		return fmt.Errorf("keep backups: %w", err)
	}
	fit := map[string]error{}
	var errs []error
	for _, o := range owed {
		if _, asked := fit[o.Server]; !asked {
			if fit[o.Server] = f.hasTools(ctx, o.Server); fit[o.Server] != nil {
				errs = append(errs, fmt.Errorf("keep backups: server %s: %w", o.Server, fit[o.Server]))
			}
		}
		if fit[o.Server] != nil {
			continue
		}
		_, err := f.beginBackup(ctx, o.Tenant, BackupOptions{Actor: scheduler}, true, catalog.Taker{})
		switch {
		case errors.Is(err, catalog.ErrConflict), errors.Is(err, catalog.ErrNotFound): // its state has changed since
		case err != nil:
			return errors.Join(append(errs, fmt.Errorf("keep backups: %w", err))...)
		}
	}
	return errors.Join(errs...)
}

func (f *Fleet) hasTools(ctx context.Context, server string) error {
	s, err := f.cat.Server(ctx, server)
	if err == nil {
		_, err = dump.Find(s.Version / versionUnit)
	}
	return err
}

// expireAtOnce bounds one pass of ExpireBackups.
const expireAtOnce = 1000

// ExpireBackups removes the backups of all tenants that their plans don't keep any
// longer, and the operations of old ones.
func (f *Fleet) ExpireBackups(ctx context.Context) error {
	if f.blob == nil {
		return fmt.Errorf("expire backups: %w: none is configured", ErrStore)
	}
	if err := f.expireTenantBackups(ctx, catalog.TenantID{}); err != nil {
		return fmt.Errorf("expire backups: %w", err)
	}
	return f.cat.PruneBackups(ctx)
}

// expireTenantBackups is for one tenant, or with a zero id for all. They are
// forgotten first, so that nobody begins to restore from one that goes; the object of
// one that was only forgotten is recalled by the tenant's next backup, and expires again.
func (f *Fleet) expireTenantBackups(ctx context.Context, id catalog.TenantID) error {
	old, err := f.cat.ExpireTenantBackups(ctx, id, expireAtOnce)
	if err != nil {
		return err
	}
	for _, b := range old {
		if err := f.blob.Tenant(b.TenantID).Delete(ctx, underPrefix(b.TenantID, b.Key)); err != nil {
			return storeError(ctx, err)
		}
	}
	return nil
}

// recallBackups has the record of a tenant's backups and the store agree: what is in
// the store and was forgotten, by a catalog that was restored, is recorded; what tries
// that came to nothing left is removed; and what is gone from the store is forgotten.
// Its caller has the tenant's operation.
func (f *Fleet) recallBackups(ctx context.Context, id catalog.TenantID) error {
	known, err := f.cat.TenantBackups(ctx, id)
	if err != nil {
		return err
	}
	var stored []blob.Object
	err = f.blob.Tenant(id).List(ctx, backupsPrefix, func(o blob.Object) error {
		stored = append(stored, o)
		return nil
	})
	if err != nil {
		return storeError(ctx, err)
	}
	there := map[string]bool{}
	for _, o := range stored {
		there[o.Key] = true
		if slices.ContainsFunc(known, func(b catalog.TenantBackup) bool { return underPrefix(id, b.Key) == o.Key }) {
			continue
		}
		if err := f.recall(ctx, id, known, o); err != nil {
			return err
		}
	}
	for _, b := range known {
		if there[underPrefix(id, b.Key)] {
			continue
		}
		f.log.ErrorContext(ctx, "backup is gone from the object store", "tenant", id.String(), "backup", b.ID, "made_at", b.MadeAt)
		if err := f.cat.RemoveTenantBackup(ctx, b.ID); err != nil {
			return err
		}
	}
	return nil
}

// recall records an object that no record names, or removes it.
func (f *Fleet) recall(ctx context.Context, id catalog.TenantID, known []catalog.TenantBackup, o blob.Object) error {
	operation, ok := parseTenantBackupKey(o.Key)
	if !ok {
		return nil // somebody else's, and not ours to remove
	}
	cut := slices.ContainsFunc(known, func(b catalog.TenantBackup) bool { return b.ID == operation })
	if !cut {
		by, err := f.cat.Operation(ctx, operation)
		if err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		cut = err == nil && by.State != catalog.OperationDone
	}
	if cut { // the operation has another one, or came to nothing
		return f.dropBackupObject(ctx, id, o.Key)
	}
	r, err := f.openBackupEach(ctx, id, tenantPrefix(id)+o.Key, func([]BackupObject) {})
	switch {
	case errors.Is(err, ErrStore):
		return err
	case err != nil:
		f.log.WarnContext(ctx, "backup not recorded", "tenant", id.String(), "key", o.Key, "reason", reason(ctx, err))
		return nil
	}
	defer r.Close()
	h := r.Header
	b := storedBackup{
		Key: o.Key, MadeAt: h.MadeAt, Bytes: o.Size, Objects: r.listed,
		Schema: h.Schema, Product: h.Product, ServerVersion: h.ServerVersion,
	}.of(id, h.Scheduled)
	b.ID = operation
	return f.cat.RecallTenantBackup(ctx, b)
}
