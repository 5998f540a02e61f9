package api_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
)

// fields returns the names of a parameter object's members, as the SDK knows them.
func fields[T any]() []string {
	var names []string
	for f := range reflect.TypeFor[T]().Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// A value of each member that the SDK can send; refused are those that this door
// knows and doesn't serve.
var (
	chatValues = map[string]string{
		"messages": `[{"role":"user","content":"hi"}]`, "model": `"chat-1"`,
		"frequency_penalty": `0.5`, "function_call": `"none"`, "functions": `[{"name":"f","parameters":{}}]`, "logit_bias": `{"50256":-100}`,
		"logprobs": `true`, "max_completion_tokens": `16`, "max_tokens": `16`, "metadata": `{"team":"a"}`, "modalities": `["text"]`,
		"moderation": `{"model":"m"}`, "n": `2`, "parallel_tool_calls": `false`, "prediction": `{"type":"content","content":"hi"}`,
		"presence_penalty": `-1`, "prompt_cache_key": `"k"`, "prompt_cache_options": `{"mode":"explicit"}`, "prompt_cache_retention": `"24h"`,
		"reasoning_effort": `"low"`, "response_format": `{"type":"json_schema","json_schema":{"name":"s","schema":{"type":"object"}}}`,
		"safety_identifier": `"u"`, "seed": `7`, "service_tier": `"auto"`, "stop": `["a","b"]`, "store": `false`,
		"stream_options": `{"include_usage":true}`, "temperature": `0`, "tool_choice": `"auto"`, "top_logprobs": `0`, "top_p": `0.9`,
		"tools": `[{"type":"function","function":{"name":"f","parameters":{}}}]`, "user": `"u"`, "verbosity": `"low"`,
		"audio": `{"voice":"a","format":"wav"}`, "web_search_options": `{}`,
	}
	embedValues = map[string]string{
		"model": `"embed-1"`, "input": `["hi"]`, "dimensions": `2`, "encoding_format": `"base64"`, "user": `"u"`,
	}
	refused = map[string]bool{"audio": true, "web_search_options": true}
)

// Every member that the official SDK has for a request is taken, or refused by
// its name. A new one in a new SDK is missing in the table, and fails here.
func TestEveryField(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, c := range []struct {
		path   string
		fields []string
		values map[string]string
		needs  map[string]string
	}{
		{"/v1/chat/completions", append(fields[openai.ChatCompletionNewParams](), "stream"), chatValues, map[string]string{"stream_options": "stream"}},
		{"/v1/embeddings", fields[openai.EmbeddingNewParams](), embedValues, nil},
	} {
		if len(c.fields) < 5 {
			t.Fatalf("%s: the SDK's members aren't found: %v", c.path, c.fields)
		}
		for _, name := range c.fields {
			body := map[string]json.RawMessage{"model": json.RawMessage(c.values["model"])}
			for _, must := range []string{"messages", "input"} {
				if v := c.values[must]; v != "" {
					body[must] = json.RawMessage(v)
				}
			}
			value := c.values[name]
			if name == "stream" {
				value = "true"
			}
			if value == "" {
				t.Errorf("%s: no value for %s: is it served?", c.path, name)
				continue
			}
			body[name] = json.RawMessage(value)
			if other := c.needs[name]; other != "" {
				body[other] = json.RawMessage("true")
			}
			raw, err := json.Marshal(body)
			b.OK(err)
			a := b.client.Do("POST", c.path, string(raw))
			switch {
			case refused[name]:
				a.Refused(400, "invalid_request", name)
				if !strings.Contains(a.Body, name+" is not supported") {
					t.Errorf("%s: %s", name, a.Body)
				}
			case a.Status != 200:
				t.Errorf("%s: %s: %d %s", c.path, name, a.Status, a.Body)
			}
			// What nobody knows is refused by name too, wherever it stands.
			if name == "model" {
				body["my_"+name] = json.RawMessage(`1`)
				raw, err = json.Marshal(body)
				b.OK(err)
				b.client.Do("POST", c.path, string(raw)).Refused(400, "invalid_request", "my_"+name)
			}
		}
	}
}
