package tenantdb

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// States of a tenant's model.
const (
	ModelReady    = "ready"
	ModelDeleting = "deleting"
)

// TunedModel is a model that a job of the tenant's has made.
type TunedModel struct {
	ID       uuid.UUID // the job's
	Name     string    // ft:<base>:<slug>:<suffix>:<id>
	State    string
	Base     string // the platform's model: its kind, price and bounds
	Trainer  string
	Engine   string          // that serves it; empty: the base's
	Upstream string          // its name there; empty: by its artifact
	Artifact string          // prefix of its objects, models/<job>/<sha256>/; empty: it has none here
	Sum      []byte          // sha-256 of the artifact's manifest; nil: it has none
	Bytes    int64           // of the artifact
	Card     json.RawMessage // what there is to know of it

	CreatedAt time.Time
}

const (
	modelFields  = `m.id, m.name, m.state, m.base, m.trainer, m.engine, m.upstream, m.artifact, m.sha256 as sum, m.bytes`
	modelColumns = modelFields + `, m.card, m.created_at`

	listModels = `
select ` + modelFields + `, '{}'::json as card, m.created_at from freehold.models m
 where m.state = 'ready' order by m.id desc`
)

// TunedModels lists those that can be used, newest first, without their cards.
// ErrFenced.
func (db *DB) TunedModels(ctx context.Context) ([]TunedModel, error) {
	list, err := db.models(ctx, listModels)
	if err != nil {
		return nil, fmt.Errorf("list tuned models: %w", err)
	}
	return list, nil
}

const selectModel = `
select ` + modelColumns + ` from freehold.models m where m.name = $1 and m.state = 'ready'`

// TunedModelByName reads one that can be used. ErrNotFound, ErrFenced.
func (db *DB) TunedModelByName(ctx context.Context, name string) (TunedModel, error) {
	m, err := db.model(ctx, selectModel, name)
	if err != nil {
		return TunedModel{}, fmt.Errorf("read tuned model: %w", err)
	}
	return m, nil
}

const removeModel = `
with removed as (
    update freehold.models m set state = 'deleting' where m.name = $1 and m.state = 'ready'
 returning ` + modelColumns + `
), audited as (
    insert into freehold.audit_log (id, at, actor, action, subject, request_id, detail)
    select $2, now(), $3, 'model.delete', m.name, $4, json_build_object('base', m.base, 'job', 'ftjob-' || m.id::text)
      from removed m where $5
)
select m.id, m.name, m.state, m.base, m.trainer, m.engine, m.upstream, m.artifact, m.sum, m.bytes, m.card, m.created_at
  from removed m`

// RemoveTunedModel marks a model as being deleted: nobody can use it any more, and its
// objects can go, and then its row (DropTunedModel). ErrNotFound, ErrFenced.
func (db *DB) RemoveTunedModel(ctx context.Context, who Actor, name string) (TunedModel, error) {
	m, err := db.model(ctx, removeModel, name, newID(), who.Actor, who.RequestID, who.Audit)
	if err != nil {
		return TunedModel{}, fmt.Errorf("remove tuned model: %w", err)
	}
	return m, nil
}

const deleteModel = `
delete from freehold.models m where m.id = $1 and m.state = 'deleting'`

// DropTunedModel forgets a removed model whose objects are gone. Twice is once.
// ErrFenced.
func (db *DB) DropTunedModel(ctx context.Context, id uuid.UUID) error {
	b := db.fenced()
	b.Queue(deleteModel, id)
	if err := db.send(ctx, b); err != nil {
		return fmt.Errorf("drop tuned model: %w", err)
	}
	return nil
}

const listStaleModels = `
select ` + modelFields + `, '{}'::json as card, m.created_at from freehold.models m
 where m.state = 'deleting' order by m.id limit 500`

// StaleTunedModels lists removed ones whose objects may be there still, some at a
// time, without their cards. ErrFenced.
func (db *DB) StaleTunedModels(ctx context.Context) ([]TunedModel, error) {
	list, err := db.models(ctx, listStaleModels)
	if err != nil {
		return nil, fmt.Errorf("list removed models: %w", err)
	}
	return list, nil
}

// model is models for a statement that finds one.
func (db *DB) model(ctx context.Context, sql string, args ...any) (TunedModel, error) {
	list, err := db.models(ctx, sql, args...)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return TunedModel{}, err
	}
	return list[0], nil
}

func (db *DB) models(ctx context.Context, sql string, args ...any) (list []TunedModel, err error) {
	b := db.fenced()
	b.Queue(sql, args...).Query(collectInto(&list))
	if err := db.send(ctx, b); err != nil {
		return nil, err
	}
	return list, nil
}
