package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/inference"
	"freehold/inference/engine"
	"freehold/router"
	"freehold/tenantdb"
)

// local is the pipeline in this process, with an engine that takes no time: what
// is measured is what happens before the engine and after it. Close it.
type local struct {
	*inference.Service
	router *router.Router
	call   inference.Call
}

// errNoSpool is for a settlement that no benchmark should have to spool.
var errNoSpool = errors.New("a settlement could not be written")

// openLocal makes the pipeline for one tenant of a domain.
func (d *domain) openLocal(ctx context.Context, who customer) (*local, error) {
	model := catalog.Model{Name: benchModel, Engine: mockEngine, Upstream: "none", Kind: "chat", InputPrice: "0.5", OutputPrice: "1.5"}
	if found, err := d.cat.Models(ctx); err == nil {
		for _, m := range found {
			if m.Name == benchModel {
				model = m // with the defaults that the catalog gave it
			}
		}
	}
	config, err := d.cat.TenantConfig(ctx, who.ID)
	if err != nil {
		return nil, err
	}
	route, err := d.cat.Route(ctx, who.ID)
	if err != nil {
		return nil, err
	}
	rt, err := router.New(router.Config{
		Route: func(context.Context, catalog.TenantID, int64) (catalog.Route, error) { return route, nil },
		// Long enough that nothing goes because other sides had their turns.
		IdleTimeout: 10 * time.Minute,
	})
	if err != nil {
		return nil, err
	}
	service, err := inference.New(inference.Config{
		Model:  func(context.Context, string) (catalog.Model, error) { return model, nil },
		Models: func(context.Context) ([]catalog.Model, error) { return []catalog.Model{model}, nil },
		Engine: func(context.Context, string) (engine.Engine, error) { return instant{}, nil },
		Node:   uuid.New(),
		Spool:  func(context.Context, string, tenantdb.Settlement) error { return errNoSpool },
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	return &local{service, rt, inference.Call{
		Tenant: rt.For(who.ID, route.Epoch), Scope: who.ID.String(), Epoch: route.Epoch, Config: config,
		KeyID: "bench", RequestID: "req_bench",
	}}, err
}

func (l *local) close() {
	// The run may have been interrupted, and this must be done all the same.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	l.Stop()
	if err := l.router.Close(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

// chat asks once and returns what the engine saw.
func (l *local) chat(ctx context.Context, body []byte) (*visit, error) {
	req, err := inference.ParseChat(body)
	if err != nil {
		return nil, err
	}
	v := &visit{}
	ctx = context.WithValue(ctx, visitKey{}, v)
	if !req.Stream {
		_, err = l.Chat(ctx, l.call, req)
		return v, err
	}
	s, err := l.ChatStream(ctx, l.call, req)
	if err != nil {
		return nil, err
	}
	return v, s.Run(ctx, func(c *engine.ChatChunk) error {
		for _, choice := range c.Choices {
			v.bytes += len(choice.Delta)
		}
		return nil
	})
}

// visit is what the engine saw of a request.
type visit struct {
	began    time.Time     // it was admitted
	streamed time.Duration // from the first chunk to the last
	bytes    int           // of what came out of the stream
}

type visitKey struct{}

// instant is an engine that answers at once, with the last message's words.
type instant struct{}

func (instant) Chat(ctx context.Context, req *engine.ChatRequest) (*engine.ChatResponse, error) {
	note(ctx).began = time.Now()
	return &engine.ChatResponse{
		Choices: []engine.ChatChoice{{Message: engine.AnswerMessage("yes"), FinishReason: "stop"}},
		Usage:   engine.Usage{PromptTokens: 20, CompletionTokens: 1, TotalTokens: 21},
	}, nil
}

// note is the visit that a request belongs to.
func note(ctx context.Context) *visit {
	if v, ok := ctx.Value(visitKey{}).(*visit); ok {
		return v
	}
	return &visit{}
}

// chunkBytes are in each chunk, so that every placeholder is cut; chunks are in
// each stream.
const (
	chunkBytes = 5
	chunks     = 2000
)

func (instant) ChatStream(ctx context.Context, req *engine.ChatRequest, emit func(*engine.ChatChunk) error) error {
	text := req.Messages[len(req.Messages)-1].Text() + " "
	v := note(ctx)
	v.began = time.Now()
	for i := range chunks {
		at := i * chunkBytes % (len(text) - chunkBytes)
		if err := emit(&engine.ChatChunk{Choices: []engine.ChunkChoice{{Delta: engine.TextDelta("", text[at:at+chunkBytes])}}}); err != nil {
			return err
		}
	}
	v.streamed = time.Since(v.began)
	stop := "stop"
	if err := emit(&engine.ChatChunk{Choices: []engine.ChunkChoice{{Delta: engine.TextDelta("", ""), FinishReason: &stop}}}); err != nil {
		return err
	}
	return emit(&engine.ChatChunk{Usage: &engine.Usage{PromptTokens: 20, CompletionTokens: 60, TotalTokens: 80}})
}

func (instant) Embed(context.Context, *engine.EmbedRequest) (*engine.EmbedResponse, error) {
	return nil, errors.ErrUnsupported
}
