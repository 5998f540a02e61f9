package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// What catalog_seal holds, sealed: whoever opens it has the right master key.
const (
	sealText = "freehold catalog"
	sealAAD  = "catalog"
)

const selectSeal = `select sealed from catalog_seal`

// checkSeal answers ErrWrongMasterKey when the keyset isn't the catalog's.
func (c *Catalog) checkSeal(ctx context.Context) error {
	var sealed []byte
	err := c.writer.QueryRow(ctx, selectSeal).Scan(&sealed)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("open catalog: %w", ErrNotMigrated)
	}
	if err != nil {
		return wrap("open catalog", err)
	}
	return openSeal(c.keyset, sealed)
}

func openSeal(k *Keyset, sealed []byte) error {
	text, err := k.Open(sealed, sealAAD)
	if err != nil || string(text) != sealText {
		return ErrWrongMasterKey
	}
	return nil
}

// The insert that loses a race is answered with the winner's row.
const insertSeal = `
insert into catalog_seal (sealed) values ($1) on conflict (one) do nothing`

// ensureSeal writes the seal when it is missing, and checks it.
func ensureSeal(ctx context.Context, conn *pgx.Conn, k *Keyset) error {
	fresh, _, err := k.Seal([]byte(sealText), sealAAD)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, insertSeal, fresh); err != nil {
		return wrap("seal catalog", err)
	}
	var sealed []byte
	if err := conn.QueryRow(ctx, selectSeal).Scan(&sealed); err != nil {
		return wrap("seal catalog", err)
	}
	return openSeal(k, sealed)
}
