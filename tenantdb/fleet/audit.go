package fleet

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb"
)

// AuditLook says what VerifyAudit compares besides the chain itself and what the
// catalog has noted of it.
type AuditLook struct {
	Payloads bool // predictions with the hashes of their payloads
	Anchor   bool // the chain with the newest heads in the object store
}

// AuditReport is what verifying a tenant's audit has shown.
type AuditReport struct {
	tenantdb.AuditCheck

	Tenant     catalog.TenantID `json:"tenant"`
	Slug       string           `json:"slug"`
	Noted      int64            `json:"noted"`            // the last seal that the catalog knows of
	Anchor     string           `json:"anchor,omitempty"` // the object that was compared
	Anchored   int64            `json:"anchored,omitempty"`
	PublicKeys map[int64]string `json:"public_keys"` // in hex; for verifying an export
	// Restores are the newest of its database from backups, as the audit itself tells
	// them, the newest first. They are no breaks.
	Restores []AuditRestore `json:"restores,omitempty"`
}

// VerifyAudit reads a tenant's audit back, as its database's owner, in any state of
// the tenant. The error is of reading alone: ErrStore also when an anchor is to be
// compared and the object store is away.
func (f *Fleet) VerifyAudit(ctx context.Context, id catalog.TenantID, look AuditLook) (AuditReport, error) {
	r, err := f.verifyAudit(ctx, id, look)
	if err != nil {
		return AuditReport{}, fmt.Errorf("verify audit: %w", err)
	}
	return r, nil
}

func (f *Fleet) verifyAudit(ctx context.Context, id catalog.TenantID, look AuditLook) (r AuditReport, err error) {
	t, err := f.cat.Tenant(ctx, id)
	if err != nil {
		return r, err
	}
	r.Tenant, r.Slug = t.ID, t.Slug
	// What was noted is read before the chain, which only grows.
	noted, proven, err := f.cat.AuditHead(ctx, id)
	if err != nil {
		return r, err
	}
	r.Noted = noted.N
	v := tenantdb.AuditVerify{Tenant: id, Verify: f.cat.VerifyAuditSignature, Noted: []catalog.AuditHead{noted, proven}, Payloads: look.Payloads}
	if look.Anchor {
		if err := f.compareAnchor(ctx, noted, &r, &v); err != nil {
			return r, err
		}
	}
	keys, err := f.cat.AuditPublicKeys()
	if err != nil {
		return r, err
	}
	r.PublicKeys = map[int64]string{}
	for id, key := range keys {
		r.PublicKeys[id] = hex.EncodeToString(key)
	}
	err = f.asOwner(ctx, t, func(db *tenantdb.DB) (err error) {
		if r.AuditCheck, err = db.VerifyAudit(ctx, v); err == nil {
			r.Restores, err = toldRestores(ctx, db)
		}
		return err
	})
	return r, err
}

// compareAnchor has the newest anchored head of the tenant compared. One that is
// older than a restore, which the catalog has noted, says nothing any more.
func (f *Fleet) compareAnchor(ctx context.Context, noted catalog.AuditHead, r *AuditReport, v *tenantdb.AuditVerify) error {
	if f.blob == nil {
		return ErrStore
	}
	ours, err := f.cat.CatalogID(ctx)
	if err != nil {
		return err
	}
	doc, key, err := f.newestAnchor(ctx, ours)
	if err != nil {
		return err
	}
	r.Anchor = key
	h, ok := doc.head(noted.Tenant.String())
	if !ok || h.N > noted.N && h.SealedAt.Before(noted.SealedAt) {
		return nil
	}
	head, err := hex.DecodeString(h.Head)
	if err != nil {
		return fmt.Errorf("%s: %w", key, catalog.ErrInvalid)
	}
	r.Anchored = h.N
	v.Noted = append(v.Noted, catalog.AuditHead{Tenant: noted.Tenant, N: h.N, Head: head})
	return nil
}

// ExportAudit writes a tenant's audit as tenantdb.ExportAudit does, as its
// database's owner, and returns how many rows.
func (f *Fleet) ExportAudit(ctx context.Context, id catalog.TenantID, w io.Writer) (rows int64, err error) {
	t, err := f.cat.Tenant(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("export audit: %w", err)
	}
	keys, err := f.cat.AuditPublicKeys()
	if err != nil {
		return 0, fmt.Errorf("export audit: %w", err)
	}
	err = f.asOwner(ctx, t, func(db *tenantdb.DB) (err error) {
		rows, err = db.ExportAudit(ctx, tenantdb.AuditExport{Tenant: id, PublicKeys: keys, Sign: f.cat.SignAudit}, w)
		return err
	})
	return rows, err
}

// asOwner lends a tenant's database for reading, whatever its fence says.
func (f *Fleet) asOwner(ctx context.Context, t catalog.Tenant, fn func(*tenantdb.DB) error) error {
	cfg, err := f.ownerConfig(ctx, t.Server, t.Database)
	if err != nil {
		return err
	}
	cfg.RuntimeParams["default_transaction_read_only"] = "on"
	// The same statements for page after page, with arrays in them.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	conn, err := connect(ctx, cfg)
	if err != nil {
		return fmt.Errorf("connect to the tenant's database: %w", err)
	}
	defer closeConn(ctx, conn)
	return fn(tenantdb.On(conn, math.MaxInt64))
}
