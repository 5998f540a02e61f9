package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"freehold/catalog"
	"freehold/inference/engine"
	"freehold/inference/engine/builtin"
	"freehold/inference/engine/openai"
)

// engines turns the catalog's rows into engines, each made once for as long as
// its row stays the same.
type engines struct {
	cat   *catalog.Catalog
	cache *catalog.Cache
	log   *slog.Logger

	mu   sync.Mutex // guards made
	made map[string]madeEngine
}

type madeEngine struct {
	row catalog.Engine
	eng engine.Engine
}

func (e *engines) get(ctx context.Context, name string) (engine.Engine, error) {
	row, err := e.cache.Engine(ctx, name)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	have, ok := e.made[name]
	e.mu.Unlock()
	if ok && have.row == row {
		return have.eng, nil
	}
	eng, err := e.build(ctx, row)
	if err != nil {
		if errors.Is(err, catalog.ErrUnavailable) || ctx.Err() != nil {
			return nil, fmt.Errorf("engine %s: %w", name, err)
		}
		e.log.ErrorContext(ctx, "engine can't be made", "engine", name, "error", err)
		return nil, &engine.Error{Kind: engine.Failed, Message: "the engine could not be made"}
	}
	e.mu.Lock()
	replaced := e.made[name].eng
	e.made[name] = madeEngine{row, eng}
	e.mu.Unlock()
	if c, ok := replaced.(io.Closer); ok {
		// Idle connections alone: whoever still uses it is not disturbed.
		if err := c.Close(); err != nil {
			e.log.Warn("replaced engine did not close", "engine", name, "error", err)
		}
	}
	return eng, nil
}

func (e *engines) build(ctx context.Context, row catalog.Engine) (engine.Engine, error) {
	switch row.Kind {
	case "builtin":
		return builtin.New()
	case "openai":
		key := ""
		if row.HasKey {
			var err error
			if key, err = e.cat.EngineKey(ctx, row.Name); err != nil {
				return nil, err
			}
		}
		return openai.New(openai.Config{BaseURL: row.BaseURL, Key: key, Timeout: row.Timeout, Logger: e.log})
	default:
		return nil, fmt.Errorf("unknown kind %q", row.Kind)
	}
}
