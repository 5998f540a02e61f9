package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const modelColumns = `name, engine, upstream, kind, trim_scale(input_price)::text as input_price,
       trim_scale(output_price)::text as output_price, created_at`

const insertModel = `
insert into models (name, engine, upstream, kind, input_price, output_price)
values ($1, $2, $3, $4, $5::text::numeric, $6::text::numeric) returning ` + modelColumns

// AddModel registers a platform model. An empty upstream is the name itself, an
// empty price is 0. ErrExists when the name is taken, ErrInvalid when there is
// no such engine.
func (c *Catalog) AddModel(ctx context.Context, m Model) (Model, error) {
	m.Upstream = orDefault(m.Upstream, m.Name)
	m.InputPrice, m.OutputPrice = orDefault(m.InputPrice, "0"), orDefault(m.OutputPrice, "0")
	if err := m.validate(); err != nil {
		return Model{}, fmt.Errorf("add model: %w", err)
	}
	err := c.changePlatform(ctx, "add model", func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, insertModel, m.Name, m.Engine, m.Upstream, m.Kind, m.InputPrice, m.OutputPrice)
		if err != nil {
			return err
		}
		m, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Model])
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == foreignKeyViolation {
			return invalid(wrong("engine", "there is none of that name"))
		}
		return err
	})
	if err != nil {
		return Model{}, err
	}
	return m, nil
}

const selectModels = `select ` + modelColumns + ` from models order by name`

// Models lists the platform's models, by name.
func (c *Catalog) Models(ctx context.Context) ([]Model, error) { return models(ctx, c.writer) }

func models(ctx context.Context, q querier) ([]Model, error) {
	rows, err := q.Query(ctx, selectModels)
	if err != nil {
		return nil, wrap("list models", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Model])
	return list, wrap("list models", err)
}

const deleteModel = `delete from models where name = $1`

// RemoveModel takes a model out of what tenants can ask for. ErrNotFound.
func (c *Catalog) RemoveModel(ctx context.Context, name string) error {
	return c.changePlatform(ctx, "remove model", func(tx pgx.Tx) error {
		return deleteOne(ctx, tx, deleteModel, name, "it is in use")
	})
}
