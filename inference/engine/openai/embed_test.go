package openai_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"testing"

	"freehold/inference/engine"
)

func TestEmbed(t *testing.T) {
	t.Parallel()
	want := [][]float32{{1, -0.5}, {0.25, 2}}
	for name, data := range map[string]string{
		"numbers":       `[{"index":0,"embedding":[1,-0.5]},{"index":1,"embedding":[0.25,2]}]`,
		"out of order":  `[{"index":1,"embedding":[0.25,2]},{"index":0,"embedding":[1,-0.5]}]`,
		"no index":      `[{"embedding":[1,-0.5]},{"embedding":[0.25,2]}]`,
		"base64 anyway": `[{"index":0,"embedding":"AACAPwAAAL8="},{"index":1,"embedding":"AACAPgAAAEA="}]`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sent map[string]any
			u := serve(t, func(w http.ResponseWriter, r *http.Request) {
				_ = json.NewDecoder(r.Body).Decode(&sent)
				says(200, `{"object":"list","data":`+data+`,"usage":{"prompt_tokens":4,"total_tokens":4}}`)(w, r)
			})
			got, err := u.Embed(t.Context(), &engine.EmbedRequest{Model: "e", Input: []string{"a", "b"}, Dimensions: 2, User: "u"})
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.Vectors, want) || got.Usage.PromptTokens != 4 || got.Usage.TotalTokens != 4 {
				t.Errorf("got %+v", got)
			}
			if b, _ := json.Marshal(sent); string(b) != `{"dimensions":2,"encoding_format":"float","input":["a","b"],"model":"e","user":"u"}` {
				t.Errorf("sent %s", b)
			}
		})
	}
}

func TestEmbedAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"too few":       `{"data":[{"index":0,"embedding":[1]}]}`,
		"twice the one": `{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}`,
		"out of range":  `{"data":[{"index":0,"embedding":[1]},{"index":7,"embedding":[1]}]}`,
		"empty":         `{"data":[{"index":0,"embedding":[]},{"index":1,"embedding":[]}]}`,
		"no base64":     `{"data":[{"embedding":"!"},{"embedding":"!"}]}`,
		"odd base64":    `{"data":[{"embedding":"AAA="},{"embedding":"AAA="}]}`,
		"too big":       `{"data":[{"embedding":[1e99]},{"embedding":[1]}]}`,
		"an error":      `{"error":{"message":"x"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := serve(t, says(200, body)).Embed(t.Context(), &engine.EmbedRequest{Model: "e", Input: []string{"a", "b"}})
			wantFail(t, err, engine.Failed, 0)
		})
	}
}
