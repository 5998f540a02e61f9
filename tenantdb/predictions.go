package tenantdb

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const selectPrediction = `
select id, request_id, api_key, kind, model, streamed, state, end_user, input, output,
       error_code, prompt_tokens, completion_tokens, created_at, settled_at
  from freehold.predictions
 where id = $1`

// Prediction reads one; ErrNotFound, ErrFenced.
func (db *DB) Prediction(ctx context.Context, id uuid.UUID) (Prediction, error) {
	list, err := db.predictions(ctx, selectPrediction, id)
	if err != nil {
		return Prediction{}, fmt.Errorf("read prediction: %w", err)
	}
	if len(list) == 0 {
		return Prediction{}, fmt.Errorf("read prediction: %w", ErrNotFound)
	}
	return list[0], nil
}

const listPredictions = `
select id, request_id, api_key, kind, model, streamed, state, end_user, input, output,
       error_code, prompt_tokens, completion_tokens, created_at, settled_at
  from freehold.predictions
 where id < $1
 order by id desc
 limit $2`

// Predictions lists newest first, at most limit (at least one), those before
// `after` when it is not zero. ErrFenced.
func (db *DB) Predictions(ctx context.Context, after uuid.UUID, limit int) ([]Prediction, error) {
	if after == uuid.Nil {
		after = uuid.Max
	}
	list, err := db.predictions(ctx, listPredictions, after, max(limit, 1))
	if err != nil {
		return nil, fmt.Errorf("list predictions: %w", err)
	}
	return list, nil
}

func (db *DB) predictions(ctx context.Context, sql string, args ...any) (list []Prediction, err error) {
	b := db.fenced()
	b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		list, err = pgx.CollectRows(rows, pgx.RowToStructByName[Prediction])
		return err
	})
	if err := db.send(ctx, b); err != nil {
		return nil, err
	}
	return list, nil
}
