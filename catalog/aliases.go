package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	selectIsModel = `select exists (select from models where name = $1), exists (select from models where name = $2)`

	upsertAlias = `
insert into model_aliases (alias, model) values ($1, $2)
on conflict (alias) do update set model = excluded.model`
)

// SetAlias lets a name stand for a model; one that stood for another stands for
// this one from now on, without a gap. It returns the model. ErrExists when the
// alias is a model's name, ErrInvalid when model isn't.
func (c *Catalog) SetAlias(ctx context.Context, alias, model string) (m Model, err error) {
	if err := invalid(match("alias", alias, modelPattern, modelName)); err != nil {
		return Model{}, fmt.Errorf("set alias: %w", err)
	}
	err = c.changeModels(ctx, "set alias", func(tx pgx.Tx) error {
		var taken, known bool
		if err := tx.QueryRow(ctx, selectIsModel, alias, model).Scan(&taken, &known); err != nil {
			return err
		}
		switch {
		case taken:
			return fmt.Errorf("set alias: the name is a model's: %w", ErrExists)
		case !known:
			return invalid(wrong("model", "there is none of that name"))
		}
		if _, err := tx.Exec(ctx, upsertAlias, alias, model); err != nil {
			return err
		}
		m, err = oneModel(ctx, tx, selectModel, model)
		return err
	})
	return m, err
}

const deleteAlias = `delete from model_aliases where alias = $1`

// RemoveAlias takes an alias away; the model stays. ErrNotFound.
func (c *Catalog) RemoveAlias(ctx context.Context, alias string) error {
	return c.changeModels(ctx, "remove alias", func(tx pgx.Tx) error {
		return deleteOne(ctx, tx, deleteAlias, alias, "it is in use")
	})
}
