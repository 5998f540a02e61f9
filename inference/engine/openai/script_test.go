package openai_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"freehold/inference/engine"
	"freehold/inference/engine/enginetest"
	"freehold/inference/engine/openai"
)

// scripted is a server of the wire format, as OpenAI's own does it, with a model
// that says what it was asked.
func scripted(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Model         string
		Messages      []engine.Message
		Input         []string
		N             int
		Stop          []string
		Stream        bool
		StreamOptions struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
		MaxTokens           *int `json:"max_tokens"`
		MaxCompletionTokens *int `json:"max_completion_tokens"`
		Tools               []any
		ResponseFormat      struct{ Type string } `json:"response_format"`
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		says(400, `{"error":{"message":"no JSON","type":"invalid_request_error","param":null,"code":null}}`)(w, r)
		return
	}
	if req.Model != "up" {
		says(404, `{"error":{"message":"no model `+req.Model+`","type":"invalid_request_error","param":"model","code":"model_not_found"}}`)(w, r)
		return
	}
	if r.URL.Path == "/v1/embeddings" {
		var data []string
		for i, text := range req.Input {
			data = append(data, fmt.Sprintf(`{"object":"embedding","index":%d,"embedding":[%d,0.5]}`, i, len(text)))
		}
		says(200, `{"object":"list","data":[`+strings.Join(data, ",")+`],"usage":{"prompt_tokens":3,"total_tokens":3}}`)(w, r)
		return
	}
	asked := req.Messages[len(req.Messages)-1].Text()
	if strings.HasPrefix(asked, "refuse") {
		b, _ := json.Marshal(map[string]any{"error": map[string]any{
			"message": "can't answer " + asked, "type": "invalid_request_error", "param": "messages", "code": nil,
		}})
		says(400, string(b))(w, r)
		return
	}

	words, finish := strings.SplitAfter("You said: "+asked, " "), "stop"
	if req.ResponseFormat.Type == "json_object" {
		words = []string{`{"said": `, `true}`}
	}
	for i, word := range words {
		if slices.Contains(req.Stop, strings.TrimSpace(word)) {
			words = words[:i]
			break
		}
	}
	for _, most := range []*int{req.MaxTokens, req.MaxCompletionTokens} {
		if most != nil && len(words) > *most {
			words, finish = words[:*most], "length"
		}
	}
	n := max(req.N, 1)
	usage := fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}`, len(asked), n*len(words), len(asked)+n*len(words))
	text := func(s string) string {
		b, _ := json.Marshal(s)
		return string(b)
	}
	if !req.Stream {
		var choices []string
		for i := range n {
			message := `"content":` + text(strings.Join(words, ""))
			if len(req.Tools) > 0 {
				message, finish = `"content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"look_up","arguments":"{\"a\":1}"}}]`, "tool_calls"
			}
			choices = append(choices, fmt.Sprintf(`{"index":%d,"message":{"role":"assistant",%s},"finish_reason":%q}`, i, message, finish))
		}
		time.Sleep(5 * time.Millisecond)
		says(200, `{"choices":[`+strings.Join(choices, ",")+`],"usage":`+usage+`}`)(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(i int, delta, finish string) {
		_, _ = fmt.Fprintf(w, "data: {\"choices\":[{\"index\":%d,\"delta\":%s,\"finish_reason\":%s}],\"usage\":null}\n\n", i, delta, finish)
		_ = http.NewResponseController(w).Flush()
	}
	for i := range n {
		send(i, `{"role":"assistant","content":""}`, "null")
		if len(req.Tools) > 0 {
			send(i, `{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"look_up","arguments":""}}]}`, "null")
			send(i, `{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]}`, "null")
			send(i, `{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}`, "null")
			finish = "tool_calls"
		} else {
			for _, word := range words {
				send(i, `{"content":`+text(word)+`}`, "null")
			}
		}
		send(i, "{}", `"`+finish+`"`)
	}
	if req.StreamOptions.IncludeUsage {
		_, _ = io.WriteString(w, "data: {\"choices\":[],\"usage\":"+usage+"}\n\n")
	}
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

func TestConforms(t *testing.T) {
	t.Parallel()
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		quoted, _ := json.Marshal(string(b) + r.Header.Get("Authorization"))
		says(500, `{"error":{"message":`+string(quoted)+`,"code":"server_error"}}`)(w, r)
	}))
	t.Cleanup(broken.Close)
	for name, wrap := range map[string]func(engine.Engine) engine.Engine{
		"bare":             func(e engine.Engine) engine.Engine { return e },
		"behind a breaker": func(e engine.Engine) engine.Engine { return engine.Break(e, engine.BreakerConfig{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			enginetest.Run(t, func(t *testing.T) enginetest.Subject {
				failing := serve(t, nil, func(c *openai.Config) { c.BaseURL, c.Tries = broken.URL+"/v1", 1 })
				return enginetest.Subject{
					Engine: wrap(serve(t, scripted).Engine), Model: "up", EmbedModel: "up", Deterministic: true,
					Tools: true, JSON: true, Secrets: []string{key}, Failing: wrap(failing.Engine),
					Messages: func(canary string) []engine.Message {
						return []engine.Message{{Role: "user", Content: engine.TextContent("tell me of " + canary + " é ☃ \"quoted\"\nand more")}}
					},
					Refused: func(canary string) *engine.ChatRequest {
						return &engine.ChatRequest{Model: "up", Messages: []engine.Message{{Role: "user", Content: engine.TextContent("refuse " + canary)}}}
					},
				}
			})
		})
	}
}
