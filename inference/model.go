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

// Models lists what the tenant may use, by name.
func (s *Service) Models(ctx context.Context, c Call) ([]catalog.Model, error) {
	all, err := s.cfg.Models(ctx)
	if err != nil {
		return nil, err
	}
	allowed := []catalog.Model{}
	for _, m := range all {
		if c.Config.Allows(m.Name) {
			allowed = append(allowed, m)
		}
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
	return m, err
}

func (s *Service) allowed(ctx context.Context, c Call, name string) (catalog.Model, error) {
	m, err := s.cfg.Model(ctx, name)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return catalog.Model{}, ErrModelNotFound
	case err != nil:
		return catalog.Model{}, err
	case !c.Config.Allows(m.Name):
		return catalog.Model{}, ErrModelNotAllowed
	}
	return m, nil
}

// served is a model that the tenant may use, and the engine that serves it.
type served struct {
	catalog.Model
	engine engine.Engine
}

// upstream is the model's name at the engine.
func (m served) upstream() string {
	if m.Upstream != "" {
		return m.Upstream
	}
	return m.Name
}

// serve finds a model of a kind and its engine.
func (s *Service) serve(ctx context.Context, c Call, name, kind string) (served, error) {
	m, err := s.allowed(ctx, c, name)
	if err != nil {
		return served{}, err
	}
	if m.Kind != kind {
		return served{}, &BadRequest{Param: "model", Message: "this model is for " + m.Kind + ", not for " + kind}
	}
	eng, err := s.cfg.Engine(ctx, m.Engine)
	if errors.Is(err, catalog.ErrNotFound) {
		return served{}, &engine.Error{Kind: engine.Failed, Message: "the model's engine is gone", Err: err}
	}
	return served{m, eng}, err
}
