package catalog

import (
	"context"
	"fmt"
	"slices"
)

// platform is what belongs to no tenant, read whole whenever any of it changes.
type platform struct {
	models  []Model
	model   map[string]Model // by names and aliases
	engines map[string]Engine
}

func loadPlatform(ctx context.Context, q querier) (*platform, error) {
	p := &platform{model: map[string]Model{}, engines: map[string]Engine{}}
	list, err := engines(ctx, q)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		p.engines[e.Name] = e
	}
	// After the engines: a model's engine can't be removed before it.
	if p.models, err = models(ctx, q); err != nil {
		return nil, err
	}
	for _, m := range p.models {
		p.model[m.Name] = m
		for _, alias := range m.Aliases {
			p.model[alias] = m
		}
	}
	return p, nil
}

// now returns the platform from memory, or from the catalog until Run has read
// it once.
func (c *Cache) now(ctx context.Context) (*platform, error) {
	if p := c.platform.Load(); p != nil {
		if !c.Ready() {
			return nil, ErrUnavailable
		}
		return p, nil
	}
	p, _, err := flight(ctx, c, "platform", func(ctx context.Context) (*platform, error) {
		return loadPlatform(ctx, c.catalog.writer)
	})
	return p, err
}

// Models lists the platform's models by name, from memory; ErrUnavailable once
// the catalog hasn't confirmed for StaleServe.
func (c *Cache) Models(ctx context.Context) ([]Model, error) {
	p, err := c.now(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Clone(p.models), nil
}

// Model is one of Models, by its name or by an alias of it; ErrNotFound.
func (c *Cache) Model(ctx context.Context, name string) (Model, error) {
	p, err := c.now(ctx)
	if err != nil {
		return Model{}, err
	}
	m, ok := p.model[name]
	if !ok {
		return Model{}, fmt.Errorf("model: %w", ErrNotFound)
	}
	return m, nil
}

// Engine answers from memory like Models; ErrNotFound.
func (c *Cache) Engine(ctx context.Context, name string) (Engine, error) {
	p, err := c.now(ctx)
	if err != nil {
		return Engine{}, err
	}
	e, ok := p.engines[name]
	if !ok {
		return Engine{}, fmt.Errorf("engine: %w", ErrNotFound)
	}
	return e, nil
}
