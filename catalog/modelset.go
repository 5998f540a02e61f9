package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ModelPatch is what is to change of a model; nil leaves a field as it is. Name and
// kind stay: what tenants ask for doesn't turn into something else.
type ModelPatch struct {
	Engine    *string     `json:"engine,omitempty"`
	Upstream  *string     `json:"upstream,omitempty"`  // "": the model's own name
	Fallbacks *[]Fallback `json:"fallbacks,omitempty"` // all of them; [] takes them away

	InputPrice  *string `json:"input_price,omitempty"`
	OutputPrice *string `json:"output_price,omitempty"`

	MaxOutputTokens *int `json:"max_output_tokens,omitempty"`
	TokenOverhead   *int `json:"token_overhead,omitempty"`
	MessageOverhead *int `json:"message_overhead,omitempty"`
	PartTokens      *int `json:"part_tokens,omitempty"`

	Trainer *string `json:"trainer,omitempty"` // "": it isn't fine-tuned any more; jobs that were taken go on
}

func (p ModelPatch) apply(m Model) Model {
	set(&m.Engine, p.Engine)
	set(&m.Upstream, p.Upstream)
	m.Upstream = orDefault(m.Upstream, m.Name)
	set(&m.InputPrice, p.InputPrice)
	set(&m.OutputPrice, p.OutputPrice)
	set(&m.MaxOutputTokens, p.MaxOutputTokens)
	set(&m.TokenOverhead, p.TokenOverhead)
	set(&m.MessageOverhead, p.MessageOverhead)
	set(&m.PartTokens, p.PartTokens)
	set(&m.Trainer, p.Trainer)
	if p.Fallbacks != nil {
		m.Fallbacks = make([]Fallback, len(*p.Fallbacks)) // null is no list
		for i, f := range *p.Fallbacks {
			f.Upstream = orDefault(f.Upstream, m.Upstream)
			m.Fallbacks[i] = f
		}
	}
	return m
}

func set[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

const updateModel = `
update models
   set engine = $2, upstream = $3, input_price = $4::text::numeric, output_price = $5::text::numeric, fallbacks = $6,
       max_output_tokens = $7, token_overhead = $8, message_overhead = $9, part_tokens = $10, trainer = $11
 where name = $1 returning ` + modelColumns

// SetModel changes a model in one step, so that no request meets a gap: requests
// that were taken before keep their price. ErrNotFound; ErrInvalid as AddModel.
func (c *Catalog) SetModel(ctx context.Context, name string, p ModelPatch) (m Model, err error) {
	err = c.changeModels(ctx, "set model", func(tx pgx.Tx) error {
		if m, err = oneModel(ctx, tx, selectModel, name); err != nil {
			return err
		}
		m = p.apply(m)
		if err := m.validate(); err != nil {
			return fmt.Errorf("set model: %w", err)
		}
		if err := m.fits(ctx, tx); err != nil {
			return err
		}
		m, err = oneModel(ctx, tx, updateModel, name, m.Engine, m.Upstream, m.InputPrice, m.OutputPrice, m.Fallbacks,
			m.MaxOutputTokens, m.TokenOverhead, m.MessageOverhead, m.PartTokens, m.Trainer)
		return err
	})
	if err != nil {
		return Model{}, err
	}
	return m, nil
}

const selectModel = `select ` + modelColumns + ` from models where name = $1`

func oneModel(ctx context.Context, tx pgx.Tx, sql string, args ...any) (Model, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return Model{}, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Model])
}
