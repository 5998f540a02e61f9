package catalog

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

const modelColumns = `name, engine, upstream, fallbacks, kind, trim_scale(input_price)::text as input_price,
       trim_scale(output_price)::text as output_price, max_output_tokens, token_overhead, message_overhead,
       part_tokens, trainer, array(select a.alias from model_aliases a where a.model = models.name order by a.alias) as aliases,
       created_at`

// lockModels orders changes to engines, models and aliases: what each of them must
// not contradict is in rows that no constraint joins.
const lockModels = `select pg_advisory_xact_lock(hashtext('models'))`

// changeModels is changePlatform for engines, models and aliases: one at a time.
func (c *Catalog) changeModels(ctx context.Context, op string, fn func(tx pgx.Tx) error) error {
	return c.changePlatform(ctx, op, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockModels); err != nil {
			return err
		}
		return fn(tx)
	})
}

// Defaults of what bounds a request.
const (
	defaultMaxOutput       = 4096
	defaultTokenOverhead   = 32
	defaultMessageOverhead = 16
)

func (m Model) withDefaults() Model {
	m.Upstream = orDefault(m.Upstream, m.Name)
	m.InputPrice, m.OutputPrice = orDefault(m.InputPrice, "0"), orDefault(m.OutputPrice, "0")
	m.MaxOutputTokens = orDefault(m.MaxOutputTokens, defaultMaxOutput)
	m.TokenOverhead = orDefault(m.TokenOverhead, defaultTokenOverhead)
	m.MessageOverhead = orDefault(m.MessageOverhead, defaultMessageOverhead)
	m.Fallbacks = append([]Fallback{}, m.Fallbacks...) // null is no list
	for i := range m.Fallbacks {
		m.Fallbacks[i].Upstream = orDefault(m.Fallbacks[i].Upstream, m.Upstream)
	}
	return m
}

const modelName = "1 to 128 letters, digits and . _ : / -"

func (m Model) validate() error {
	errs := []error{
		match("name", m.Name, modelPattern, modelName),
		match("engine", m.Engine, enginePattern, "an engine's name"),
		line("upstream", m.Upstream, maxURL),
		oneOf("kind", m.Kind, "chat", "embedding"),
		price("input_price", m.InputPrice),
		price("output_price", m.OutputPrice),
		within("max_output_tokens", m.MaxOutputTokens, 1, maxBound),
		within("token_overhead", m.TokenOverhead, 0, maxBound),
		within("message_overhead", m.MessageOverhead, 0, maxBound),
		within("part_tokens", m.PartTokens, 0, maxBound),
		optional(m.Trainer, match("trainer", m.Trainer, trainPattern, "builtin, openai or command:NAME, of a-z, 0-9 and dashes")),
	}
	if m.Trainer != "" && m.Kind != "chat" {
		errs = append(errs, wrong("trainer", "only chat models are fine-tuned"))
	}
	if len(m.Fallbacks) > maxFallbacks {
		errs = append(errs, wrong("fallbacks", "more than %d", maxFallbacks))
	}
	tried := []Fallback{{m.Engine, m.Upstream}}
	for _, f := range m.Fallbacks {
		errs = append(errs,
			match("fallbacks", f.Engine, enginePattern, "engines' names"),
			line("fallbacks", f.Upstream, maxURL))
		if slices.Contains(tried, f) {
			errs = append(errs, wrong("fallbacks", "one of them is there twice, or the first choice already"))
		}
		tried = append(tried, f)
	}
	return invalid(errs...)
}

const (
	selectAlias = `select exists (select from model_aliases where alias = $1)`

	selectEngineKind = `select kind from engines where name = $1`

	selectMissing = `
select count(*) from unnest($1::text[]) as e (name) where not exists (select from engines where engines.name = e.name)`

	insertModel = `
insert into models (name, engine, upstream, kind, input_price, output_price, fallbacks, max_output_tokens,
       token_overhead, message_overhead, part_tokens, trainer)
values ($1, $2, $3, $4, $5::text::numeric, $6::text::numeric, $7, $8, $9, $10, $11, $12) returning ` + modelColumns
)

// AddModel registers a platform model. An empty upstream is the name itself, an
// empty price is 0, bounds of 0 are 4096 tokens of an answer, 32 of a request and
// 16 of a message. ErrExists when the name is taken, by an alias too; ErrInvalid
// when there is no such engine, or its kind isn't the trainer's.
func (c *Catalog) AddModel(ctx context.Context, m Model) (Model, error) {
	m = m.withDefaults()
	if err := m.validate(); err != nil {
		return Model{}, fmt.Errorf("add model: %w", err)
	}
	err := c.changeModels(ctx, "add model", func(tx pgx.Tx) (err error) {
		if err := m.fits(ctx, tx); err != nil {
			return err
		}
		m, err = oneModel(ctx, tx, insertModel, m.Name, m.Engine, m.Upstream, m.Kind, m.InputPrice, m.OutputPrice,
			m.Fallbacks, m.MaxOutputTokens, m.TokenOverhead, m.MessageOverhead, m.PartTokens, m.Trainer)
		return err
	})
	if err != nil {
		return Model{}, err
	}
	return m, nil
}

// fits refuses a model whose engines aren't there or can't serve what its trainer
// makes, or whose name is an alias.
func (m Model) fits(ctx context.Context, tx pgx.Tx) error {
	engines := map[string][]string{"engine": {m.Engine}}
	for _, f := range m.Fallbacks {
		engines["fallbacks"] = append(engines["fallbacks"], f.Engine)
	}
	var errs []error
	for _, field := range []string{"engine", "fallbacks"} {
		var missing int
		if err := tx.QueryRow(ctx, selectMissing, engines[field]).Scan(&missing); err != nil {
			return err
		}
		if missing > 0 {
			errs = append(errs, wrong(field, "there is none of that name"))
		}
	}
	if err := invalid(errs...); err != nil {
		return err
	}
	// A command names an engine of its own for what it makes.
	if m.Trainer == "builtin" || m.Trainer == "openai" {
		var kind string
		if err := tx.QueryRow(ctx, selectEngineKind, m.Engine).Scan(&kind); err != nil {
			return err
		}
		if kind != m.Trainer {
			return invalid(wrong("trainer", "%s needs an engine of that kind", m.Trainer))
		}
	}
	var taken bool
	if err := tx.QueryRow(ctx, selectAlias, m.Name).Scan(&taken); err != nil {
		return err
	}
	if taken {
		return fmt.Errorf("add model: the name is an alias: %w", ErrExists)
	}
	return nil
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

const (
	selectAliasesOf = `select alias from model_aliases where model = $1 order by alias`

	deleteModel = `delete from models where name = $1`
)

// RemoveModel takes a model out of what tenants can ask for. ErrNotFound, and
// ErrConflict while aliases stand for it.
func (c *Catalog) RemoveModel(ctx context.Context, name string) error {
	return c.changeModels(ctx, "remove model", func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, selectAliasesOf, name)
		if err != nil {
			return err
		}
		aliases, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		if len(aliases) > 0 {
			return fmt.Errorf("%w: aliases stand for it: %s", ErrConflict, strings.Join(aliases, ", "))
		}
		return deleteOne(ctx, tx, deleteModel, name, "it is in use")
	})
}
