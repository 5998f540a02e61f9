package inference_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"freehold/inference"
)

// with makes a chat's body with more members.
func with(members string) string {
	return `{"model":"m","messages":[{"role":"user","content":"s3cret"}]` + members + `}`
}

// said makes a chat's body of messages.
func said(messages string) string { return `{"model":"m","messages":` + messages + `}` }

func TestParseChatAccepts(t *testing.T) {
	t.Parallel()
	for _, members := range []string{
		``, `,"temperature":0`, `,"temperature":2`, `,"temperature":null`, `,"top_p":1`, `,"n":128`, `,"n":1.0`, `,"max_tokens":1`,
		`,"max_completion_tokens":16`, `,"stop":"a"`, `,"stop":["a","b","c","d"]`, `,"stop":null`, `,"stop":[]`, `,"stream":false`,
		`,"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}`, `,"stream":true,"stream_options":null`,
		`,"tools":[{"type":"function","function":{"name":"f","parameters":{}}},{"type":"custom","custom":{"name":"g"}}]`,
		`,"tool_choice":"auto"`, `,"tool_choice":{"type":"function","function":{"name":"f"}}`, `,"parallel_tool_calls":true`,
		`,"functions":[{"name":"f"}],"function_call":{"name":"f"}`, `,"function_call":"none"`, `,"response_format":{"type":"text"}`,
		`,"response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{}}}`, `,"seed":-9223372036854775808`,
		`,"logprobs":true,"top_logprobs":20`, `,"top_logprobs":0`, `,"logit_bias":{"50256":-100}`, `,"presence_penalty":-2,"frequency_penalty":2`,
		`,"reasoning_effort":"low"`, `,"verbosity":"high"`, `,"service_tier":"auto"`, `,"store":false`, `,"metadata":{"a":"b"}`, `,"user":"u"`,
		`,"safety_identifier":"x"`, `,"prompt_cache_key":"k"`, `,"prompt_cache_retention":"24h"`, `,"prompt_cache_options":{"mode":"explicit"}`, `,"service_tier":"fast"`,
		`,"modalities":["text"]`, `,"moderation":{}`,
		`,"prediction":{"type":"content","content":"x"}`, `,"prediction":{"type":"content","content":[{"type":"text","text":"x"}]}`,
		`,"web_search_options":null`,
	} {
		if _, err := inference.ParseChat([]byte(with(members))); err != nil {
			t.Errorf("%s: %v", members, err)
		}
	}
	for _, messages := range []string{
		`[{"role":"developer","content":"a","name":"n"},{"role":"user","content":""}]`,
		`[{"role":"system","content":[{"type":"text","text":"a"}]}]`,
		`[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:"}},{"type":"input_audio","input_audio":{"data":"","format":"wav"}},{"type":"file","file":{"file_id":"f"}}]}]`,
		`[{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"ok"}]`,
		`[{"role":"assistant","content":"a","refusal":null,"annotations":[],"audio":null,"function_call":null,"tool_calls":null}]`,
		`[{"role":"assistant","refusal":"no"}]`, `[{"role":"assistant","content":[{"type":"refusal","refusal":"no"}]}]`,
		`[{"role":"assistant","function_call":{"name":"f","arguments":""}},{"role":"function","name":"f","content":null}]`,
	} {
		if _, err := inference.ParseChat([]byte(said(messages))); err != nil {
			t.Errorf("%s: %v", messages, err)
		}
	}
}

func TestParseChatReads(t *testing.T) {
	t.Parallel()
	req, err := inference.ParseChat([]byte(with(`,"n":2,"max_tokens":5,"stop":"x","stream":true,"stream_options":{"include_usage":true},"user":"u","top_p":0.5,"temperature":null`)))
	if err != nil {
		t.Fatal(err)
	}
	if req.Model != "m" || req.N != 2 || *req.MaxTokens != 5 || req.MaxTokensName != "max_tokens" || len(req.Stop) != 1 || !req.Stream || !req.IncludeUsage || req.User != "u" {
		t.Errorf("got %+v", req)
	}
	sent, _ := json.Marshal(req.Members())
	same(t, "members", sent, `{"messages":[{"role":"user","content":"s3cret"}],"n":2,"max_tokens":5,"stop":["x"],"user":"u","top_p":0.5}`)
}

func TestParseChatRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]string{
		``: "", `{`: "", `nope`: "", `[]`: "", `null`: "", `"x"`: "", `{} {}`: "", with(``) + `x`: "", "{\"model\":\"\xff\"}": "",
		strings.Repeat("[", 200): "", with(`,"metadata":` + strings.Repeat(`{"a":`, 200) + `1` + strings.Repeat(`}`, 200)): "",
		`{}`: "messages", `{"messages":[{"role":"user","content":"s3cret"}]}`: "model",
		`{"model":7,"messages":[{"role":"user","content":"s3cret"}]}`:         "model",
		`{"model":"","messages":[{"role":"user","content":"s3cret"}]}`:        "model",
		`{"model":"a\u0000","messages":[{"role":"user","content":"s3cret"}]}`: "model",
	}
	for members, param := range map[string]string{
		`"temperature":2.1`: "temperature", `"temperature":"s3cret"`: "temperature", `"top_p":-0.1`: "top_p", `"n":0`: "n", `"n":129`: "n", `"n":1.5`: "n", `"n":"1"`: "n",
		`"max_tokens":0`: "max_tokens", `"max_tokens":1e99`: "max_tokens", `"max_tokens":1,"max_completion_tokens":1`: "max_tokens",
		`"stop":[1]`: "stop[0]", `"stop":["a","b","c","d","e"]`: "stop", `"stop":7`: "stop", `"stop":""`: "stop",
		`"stream":"yes"`: "stream", `"stream_options":{}`: "stream_options", `"stream":true,"stream_options":{"x":true}`: "stream_options.x",
		`"stream":true,"stream_options":{"include_usage":1}`: "stream_options.include_usage",
		`"tools":{}`: "tools", `"tools":[{"type":"s3cret"}]`: "tools[0].type", `"tools":[{"type":"function"}]`: "tools[0].function",
		`"tools":[{"type":"function","function":{"name":1}}]`: "tools[0].function.name", `"tool_choice":"s3cret"`: "tool_choice", `"tool_choice":{"type":"x"}`: "tool_choice.type",
		`"response_format":{"type":"xml"}`: "response_format.type", `"response_format":{"type":"json_schema"}`: "response_format.json_schema",
		`"seed":1.5`: "seed", `"logprobs":1`: "logprobs", `"top_logprobs":21`: "top_logprobs", `"top_logprobs":1`: "top_logprobs",
		`"logit_bias":{"s3cret":101}`: "logit_bias", `"presence_penalty":3`: "presence_penalty", `"metadata":{"a":1}`: "metadata",
		`"metadata":{"a":"` + strings.Repeat("x", 513) + `"}`: "metadata", `"user":1`: "user", `"user":"a\u0000"`: "user",
		`"safety_identifier":"` + strings.Repeat("x", 65) + `"`: "safety_identifier", `"store":1`: "store", `"reasoning_effort":"s3cret"`: "reasoning_effort",
		`"modalities":["audio"]`: "modalities[0]", `"audio":{"voice":"s3cret"}`: "audio", `"web_search_options":{}`: "web_search_options",
		`"prediction":{"type":"x"}`: "prediction.type", `"foo":1`: "foo", `"Temperature":1`: "Temperature", `"my s3cret":1`: "",
	} {
		cases[with(","+members)] = param
	}
	for messages, param := range map[string]string{
		`[]`: "messages", `{}`: "messages", `["s3cret"]`: "messages[0]", `[{"content":"s3cret"}]`: "messages[0].role", `[{"role":7}]`: "messages[0].role",
		`[{"role":"user","content":"s3cret"},{"role":"user","content":"s3cret"},{"role":"s3cret","content":"a"}]`: "messages[2].role",
		`[{"role":"user"}]`: "messages[0].content", `[{"role":"user","content":null}]`: "messages[0].content", `[{"role":"user","content":7}]`: "messages[0].content",
		`[{"role":"user","content":[]}]`: "messages[0].content", `[{"role":"user","content":["s3cret"]}]`: "messages[0].content[0]",
		`[{"role":"user","content":[{"type":"text"}]}]`: "messages[0].content[0].text", `[{"role":"user","content":[{"type":"s3cret"}]}]`: "messages[0].content[0].type",
		`[{"role":"user","content":[{"type":"image_url","image_url":"s3cret"}]}]`:     "messages[0].content[0].image_url",
		`[{"role":"system","content":[{"type":"image_url","image_url":{"url":""}}]}]`: "messages[0].content[0].type",
		`[{"role":"user","content":"a","weight":1}]`:                                  "messages[0].weight", `[{"role":"assistant","content":null}]`: "messages[0].content",
		`[{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f"}}]}]`: "messages[0].tool_calls[0].function.arguments",
		`[{"role":"tool","content":"s3cret"}]`:                                                       "messages[0].tool_call_id", `[{"role":"function","content":"s3cret"}]`: "messages[0].name",
		`[{"role":"function","name":"f","content":[]}]`: "messages[0].content",
	} {
		cases[said(messages)] = param
	}
	for body, param := range cases {
		_, err := inference.ParseChat([]byte(body))
		var bad *inference.BadRequest
		if !errors.As(err, &bad) {
			t.Errorf("%s: got %v", body, err)
			continue
		}
		if bad.Param != param || bad.Message == "" {
			t.Errorf("%s: %q %q, want %q", body, bad.Param, bad.Message, param)
		}
		if strings.Contains(bad.Message+bad.Param, "s3cret") {
			t.Errorf("%s: %q repeats what was sent", body, bad.Message)
		}
	}
}

