package admin

import (
	"context"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
)

type newModel struct {
	Name      string        `json:"name"`
	Engine    string        `json:"engine"`
	Upstream  string        `json:"upstream,omitempty" doc:"The model's name at the engine; the same name when left out."`
	Fallbacks []newFallback `json:"fallbacks,omitempty" doc:"Engines that answer, in this order, when the one before fails."`
	Kind      string        `json:"kind" doc:"chat or embedding"`

	InputPrice  string `json:"input_price,omitempty" doc:"For a million tokens, in the bill's currency."`
	OutputPrice string `json:"output_price,omitempty"`

	MaxOutputTokens int `json:"max_output_tokens,omitempty" doc:"The most that it answers with; 4096 when left out."`
	TokenOverhead   int `json:"token_overhead,omitempty" doc:"What it adds to each request, in tokens; 32 when left out."`
	MessageOverhead int `json:"message_overhead,omitempty" doc:"What it adds to each message, in tokens; 16 when left out."`
	PartTokens      int `json:"part_tokens,omitempty" doc:"The most that an image, a sound or a file counts for; when left out they are refused."`

	Trainer string `json:"trainer,omitempty" doc:"Who fine-tunes it: builtin, openai or command:<name>; nobody when left out."`
}

type newFallback struct {
	Engine   string `json:"engine"`
	Upstream string `json:"upstream,omitempty" doc:"The model's upstream name when left out."`
}

func (s *server) models(ctx context.Context, _ operator, _ *rest.Request) (rest.List[catalog.Model], error) {
	list, err := s.catalog.Models(ctx)
	return rest.NewList(list, false, nil), err
}

func (s *server) addModel(ctx context.Context, who operator, r *rest.Request, in newModel) (catalog.Model, error) {
	m := catalog.Model{
		Name: in.Name, Engine: in.Engine, Upstream: in.Upstream, Kind: in.Kind, InputPrice: in.InputPrice, OutputPrice: in.OutputPrice,
		MaxOutputTokens: in.MaxOutputTokens, TokenOverhead: in.TokenOverhead, MessageOverhead: in.MessageOverhead, PartTokens: in.PartTokens,
		Trainer: in.Trainer,
	}
	for _, f := range in.Fallbacks {
		m.Fallbacks = append(m.Fallbacks, catalog.Fallback(f))
	}
	m, err := s.catalog.AddModel(ctx, m)
	if err != nil {
		return catalog.Model{}, err
	}
	s.audit(ctx, who, r, "model.add", catalog.TenantID{}, map[string]any{"name": m.Name, "engine": m.Engine, "trainer": m.Trainer})
	return m, nil
}

// setModel changes a model. The audit has what its bills follow from, and who gets
// tenants' data to train with.
func (s *server) setModel(ctx context.Context, who operator, r *rest.Request, in catalog.ModelPatch) (catalog.Model, error) {
	m, err := s.catalog.SetModel(ctx, r.Param("name"), in)
	if err != nil {
		return catalog.Model{}, err
	}
	s.audit(ctx, who, r, "model.set", catalog.TenantID{}, map[string]any{
		"name": m.Name, "engine": m.Engine, "input_price": m.InputPrice, "output_price": m.OutputPrice, "trainer": m.Trainer,
	})
	return m, nil
}

func (s *server) removeModel(ctx context.Context, who operator, r *rest.Request) (deleted, error) {
	name := r.Param("name")
	if err := s.catalog.RemoveModel(ctx, name); err != nil {
		return deleted{}, err
	}
	s.audit(ctx, who, r, "model.remove", catalog.TenantID{}, map[string]any{"name": name})
	return deleted{name, "model", true}, nil
}

type alias struct {
	Alias string `json:"alias"`
	Model string `json:"model"`
}

func (s *server) aliases(ctx context.Context, _ operator, _ *rest.Request) (page rest.List[alias], err error) {
	list, err := s.catalog.Models(ctx)
	var all []alias
	for _, m := range list {
		for _, name := range m.Aliases {
			all = append(all, alias{name, m.Name})
		}
	}
	return rest.NewList(all, false, nil), err
}

func (s *server) setAlias(ctx context.Context, who operator, r *rest.Request, in alias) (alias, error) {
	m, err := s.catalog.SetAlias(ctx, in.Alias, in.Model)
	if err != nil {
		return alias{}, err
	}
	s.audit(ctx, who, r, "model.alias", catalog.TenantID{}, map[string]any{"alias": in.Alias, "model": m.Name})
	return alias{in.Alias, m.Name}, nil
}

func (s *server) removeAlias(ctx context.Context, who operator, r *rest.Request) (deleted, error) {
	name := r.Param("name")
	if err := s.catalog.RemoveAlias(ctx, name); err != nil {
		return deleted{}, err
	}
	s.audit(ctx, who, r, "model.unalias", catalog.TenantID{}, map[string]any{"alias": name})
	return deleted{name, "alias", true}, nil
}
