package tenantdb

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Prediction is one answered (or failed) request.
type Prediction struct {
	// ID is a uuid v7: the table is ordered and divided by the time in it.
	ID               uuid.UUID
	RequestID        string
	APIKey           string
	Kind             string // chat, embedding, prediction
	Model            string
	Streamed         bool
	State            string // in_progress, succeeded, failed, cancelled, interrupted
	EndUser          string
	Input, Output    json.RawMessage // nil is null
	ErrorCode        string
	PromptTokens     int64
	CompletionTokens int64
	CreatedAt        time.Time
	SettledAt        *time.Time
}

const insertPrediction = `
insert into freehold.predictions
       (id, request_id, api_key, kind, model, streamed, state, end_user, input, created_at)
values ($1, $2, $3, $4, $5, $6, 'in_progress', $7, $8, coalesce($9, now()))`

// Admit writes the prediction as in_progress; the zero CreatedAt is now. Refused
// with ErrFenced in the same round trip, ErrInvalid when a value can't be stored
// or the id was used before.
func (db *DB) Admit(ctx context.Context, p Prediction) error {
	if p.ID.Version() != 7 {
		return fmt.Errorf("admit prediction: %w: the id isn't a uuid v7", ErrInvalid)
	}
	var created *time.Time
	if !p.CreatedAt.IsZero() {
		created = &p.CreatedAt
	}
	b := db.fenced()
	b.Queue(insertPrediction, p.ID, p.RequestID, p.APIKey, p.Kind, p.Model, p.Streamed,
		p.EndUser, p.Input, created)
	if err := db.send(ctx, b); err != nil {
		return fmt.Errorf("admit prediction: %w", err)
	}
	return nil
}

// Settlement is how a prediction ended.
type Settlement struct {
	ID                             uuid.UUID
	State, ErrorCode               string // State: succeeded, failed, cancelled, interrupted
	Output                         json.RawMessage
	PromptTokens, CompletionTokens int64
}

// The second column sees the table as it was before the update, so a row that is
// settled already still counts as admitted.
const settlePrediction = `
with settled as (
    update freehold.predictions
       set state = $2, error_code = $3, output = $4, prompt_tokens = $5,
           completion_tokens = $6, settled_at = now()
     where id = $1 and state = 'in_progress'
 returning id)
select exists (select id from settled),
       exists (select id from freehold.predictions where id = $1)`

// Settle ends a prediction exactly once: a second settlement of the same id
// changes nothing and is no error. ErrNotFound when it was never admitted. It
// isn't fenced: what was admitted is accounted for.
func (db *DB) Settle(ctx context.Context, s Settlement) error {
	if s.State == "in_progress" {
		return fmt.Errorf("settle prediction: %w: in_progress is no end", ErrInvalid)
	}
	var settled, admitted bool
	b := new(pgx.Batch)
	b.Queue(settlePrediction, s.ID, s.State, s.ErrorCode, s.Output, s.PromptTokens, s.CompletionTokens).
		QueryRow(func(row pgx.Row) error { return row.Scan(&settled, &admitted) })
	if err := db.send(ctx, b); err != nil {
		return fmt.Errorf("settle prediction: %w", err)
	}
	if !settled && !admitted {
		return fmt.Errorf("settle prediction: %w", ErrNotFound)
	}
	return nil
}
