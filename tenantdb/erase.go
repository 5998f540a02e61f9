package tenantdb

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Eraser is who has payloads erased, as the tenant's audit names them.
type Eraser struct {
	Actor     string // key:<id>
	RequestID string
}

// Erasure is what a call erased.
type Erasure struct {
	Erased int
	// InProgress are predictions of the user's that haven't ended: what is kept of
	// them is kept when they do.
	InProgress int
}

// The hash, the counts and the ledger stay: what was done is still told, and what
// was said is not. Answers that could be given again go too. Who erases is written
// in the same transaction. $1 is the erasing row's id.
const (
	erasing = `
), gone as (
    update freehold.predictions p
       set input = null, output = null, salt = null, end_user = '', erased_at = now()
     where p.id = any(array(select f.id from found f where f.ended and not f.erased))
 returning p.id
), forgotten as (
    update freehold.idempotency_keys i set answer = null
     where i.prediction = any(array(select g.id from gone g)) and i.answer is not null
), audited as (
    insert into freehold.audit_log (id, at, actor, action, subject, request_id, detail)
    select $1, now(), $2, 'prediction.erase', $4, $3, json_build_object('predictions', g.n)
      from (select count(*) as n from gone) g where g.n > 0
)`

	eraseOne = `
with found as materialized (
    select p.id, p.state <> 'in_progress' as ended, p.erased_at is not null as erased
      from freehold.predictions p where p.id = $5 for update` + erasing + `
select f.ended from found f`

	eraseUser = `
with found as materialized (
    select p.id, true as ended, false as erased from freehold.predictions p
     where p.end_user = any($5) and p.end_user <> '' and p.state <> 'in_progress'
     order by p.id limit $6 for update` + erasing + `
select (select count(*)::int from gone),
       (select count(*)::int from freehold.predictions p where p.end_user = any($5) and p.end_user <> '' and p.state = 'in_progress')`
)

// ErasePrediction erases what was said: input, output, salt and end user. Twice is
// once. ErrNotFound; ErrInProgress while the request is at work; ErrFenced.
func (db *DB) ErasePrediction(ctx context.Context, who Eraser, id uuid.UUID) error {
	var ended bool
	b := db.fenced()
	b.Queue(eraseOne, uuid.Must(uuid.NewV7()), who.Actor, who.RequestID, "pred_"+id.String(), id).
		QueryRow(func(row pgx.Row) error { return row.Scan(&ended) })
	err := db.send(ctx, b)
	if err == nil && !ended {
		err = ErrInProgress
	}
	if err != nil {
		return fmt.Errorf("erase prediction: %w", err)
	}
	return nil
}

// EraseUser erases what was said by an end user who goes by any of these names, at
// most limit predictions: the caller calls again until it erases fewer. ErrFenced.
func (db *DB) EraseUser(ctx context.Context, who Eraser, users []string, limit int) (e Erasure, err error) {
	b := db.fenced()
	b.Queue(eraseUser, uuid.Must(uuid.NewV7()), who.Actor, who.RequestID, "", users, max(limit, 1)).
		QueryRow(func(row pgx.Row) error { return row.Scan(&e.Erased, &e.InProgress) })
	if err := db.send(ctx, b); err != nil {
		return Erasure{}, fmt.Errorf("erase user: %w", err)
	}
	return e, nil
}
