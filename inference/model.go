package inference

import (
	"context"
	"errors"
	"slices"
	"strings"

	"freehold/catalog"
	"freehold/inference/engine"
)

// The kinds of models.
const (
	chatModel      = "chat"
	embeddingModel = "embedding"
)

// Models lists what tenant and key may use, by name: the platform's models, an alias
// beside what it stands for, and the tenant's own.
func (s *Service) Models(ctx context.Context, c Call) ([]catalog.Model, error) {
	all, err := s.cfg.Models(ctx)
	if err != nil {
		return nil, err
	}
	allowed := []catalog.Model{}
	for _, m := range all {
		for _, name := range append([]string{m.Name}, m.Aliases...) {
			if c.allows(name, m.Name) {
				shown := m
				shown.Name = name
				allowed = append(allowed, shown)
			}
		}
	}
	tuned, err := s.OwnModels(ctx, c)
	if err != nil {
		return nil, err
	}
	for _, row := range tuned {
		allowed = append(allowed, catalog.Model{Name: row.Name, Kind: chatModel, CreatedAt: row.CreatedAt})
	}
	slices.SortFunc(allowed, func(a, b catalog.Model) int { return strings.Compare(a.Name, b.Name) })
	return allowed, nil
}

// Model returns one of those that Models lists, else ErrModelNotFound.
func (s *Service) Model(ctx context.Context, c Call, name string) (catalog.Model, error) {
	m, err := s.allowed(ctx, c, name)
	if errors.Is(err, ErrModelNotAllowed) {
		err = ErrModelNotFound
	}
	m.Name = name
	return m.Model, err
}

// allows reports whether tenant and key may use a model by one of these names.
func (c Call) allows(names ...string) bool {
	return c.Config.AllowsAny(names...) && c.Limits.Allows(names...)
}

// allowed finds the model that a name stands for: the platform's, or the tenant's
// own.
func (s *Service) allowed(ctx context.Context, c Call, name string) (served, error) {
	m, err := s.cfg.Model(ctx, name)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return s.tuned(ctx, c, name)
	case err != nil:
		return served{}, err
	case !c.allows(name, m.Name):
		return served{}, ErrModelNotAllowed
	}
	return served{Model: m}, nil
}

// served is a model that the tenant may use, and the engine that serves it.
type served struct {
	catalog.Model
	engine   engine.Engine
	artifact *engine.Tuned // of a tenant's own model that its engine must be given
}

// upstream is the model's name at the engine.
func (m served) upstream() string {
	if m.Upstream != "" {
		return m.Upstream
	}
	return m.Name
}

// fellBack tells of an engine that others stand behind: when one of these answers,
// nobody else hears that it fails. While it rests its breaker has told already, and
// a client that left says nothing of it. An engine's own text may hold what it was
// sent, so that it isn't logged.
func (s *Service) fellBack(ctx context.Context, c Call, model string, choice engine.Choice, err error) {
	kind := engine.KindOf(err)
	if errors.Is(err, engine.ErrOpen) || errors.Is(err, context.Canceled) || kind != engine.Failed && kind != engine.Timeout {
		return
	}
	attrs := []any{"tenant", c.Scope, "request_id", c.RequestID, "model", model, "engine", choice.Name, "outcome", kind.String()}
	if fail, ok := errors.AsType[*engine.Error](err); ok {
		attrs = append(attrs, "upstream_status", fail.UpstreamStatus)
	}
	s.cfg.Logger.WarnContext(ctx, "one of a model's engines failed", attrs...)
}

// serve finds a model of a kind and its engines.
func (s *Service) serve(ctx context.Context, c Call, name, kind string) (served, error) {
	m, err := s.allowed(ctx, c, name)
	if err != nil {
		return served{}, err
	}
	if m.Kind != kind {
		return served{}, &BadRequest{Param: "model", Message: "this model is for " + m.Kind + ", not for " + kind}
	}
	found := m
	choices := []engine.Choice{{Name: m.Engine, Model: found.upstream()}}
	for _, f := range m.Fallbacks {
		choices = append(choices, engine.Choice{Name: f.Engine, Model: f.Upstream})
	}
	kept := choices[:0]
	for _, choice := range choices {
		choice.Engine, err = s.cfg.Engine(ctx, choice.Name)
		switch {
		case errors.Is(err, catalog.ErrNotFound):
			err = &engine.Error{Kind: engine.Failed, Message: "the model's engine is gone", Err: err}
		case err == nil:
			kept = append(kept, choice)
		}
	}
	if len(kept) == 0 {
		return served{}, err
	}
	engines := engine.Fallback(kept...)
	engines.Tried = func(choice engine.Choice, err error) {
		if s.cfg.Tried != nil {
			s.cfg.Tried(choice.Name, err)
		}
		if err != nil && len(kept) > 1 {
			s.fellBack(ctx, c, m.Name, choice, err)
		}
	}
	found.engine = engines
	return found, nil
}
