package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const engineColumns = `name, kind, base_url, timeout_ms, secret is not null, created_at`

const insertEngine = `
insert into engines (name, kind, base_url, secret, secret_key_id, timeout_ms)
values ($1, $2, $3, $4, $5, $6) returning ` + engineColumns

// AddEngine registers an engine; its key, if any, is sealed. A timeout of zero
// means 60 s. ErrExists when the name is taken.
func (c *Catalog) AddEngine(ctx context.Context, spec EngineSpec) (e Engine, err error) {
	if err := spec.validate(); err != nil {
		return Engine{}, fmt.Errorf("add engine: %w", err)
	}
	var sealed []byte
	var keyID int64
	if spec.Key != "" {
		if sealed, keyID, err = c.keyset.Seal([]byte(spec.Key), engineAAD(spec.Name)); err != nil {
			return Engine{}, err
		}
	}
	timeout := max(orDefault(spec.Timeout, time.Minute), time.Millisecond)
	err = c.changePlatform(ctx, "add engine", func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, insertEngine, spec.Name, spec.Kind, spec.BaseURL, sealed, keyID,
			timeout.Milliseconds())
		if err != nil {
			return err
		}
		e, err = pgx.CollectExactlyOneRow(rows, toEngine)
		return err
	})
	return e, err
}

func toEngine(row pgx.CollectableRow) (e Engine, err error) {
	var ms int64
	err = row.Scan(&e.Name, &e.Kind, &e.BaseURL, &ms, &e.HasKey, &e.CreatedAt)
	e.Timeout = time.Duration(ms) * time.Millisecond
	return e, err
}

const selectEngines = `select ` + engineColumns + ` from engines order by name`

// Engines lists by name.
func (c *Catalog) Engines(ctx context.Context) ([]Engine, error) { return engines(ctx, c.writer) }

func engines(ctx context.Context, q querier) ([]Engine, error) {
	rows, err := q.Query(ctx, selectEngines)
	if err != nil {
		return nil, wrap("list engines", err)
	}
	list, err := pgx.CollectRows(rows, toEngine)
	return list, wrap("list engines", err)
}

const selectEngineKey = `select secret from engines where name = $1`

// EngineKey unseals an engine's key; empty when it has none.
func (c *Catalog) EngineKey(ctx context.Context, name string) (string, error) {
	var sealed []byte
	if err := c.writer.QueryRow(ctx, selectEngineKey, name).Scan(&sealed); err != nil {
		return "", wrap("read engine's key", err)
	}
	if sealed == nil {
		return "", nil
	}
	key, err := c.keyset.Open(sealed, engineAAD(name))
	if err != nil {
		return "", fmt.Errorf("read engine's key: %w", err)
	}
	return string(key), nil
}

const (
	selectFallsBack = `
select exists (select from models where fallbacks @> jsonb_build_array(jsonb_build_object('engine', $1::text)))`

	deleteEngine = `delete from engines where name = $1`
)

// RemoveEngine refuses with ErrConflict while models are served by it, or fall back
// to it.
func (c *Catalog) RemoveEngine(ctx context.Context, name string) error {
	return c.changeModels(ctx, "remove engine", func(tx pgx.Tx) error {
		var held bool
		if err := tx.QueryRow(ctx, selectFallsBack, name).Scan(&held); err != nil {
			return err
		}
		if held {
			return fmt.Errorf("%w: models fall back to it", ErrConflict)
		}
		return deleteOne(ctx, tx, deleteEngine, name, "models are served by it")
	})
}
