package tenantdb

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Claim is what an Idempotency-Key stands for.
type Claim struct {
	RequestHash []byte
	Prediction  uuid.UUID
	Done        bool
	Answer      []byte // sealed; nil when done: too large to be kept
}

const selectClaim = `
select i.request_hash, i.prediction, i.done, i.answer
  from freehold.idempotency_keys i
 where i.api_key = $1 and i.key = $2 and i.expires_at > now()`

// Claim reads what the key of an API key is claimed for; ErrNotFound when it is
// free, ErrFenced.
func (db *DB) Claim(ctx context.Context, apiKey, key string) (c Claim, err error) {
	b := db.fenced()
	b.Queue(selectClaim, apiKey, key).Query(func(rows pgx.Rows) error {
		c, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Claim])
		return err
	})
	if err := db.send(ctx, b); err != nil {
		return Claim{}, fmt.Errorf("read Idempotency-Key: %w", err)
	}
	return c, nil
}
