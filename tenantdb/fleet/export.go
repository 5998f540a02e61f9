package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/blob"
)

const (
	// ExportLife is how long an export can be downloaded.
	ExportLife = 24 * time.Hour
	// ExportURLLife is how long an address lives from which one can be read without a
	// key: it is made anew each time that somebody asks.
	ExportURLLife = 15 * time.Minute

	exportsPrefix = "exports/"
)

// exportKey is where an export lies under its tenant's prefix.
func exportKey(id string) string { return exportsPrefix + id + ".tar.zst" }

// ExportOptions say who wants an export. With a RequestKey, the same request (by its
// hash) within a day is answered with the export that it began.
type ExportOptions struct {
	Actor       string // key:<id> or operator:<name>
	RequestKey  string
	RequestHash []byte
}

// BeginExport registers an export of all that an active or suspended tenant has; a
// worker makes it. It tells the audit. ErrStore without an object store; otherwise
// catalog.BeginExport's errors, *catalog.Busy among them.
func (f *Fleet) BeginExport(ctx context.Context, id catalog.TenantID, o ExportOptions) (catalog.Export, error) {
	if f.blob == nil {
		return catalog.Export{}, fmt.Errorf("begin export: %w", ErrStore)
	}
	return f.cat.BeginExport(ctx, catalog.ExportSpec{
		Tenant: id, Actor: o.Actor, Steps: stepNames(exporting), RequestKey: o.RequestKey, RequestHash: o.RequestHash,
	}, exportKey)
}

// Export is BeginExport, done here and now; when another worker was quicker its error
// is a catalog.ErrConflict.
func (f *Fleet) Export(ctx context.Context, id catalog.TenantID, o ExportOptions) (catalog.Export, error) {
	e, err := f.BeginExport(ctx, id, o)
	if err != nil {
		return e, err
	}
	if err := f.Do(ctx, e.ID); err != nil {
		return e, fmt.Errorf("export: %w", err)
	}
	return f.cat.Export(ctx, id, e.ID)
}

// ExportURL is an address from which anybody can read an export for ExportURLLife, and
// no longer than it lives: a secret. It is the object store's, as this process reaches
// it: where that isn't how tenants do, they download from the API. catalog.ErrConflict
// for one that can't be downloaded, ErrStore.
func (f *Fleet) ExportURL(ctx context.Context, e catalog.Export) (string, error) {
	if err := f.downloadable(e); err != nil {
		return "", err
	}
	url, err := f.blob.Tenant(e.TenantID).PresignGet(ctx, e.Key, min(ExportURLLife, time.Until(*e.ExpiresAt)))
	return url, storeError(ctx, err)
}

// OpenExport reads an export. The caller closes. catalog.ErrConflict for one that
// can't be downloaded, catalog.ErrNotFound, ErrStore, also while it is read.
func (f *Fleet) OpenExport(ctx context.Context, e catalog.Export) (io.ReadCloser, error) {
	if err := f.downloadable(e); err != nil {
		return nil, err
	}
	r, _, err := f.blob.Tenant(e.TenantID).Get(ctx, e.Key)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, fmt.Errorf("read export: %w", catalog.ErrNotFound)
	}
	if err != nil {
		return nil, storeError(ctx, err)
	}
	return &exportReader{storeReader{ctx, r}, r}, nil
}

type exportReader struct {
	storeReader
	io.Closer
}

func (f *Fleet) downloadable(e catalog.Export) error {
	switch {
	case f.blob == nil:
		return ErrStore
	case e.State != catalog.ExportDone || e.ExpiresAt == nil:
		return fmt.Errorf("the export is %s: %w", e.State, catalog.ErrConflict)
	}
	return nil
}

// exportsAtOnce is how many exports' objects a pass removes.
const exportsAtOnce = 100

// ExpireExports removes the objects of exports whose time is over, and what is left of
// those that failed. One that can't be removed keeps no other; the next pass tries
// again.
func (f *Fleet) ExpireExports(ctx context.Context) error {
	if f.blob == nil {
		return nil
	}
	list, err := f.cat.ExportsOver(ctx, exportsAtOnce)
	if err != nil {
		return err
	}
	var failed error
	for _, e := range list {
		if err := f.dropExport(ctx, e.TenantID, e.Key); err != nil {
			failed = err
			continue
		}
		if err := f.cat.ForgetExport(ctx, e.ID); err != nil {
			return err
		}
	}
	return failed
}

// dropExport removes an export's object and what was begun of it. Idempotent.
func (f *Fleet) dropExport(ctx context.Context, id catalog.TenantID, key string) error {
	objects := f.blob.Tenant(id)
	if err := objects.AbortUploads(ctx, key); err != nil {
		return storeError(ctx, err)
	}
	return storeError(ctx, objects.Delete(ctx, key))
}
