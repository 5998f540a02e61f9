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
		if errors.Is(err, catalog.ErrNotFound) {
			e.keep(name, nil)
		}
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
	e.keep(name, &madeEngine{row, eng})
	return eng, nil
}

// keep keeps what was made for the next call, or nothing, and closes what was there.
func (e *engines) keep(name string, made *madeEngine) {
	e.mu.Lock()
	replaced := e.made[name].eng
	if made != nil {
		e.made[name] = *made
	} else {
		delete(e.made, name)
	}
	e.mu.Unlock()
	if c, ok := replaced.(io.Closer); ok {
		// Idle connections alone: whoever still uses it is not disturbed.
		if err := c.Close(); err != nil {
			e.log.Warn("replaced engine did not close", "engine", name, "error", err)
		}
	}
}

// breakers returns the states of the engines' breakers, by engine.
func (e *engines) breakers() map[string]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	states := map[string]string{}
	for name, made := range e.made {
		if b, ok := made.eng.(*engine.Breaker); ok {
			states[name] = b.State()
		}
	}
	return states
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
		log := e.log.With("engine", row.Name)
		eng, err := openai.New(openai.Config{BaseURL: row.BaseURL, Key: key, Timeout: row.Timeout, Logger: log})
		if err != nil {
			return nil, err
		}
		return engine.Break(eng, engine.BreakerConfig{Changed: func(state string) {
			log.Info("engine's breaker changed", "breaker", state)
		}}), nil
	default:
		return nil, fmt.Errorf("unknown kind %q", row.Kind)
	}
}
