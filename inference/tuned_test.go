package inference_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/inference"
	"freehold/inference/engine"
)

// own registers a model of the tenant's, as workers do.
func (b *bench) own(name, base, upstream string) {
	b.t.Helper()
	conn, err := pgx.Connect(b.t.Context(), b.owner)
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close(b.t.Context())
	id := uuid.Must(uuid.NewV7())
	var batch pgx.Batch
	batch.Queue(`insert into freehold.fine_tuning_jobs (id, base, trainer, model, seed, training_file, api_key, request_hash)
values ($1, $2, 'builtin', $3, 1, $1, 'key1', '')`, id, base, name)
	batch.Queue(`insert into freehold.models (id, name, base, trainer, upstream, artifact, card) values ($1, $2, $3, 'builtin', $4, $5, '{"a": 1}')`,
		id, name, base, upstream, "models/"+id.String()+"/1/")
	if err := conn.SendBatch(b.t.Context(), &batch).Close(); err != nil {
		b.t.Fatal(err)
	}
}

// A tenant's own model is its base's to serve, by what its row says alone. One whose
// base is gone is neither listed nor found, and what a key or a schema hasn't isn't.
func TestOwnModels(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const byArtifact, byName, lost = "ft:talk:acme:a:1", "ft:talk:acme:b:2", "ft:gone:acme::3"
	b.own(byArtifact, "talk", "")
	b.own(byName, "talk", "adapter-7")
	b.own(lost, "gone", "")
	b.call.Schema = inference.TunedSchema
	list := func() string {
		t.Helper()
		all, err := b.Models(t.Context(), b.call)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range all {
			if strings.HasPrefix(m.Name, inference.TunedPrefix) {
				names = append(names, m.Name)
			}
		}
		return strings.Join(names, " ")
	}
	if got := list(); got != byArtifact+" "+byName {
		t.Errorf("lists %q", got)
	}
	var sent *engine.ChatRequest
	b.engine.chat = func(_ context.Context, r *engine.ChatRequest) (*engine.ChatResponse, error) {
		sent = r
		return answers("yes"), nil
	}
	ask := func(name string) error {
		req := b.hi()
		req.Model = name
		_, err := b.Chat(t.Context(), b.call, req)
		return err
	}
	if err := ask(byArtifact); err != nil || sent.Model != "up/talk" || sent.Tuned == nil || sent.Tuned.Name != byArtifact ||
		!strings.HasPrefix(sent.Tuned.Key, b.call.Scope+"/models/") {
		t.Errorf("by its artifact: %v, sent %+v", err, sent)
	}
	if err := ask(byName); err != nil || sent.Model != "adapter-7" || sent.Tuned != nil {
		t.Errorf("by its name: %v, sent %+v", err, sent)
	}
	missing := func(why, name string) {
		t.Helper()
		_, err := b.Model(t.Context(), b.call, name)
		if !errors.Is(err, inference.ErrModelNotFound) || !errors.Is(ask(name), inference.ErrModelNotFound) && why != "the key's list" {
			t.Errorf("%s: %v", why, err)
		}
	}
	missing("its base is gone", lost)
	b.call.Limits = catalog.KeyLimits{AllowedModels: []string{"talk", byName}}
	missing("the key's list", byArtifact)
	if got := list(); got != byName {
		t.Errorf("the key lists %q", got)
	}
	b.call.Limits, b.call.Schema = catalog.KeyLimits{}, inference.TunedSchema-1
	missing("an older schema", byName)
	if got := list(); got != "" {
		t.Errorf("an older schema lists %q", got)
	}
}
