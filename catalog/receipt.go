package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Receipt is what a deletion leaves, signed.
type Receipt struct {
	Tenant    TenantID  `json:"tenant"`
	Slug      string    `json:"slug"`
	Document  string    `json:"document"` // JSON, the very bytes that are signed
	Signature []byte    `json:"signature"`
	KeyID     int64     `json:"key_id"`
	MadeAt    time.Time `json:"made_at"`
}

const insertReceipt = `
insert into receipts (tenant, document, signature, key_id) values ($1, $2, $3, $4)
on conflict (tenant) do nothing`

// SaveReceipt stores a tenant's receipt, unless there is one: the first stands.
func (c *Catalog) SaveReceipt(ctx context.Context, r Receipt) error {
	_, err := c.writer.Exec(ctx, insertReceipt, r.Tenant, r.Document, r.Signature, r.KeyID)
	return wrap("save receipt", err)
}

const (
	selectReceipt = `
select r.tenant, t.slug, r.document, r.signature, r.key_id, r.made_at
  from receipts r join tenants t on t.id = r.tenant`
	// A slug may have been many tenants'.
	newestOfSlug = ` where t.slug = $1 order by r.made_at desc limit 1`
)

// Receipt reads the receipt of the tenant that bears this id or, deleted last,
// this slug. ErrNotFound.
func (c *Catalog) Receipt(ctx context.Context, slugOrID string) (Receipt, error) {
	var rows pgx.Rows
	var err error
	if id, perr := ParseTenantID(slugOrID); perr == nil {
		rows, err = c.writer.Query(ctx, selectReceipt+` where r.tenant = $1`, id)
	} else if slugPattern.MatchString(slugOrID) {
		rows, err = c.writer.Query(ctx, selectReceipt+newestOfSlug, slugOrID)
	} else {
		return Receipt{}, fmt.Errorf("read receipt: %w", ErrNotFound)
	}
	if err != nil {
		return Receipt{}, wrap("read receipt", err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Receipt])
	return r, wrap("read receipt", err)
}

const newestCatalogBackup = `select made_at from catalog_backups order by made_at desc limit 1`

// NewestBackup is when the catalog was backed up last; ok is false for never.
func (c *Catalog) NewestBackup(ctx context.Context) (at time.Time, ok bool, err error) {
	err = c.writer.QueryRow(ctx, newestCatalogBackup).Scan(&at)
	if errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, false, nil
	}
	return at, err == nil, wrap("read backups", err)
}