// A body's buffer is used again for the next request.
func TestParseKeepsNothingOfTheBody(t *testing.T) {
	t.Parallel()
	body := []byte(with(`,"user":"u1","top_p":0.5,"stop":"x","metadata":{"k":"v"}`))
	req, err := inference.ParseChat(body)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := json.Marshal(req)
	clear(body)
	if after, _ := json.Marshal(req); string(after) != string(before) {
		t.Error("the request changed with the buffer")
	}
}

func TestParseEmbed(t *testing.T) {
	t.Parallel()
	req, f, err := inference.ParseEmbed([]byte(`{"model":"m","input":"a","dimensions":256,"user":"u"}`))
	if err != nil || f != inference.Float || req.Dimensions != 256 || req.User != "u" || len(req.Input) != 1 {
		t.Errorf("%+v %v %v", req, f, err)
	}
	if req.Store != nil {
		t.Errorf("store is %v without being named", *req.Store)
	}
	if req, _, err = inference.ParseEmbed([]byte(`{"model":"m","input":"a","store":false}`)); err != nil || req.Store == nil || *req.Store {
		t.Errorf("store false: %+v %v", req, err)
	}
	for body, param := range map[string]string{
		`{"model":"m","input":"a","store":"s3cret"}`: "store",
		`{"model":"m"}`: "input", `{"input":"a"}`: "model", `{"model":"m","input":""}`: "input", `{"model":"m","input":[]}`: "input",
		`{"model":"m","input":["a",""]}`: "input[1]", `{"model":"m","input":[1,2]}`: "input[0]", `{"model":"m","input":[[1],[2]]}`: "input[0]",
		`{"model":"m","input":[null]}`: "input[0]", `{"model":"m","input":{}}`: "input", `{"model":"m","input":"a","dimensions":0}`: "dimensions",
		`{"model":"m","input":"a","encoding_format":"hex"}`: "encoding_format", `{"model":"m","input":"a","x":1}`: "x",
		`{"model":"m","input":[` + strings.Repeat(`"a",`, 2048) + `"a"]}`: "input", `[]`: "",
	} {
		_, _, err := inference.ParseEmbed([]byte(body))
		var bad *inference.BadRequest
		if !errors.As(err, &bad) || bad.Param != param {
			t.Errorf("%.60s: %#v, want %q", body, err, param)
		}
	}
}
