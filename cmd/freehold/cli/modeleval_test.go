package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/inference/engine/builtin"
	"freehold/inference/engine/builtin/head"
	"freehold/inference/finetune/evaluate"
	"freehold/tenantdb/blob"
)

// taught are the questions that the models of TestModelEval were made of.
var taught = map[string][]string{
	"You can send it back within 30 days.": {"How do I return my order?", "I want to send this back", "Can I get a refund for shoes that don't fit?", "return policy please", "take it back, it is broken"},
	"Parcels take two days.":               {"When will my parcel arrive?", "How long is delivery?", "where is my package", "shipping time?", "has my order been shipped"},
	"We open at nine.":                     {"What are your opening hours?", "When do you open?", "are you open on Sunday morning", "closing time today?", "opening times of the shop"},
}

// chatLine is an example in a file.
func chatLine(prompt, answer string) string {
	b, err := json.Marshal(map[string]any{"messages": []map[string]string{{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}}})
	if err != nil {
		panic(err)
	}
	return string(b) + "\n"
}

// artifact is a model that was made of what is taught.
func artifact(t *testing.T) []byte {
	t.Helper()
	enc, err := builtin.Load()
	if err != nil {
		t.Fatal(err)
	}
	var examples []head.Example
	for answer, prompts := range taught {
		for _, p := range prompts {
			text := head.Normalize(p)
			v, err := enc.Encode(t.Context(), text)
			if err != nil {
				t.Fatal(err)
			}
			examples = append(examples, head.Example{Text: text, Vector: v, Answer: answer})
		}
	}
	h, _, err := head.Fit(t.Context(), examples, nil, head.Options{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := h.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// upstream is a server with OpenAI's chat that has an adapter, which knows one answer.
func upstream(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req struct{ Model string }
		body, err := io.ReadAll(r.Body)
		if err != nil || json.Unmarshal(body, &req) != nil {
			t.Error("bad request", err)
		}
		if strings.Contains(string(body), "ann@example.com") {
			t.Error("personal data went to the engine")
		}
		said := "I have no idea."
		if req.Model == "adapter-7" && strings.Contains(string(body), "arrive") {
			said = "Parcels take two days."
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"id":"x","object":"chat.completion","model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`, req.Model, said)
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/v1"
}

// tuned is a bench with a tenant that has two models, ft:own and ft:elsewhere.
func tuned(t *testing.T) *town {
	t.Helper()
	b := &town{bench: setup(t)}
	b.store()
	b.run("", 0, "engine", "add", "inside", "--kind", "builtin")
	b.run("", 0, "engine", "add", "up", "--url", upstream(t))
	b.run("", 0, "model", "add", "freehold-answer-1", "--engine", "inside")
	b.run("", 0, "model", "add", "llama", "--engine", "up")
	b.run("", 0, "tenant", "create", "acme")
	keys, err := catalog.ReadKeyset(os.Getenv("FREEHOLD_MASTER_KEY_FILE"))
	b.ok(err)
	cat, err := catalog.Open(t.Context(), catalog.Config{URL: os.Getenv("FREEHOLD_CATALOG_URL"), Keyset: keys})
	b.ok(err)
	t.Cleanup(cat.Close)
	acme, err := cat.TenantBySlug(t.Context(), "acme")
	b.ok(err)
	b.rows, err = pgx.Connect(t.Context(), os.Getenv("FREEHOLD_CATALOG_URL"))
	b.ok(err)
	t.Cleanup(func() { _ = b.rows.Close(context.WithoutCancel(t.Context())) })
	add := func(name, base, upstream, artifact string) {
		id := uuid.Must(uuid.NewV7())
		b.inside(acme, fmt.Sprintf(`insert into freehold.fine_tuning_jobs (id, state, base, trainer, model, seed, training_file, api_key, request_hash)
			values ('%[1]s', 'succeeded', '%[3]s', 'builtin', '%[2]s', 1, '%[1]s', 'k', '')`, id, name, base))
		b.inside(acme, fmt.Sprintf(`insert into freehold.models (id, name, base, trainer, upstream, artifact) values ('%s', '%s', '%s', 'builtin', '%s', '%s')`,
			id, name, base, upstream, artifact))
	}
	add("ft:own", "freehold-answer-1", "", "models/1/abc/")
	add("ft:elsewhere", "llama", "adapter-7", "")
	add("ft:lost", "freehold-answer-1", "", "models/2/abc/")
	add("ft:orphan", "gone", "", "models/1/abc/")
	store, err := blob.Open(t.Context(), blob.Config{Endpoint: os.Getenv("FREEHOLD_S3_ENDPOINT"), Bucket: os.Getenv("FREEHOLD_S3_BUCKET")}, false)
	b.ok(err)
	b.ok(store.Tenant(acme.ID).Put(t.Context(), "models/1/abc/"+builtin.HeadFile, bytes.NewReader(artifact(t))))
	return b
}

func written(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestModelEval(t *testing.T) { //nolint:paralleltest // the environment is the process's
	b := tuned(t)
	held := written(t, "held.jsonl",
		chatLine("how can I return an order that I made", "You can send it back within 30 days.")+
			chatLine("When does the parcel for ann@example.com arrive?", " Parcels take two days. ")+
			chatLine("your opening hours?", "We open at nine."))
	others := written(t, "others.txt", "What is the capital of France?\n\nhow tall is Mount Everest\r\n")

	out, said := b.run("", 0, "model", "eval", "acme", "ft:own", "--file", held, "--out-of-scope", others, "-o", "json")
	var r evaluate.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || said != "" {
		t.Fatal(err, out, said)
	}
	if r.Items != 3 || r.Data != "held.jsonl" || r.Before == nil || r.After == nil {
		t.Fatal(out)
	}
	if r.Before.Accuracy != 0 || r.Before.Coverage != 0 || r.Before.Loss != nil {
		t.Errorf("before: %+v", r.Before)
	}
	if a := r.After; a.Accuracy != 1 || a.Loss == nil || *a.Loss > 1.5 || len(a.Curve) == 0 || a.OutOfScope == nil || a.OutOfScope.Items != 2 {
		t.Errorf("after: %+v", a)
	}

	out, _ = b.run("", 0, "model", "eval", "acme", "ft:elsewhere", "--file", held)
	for _, want := range []string{"3 ITEMS ", "right, if all were answered          0.0 %    33.3 %", "I have no idea."} {
		if !strings.Contains(out, want) {
			t.Errorf("%q isn't in\n%s", want, out)
		}
	}
	if n := b.audited("model.eval"); n != 2 {
		t.Errorf("%d rows of audit", n)
	}

	bad := written(t, "bad.jsonl", chatLine("a", "b")+"{}\n\xff\n")
	latin := written(t, "latin.txt", "caf\xe9\n")
	for _, c := range []struct {
		status int
		want   string
		args   []string
	}{
		{2, "--file FILE", []string{"acme", "ft:own"}},
		{2, "accepts 2 arg(s)", []string{"acme", "--file", held}},
		{1, "tenant nobody: not found", []string{"nobody", "ft:own", "--file", held}},
		{1, "model ft:nothing: not found", []string{"acme", "ft:nothing", "--file", held}},
		{1, "model freehold-answer-1: not found", []string{"acme", "freehold-answer-1", "--file", held}},
		{1, "no such file", []string{"acme", "ft:own", "--file", held + "x"}},
		{1, "no such file", []string{"acme", "ft:own", "--file", held, "--out-of-scope", held + "x"}},
		{1, latin + ":1: not valid UTF-8", []string{"acme", "ft:own", "--file", held, "--out-of-scope", latin}},
		{1, bad + ":2: The example has no \"messages\". (missing_messages_list)\n" + bad + ":3: The line is not valid UTF-8. (invalid_utf8)\n", []string{"acme", "ft:own", "--file", bad}},
		{1, "ft:lost: read its artifact: get object: object not found", []string{"acme", "ft:lost", "--file", held}},
		{1, "The base model gone is gone", []string{"acme", "ft:orphan", "--file", held}},
	} {
		out, said := b.run("", c.status, append([]string{"model", "eval"}, c.args...)...)
		if out != "" || !strings.Contains(said, c.want) {
			t.Errorf("%v: %q, %s", c.args, out, said)
		}
	}
	b.run("", 0, "tenant", "suspend", "acme")
	if _, said := b.run("", 1, "model", "eval", "acme", "ft:own", "--file", held); !strings.Contains(said, "freehold tenant resume acme") {
		t.Error(said)
	}
}
