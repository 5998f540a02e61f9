package inference_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"freehold/inference"
	"freehold/inference/engine"
)

func TestPredict(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for inputs, want := range map[string]string{
		`"hi"`:                             `[{"role":"user","content":"hi"}]`,
		`[{"role":"user","content":"hi"}]`: `[{"role":"user","content":"hi"}]`,
		`{"prompt":"hi"}`:                  `[{"role":"user","content":"hi"}]`,
		`{"text":"hi","prompt":null}`:      `[{"role":"user","content":"hi"}]`,
		`{"prompt":"hi","system":"s","messages":null}`:               `[{"role":"system","content":"s"},{"role":"user","content":"hi"}]`,
		`{"system":"s","messages":[{"role":"user","content":"hi"}]}`: `[{"role":"system","content":"s"},{"role":"user","content":"hi"}]`,
	} {
		var sent []byte
		b.engine.chat = func(_ context.Context, r *engine.ChatRequest) (*engine.ChatResponse, error) {
			sent, _ = json.Marshal(r.Messages)
			return answers("hello"), nil
		}
		p, err := b.Predict(t.Context(), b.call, []byte(`{"model":"talk","temperature":1,"inputs":`+inputs+`}`))
		if err != nil {
			t.Fatal(err)
		}
		same(t, "sent", sent, want)
		same(t, "output", p.Output, `{"text":"hello","finish_reason":"stop"}`)
		same(t, "inputs", p.Inputs, `{"messages":`+want+`,"temperature":1}`)
		if p.Object != "prediction" || p.Kind != "prediction" || p.Model != "talk" || p.State != "succeeded" || p.Usage.TotalTokens != 5 {
			t.Errorf("got %+v", p)
		}
		read, err := b.Prediction(t.Context(), b.call, uuid.MustParse(strings.TrimPrefix(p.ID, "pred_")))
		if err != nil {
			t.Fatal(err)
		}
		made, _ := json.Marshal(p)
		same(t, "read again", mustJSON(t, read, p), string(made))
	}
}

// mustJSON encodes a prediction with the other's settled_at, which the database's
// clock gives, and without what jsonb may order anew.
func mustJSON(t *testing.T, read, made *inference.Prediction) []byte {
	t.Helper()
	if read.SettledAt == nil || made.SettledAt == nil {
		t.Fatal("not settled")
	}
	read.SettledAt = made.SettledAt
	raw, err := json.Marshal(read)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestPredictBodies(t *testing.T) {
	t.Parallel()
	b := bare(t)
	for body, param := range map[string]string{
		`{"model":"talk"}`:                                                      "inputs",
		`{"model":"talk","inputs":""}`:                                          "inputs",
		`{"model":"talk","inputs":7}`:                                           "inputs",
		`{"model":"talk","inputs":[]}`:                                          "inputs",
		`{"model":"talk","inputs":[{"role":"x"}]}`:                              "inputs[0].role",
		`{"model":"talk","inputs":{}}`:                                          "inputs",
		`{"model":"talk","inputs":{"prompt":"a","messages":[]}}`:                "inputs",
		`{"model":"talk","inputs":{"prompt":""}}`:                               "inputs.prompt",
		`{"model":"talk","inputs":{"prompt":"a","system":1}}`:                   "inputs.system",
		`{"model":"talk","inputs":{"prompt":"a","text":"b"}}`:                   "inputs",
		`{"model":"talk","inputs":{"text":1}}`:                                  "inputs.text",
		`{"model":"talk","inputs":{"prompt":"a","promt":"b"}}`:                  "inputs.promt",
		`{"model":"talk","inputs":"a","store":"no"}`:                            "store",
		`{"model":"talk","inputs":{"messages":[{"role":"user","content":[]}]}}`: "inputs.messages[0].content",
		`{"model":"talk","inputs":"a","stream":true}`:                           "stream",
		`{"model":"talk","inputs":"a","messages":[]}`:                           "messages",
		`{"inputs":"a"}`: "model",
		`{"model":"talk","inputs":"a","temperature":3}`: "temperature",
	} {
		_, err := b.Predict(t.Context(), b.call, []byte(body))
		var bad *inference.BadRequest
		if !errors.As(err, &bad) || bad.Param != param {
			t.Errorf("%s: %#v, want %s", body, err, param)
		}
	}
}

func TestPredictionsPage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := 0
	b.engine.chat = func(context.Context, *engine.ChatRequest) (*engine.ChatResponse, error) {
		n++
		return answers(fmt.Sprint(n)), nil
	}
	for range 5 {
		if _, err := b.Predict(t.Context(), b.call, []byte(`{"model":"talk","inputs":"a"}`)); err != nil {
			t.Fatal(err)
		}
	}
	var seen []string
	after, more := uuid.Nil, true
	for more {
		var list []inference.Prediction
		var err error
		if list, more, err = b.Predictions(t.Context(), b.call, after, 2); err != nil || len(list) == 0 {
			t.Fatal(list, err)
		}
		for _, p := range list {
			var out struct{ Text string }
			if err := json.Unmarshal(p.Output, &out); err != nil {
				t.Fatal(err)
			}
			seen = append(seen, out.Text)
			after = uuid.MustParse(strings.TrimPrefix(p.ID, inference.PredictionPrefix))
		}
	}
	if got := strings.Join(seen, ""); got != "54321" {
		t.Errorf("pages gave %s", got)
	}
}

// A classifier's verdict stands in the answer, and in the log.
func TestPredict_classifier(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.engine.chat = func(context.Context, *engine.ChatRequest) (*engine.ChatResponse, error) {
		a := answers("refund")
		a.Choices[0].Class = &engine.Class{Label: "refund", Scores: map[string]float64{"refund": 0.75, "other": 0.25}}
		return a, nil
	}
	p, err := b.Predict(t.Context(), b.call, []byte(`{"model":"talk","inputs":"my money, please"}`))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"text":"refund","label":"refund","scores":{"refund":0.75,"other":0.25},"finish_reason":"stop"}`
	same(t, "answer", p.Output, want)
	same(t, "log", b.only().Output, want)
}
