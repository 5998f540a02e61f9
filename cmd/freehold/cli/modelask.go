package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/inference/engine"
	"freehold/inference/engine/builtin"
	"freehold/inference/engine/builtin/head"
	"freehold/inference/finetune/evaluate"
	"freehold/tenantdb"
)

// asksAtOnce is how many questions a model is asked at a time: an evaluation is not
// to crowd out who is served by the same engine.
const asksAtOnce = 4

// asker asks a model one question.
type asker func(ctx context.Context, q question) (evaluate.Item, error)

// ask asks all; nil when there is nobody to ask.
func (e *env) ask(ctx context.Context, what string, of asker, questions []question) (*evaluate.Result, error) {
	if of == nil {
		return nil, nil //nolint:nilnil // what wasn't measured is no error
	}
	bar := e.bar()
	defer bar.end()
	var (
		items   = make([]evaluate.Item, len(questions))
		done    atomic.Int64
		g, gctx = errgroup.WithContext(ctx)
	)
	g.SetLimit(asksAtOnce)
	for i, q := range questions {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			it, err := of(gctx, q)
			if err != nil {
				return fmt.Errorf("%s question %d: %w", what, i+1, err)
			}
			it.Want, it.OutOfScope = strings.TrimSpace(q.want), q.outOfScope
			it.Got = strings.TrimSpace(it.Got)
			items[i] = it
			bar.draw(what, int(done.Add(1)), len(questions))
			return nil
		})
	}
	if err := errors.Join(g.Wait(), ctx.Err()); err != nil {
		return nil, err
	}
	r := evaluate.Evaluate(items)
	return &r, nil
}

// askers are for a tenant's own model and for its base, which is nil when it is
// gone. The caller calls done.
func (e *env) askers(ctx context.Context, p *app.Platform, t catalog.Tenant, m tenantdb.TunedModel) (before, after asker, done func(), err error) {
	made := map[string]engine.Engine{}
	done = func() {
		for _, eng := range made {
			if c, ok := eng.(io.Closer); ok {
				_ = c.Close() // idle connections alone
			}
		}
	}
	defer func() {
		if err != nil {
			done()
		}
	}()
	get := func(name string) (engine.Engine, error) {
		if eng, ok := made[name]; ok {
			return eng, nil
		}
		eng, err := p.Engine(ctx, name, e.quiet().Logger(true))
		if err == nil {
			made[name] = eng
		}
		return eng, err
	}
	models, err := p.Catalog.Models(ctx)
	if err != nil {
		return nil, nil, done, err
	}
	var base catalog.Model
	if at := slices.IndexFunc(models, func(x catalog.Model) bool { return x.Name == m.Base }); at >= 0 {
		base = models[at]
		eng, err := get(base.Engine)
		if err != nil {
			return nil, nil, done, err
		}
		before = askerOf(eng, cmp.Or(base.Upstream, base.Name))
	} else {
		sayTo(e.err, "The base model %s is gone: there is nothing to compare with.", m.Base)
	}
	name := cmp.Or(m.Engine, base.Engine)
	if name == "" {
		return nil, nil, done, fmt.Errorf("model %s: no engine serves it: its base is gone: %w", m.Name, catalog.ErrNotFound)
	}
	eng, err := get(name)
	if err != nil {
		return nil, nil, done, err
	}
	switch _, own := eng.(*builtin.Engine); {
	case m.Upstream != "":
		after = askerOf(eng, m.Upstream)
	case own:
		after, err = askerOfHead(ctx, p, t, m)
	default:
		err = fmt.Errorf("model %s: engine %s knows no name for it", m.Name, name)
	}
	return before, after, done, err
}

// askerOfHead asks a model that the built-in engine serves by its artifact: here, for
// how sure it is of each answer.
func askerOfHead(ctx context.Context, p *app.Platform, t catalog.Tenant, m tenantdb.TunedModel) (asker, error) {
	body, o, err := p.Blob.Tenant(t.ID).Get(ctx, path.Join(m.Artifact, builtin.HeadFile))
	if err != nil {
		return nil, fmt.Errorf("model %s: read its artifact: %w", m.Name, err)
	}
	h, err := head.Read(body, o.Size)
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, fmt.Errorf("model %s: read its artifact: %w", m.Name, err)
	}
	encoder, err := builtin.Load()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, q question) (evaluate.Item, error) {
		text := head.Normalize(q.prompt)
		vector, err := encoder.Encode(ctx, text)
		if err != nil {
			return evaluate.Item{}, err
		}
		v := h.Predict(text, vector)
		return evaluate.Item{
			Got: v.Answer, Abstained: v.Abstained, Scored: true,
			Confidence: v.Confidence, Probability: h.Probability(text, vector, q.want),
		}, nil
	}, nil
}

// askerOf asks a model by its name at an engine.
func askerOf(eng engine.Engine, model string) asker {
	if own, ok := eng.(*builtin.Engine); ok {
		return func(ctx context.Context, q question) (evaluate.Item, error) {
			turns := []builtin.Turn{{Role: "user", Text: q.prompt}}
			if q.system != "" {
				turns = slices.Insert(turns, 0, builtin.Turn{Role: "system", Text: q.system})
			}
			a, err := own.Answer(ctx, "", turns)
			if err != nil || !a.Found() {
				return evaluate.Item{Abstained: true}, err
			}
			return evaluate.Item{Got: a.Text()}, nil
		}
	}
	return func(ctx context.Context, q question) (evaluate.Item, error) {
		messages := []engine.Message{{Role: "user", Content: engine.TextContent(q.prompt)}}
		if q.system != "" {
			messages = slices.Insert(messages, 0, engine.Message{Role: "system", Content: engine.TextContent(q.system)})
		}
		res, err := eng.Chat(ctx, &engine.ChatRequest{Model: model, Messages: messages})
		if err != nil {
			return evaluate.Item{}, err
		}
		var said engine.Message
		if len(res.Choices) == 0 || said.UnmarshalJSON(res.Choices[0].Message) != nil {
			return evaluate.Item{Abstained: true}, nil
		}
		return evaluate.Item{Got: said.Text()}, nil
	}
}
