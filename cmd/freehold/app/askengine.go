package app

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"freehold/catalog"
	"freehold/inference/engine"
)

// Engine makes the engine of that name, for a command that asks it itself; the built-in
// one is *builtin.Engine. catalog.ErrNotFound. Who is done with one that is an
// io.Closer closes it.
func (p *Platform) Engine(ctx context.Context, name string, log *slog.Logger) (engine.Engine, error) {
	rows, err := p.Catalog.Engines(ctx)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(rows, func(row catalog.Engine) bool { return row.Name == name })
	if at < 0 {
		return nil, fmt.Errorf("engine %s: %w", name, catalog.ErrNotFound)
	}
	return (&engines{cat: p.Catalog, log: log}).build(ctx, rows[at])
}
