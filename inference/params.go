package inference

import (
	"encoding/json"
	"math"
)

// chatParams are the parameters of a chat completion that go to an engine as they
// came, and what is wanted of each. Those that the pipeline reads itself are in
// readChat.
var chatParams = map[string]check{
	"temperature":            number(0, 2),
	"top_p":                  number(0, 1),
	"presence_penalty":       number(-2, 2),
	"frequency_penalty":      number(-2, 2),
	"logit_bias":             logitBias,
	"logprobs":               boolean,
	"top_logprobs":           integer(0, 20),
	"seed":                   integer(math.MinInt64, math.MaxInt64),
	"tools":                  listOf(0, 128, tool),
	"tool_choice":            either(oneOf("none", "auto", "required"), toolChoice),
	"parallel_tool_calls":    boolean,
	"functions":              listOf(1, 128, member("name", text(64))),
	"function_call":          either(oneOf("none", "auto"), member("name", text(64))),
	"response_format":        responseFormat,
	"modalities":             listOf(1, 1, oneOf("text")),
	"reasoning_effort":       oneOf("none", "minimal", "low", "medium", "high", "xhigh", "max"),
	"verbosity":              oneOf("low", "medium", "high"),
	"service_tier":           oneOf("auto", "default", "flex", "scale", "priority", "fast", "standard_only"),
	"store":                  boolean,
	"metadata":               metadata,
	"safety_identifier":      text(64),
	"prompt_cache_key":       text(256),
	"prompt_cache_options":   anyObject,
	"prompt_cache_retention": oneOf("in_memory", "in-memory", "24h"),
	"prediction":             both(member("type", oneOf("content")), member("content", either(anyText, listOf(1, 2048, textPart)))),
	"moderation":             anyObject,
}

// chatRefused are the parameters that are known and not served, each with why.
var chatRefused = map[string]string{
	"audio":              "answers in sound are not served",
	"web_search_options": "an engine that reads the web has no bound to what it is charged for",
}

// toolKinds are what a tool, a choice and a call may be of; each is also the name
// of the member that describes it.
var toolKinds = oneOf("function", "custom")

func tool(raw json.RawMessage) (string, string) {
	if at, want := member("type", toolKinds)(raw); want != "" {
		return at, want
	}
	o, _ := obj(raw)
	kind, _ := str(o["type"])
	return member(kind, member("name", text(128)))(raw)
}

func toolChoice(raw json.RawMessage) (string, string) {
	if _, ok := obj(raw); !ok {
		return "", "must be none, auto, required or an object"
	}
	return member("type", oneOf("function", "custom", "allowed_tools"))(raw)
}

func responseFormat(raw json.RawMessage) (string, string) {
	if at, want := member("type", oneOf("text", "json_object", "json_schema"))(raw); want != "" {
		return at, want
	}
	o, _ := obj(raw)
	if kind, _ := str(o["type"]); kind == "json_schema" {
		return member("json_schema", member("name", text(64)))(raw)
	}
	return "", ""
}

// logitBias doesn't tell which token it doesn't like: a name may be content.
func logitBias(raw json.RawMessage) (string, string) {
	o, ok := obj(raw)
	for _, v := range o {
		_, want := number(-100, 100)(v)
		ok = ok && want == ""
	}
	if !ok {
		return "", "must be an object of numbers between -100 and 100"
	}
	return "", ""
}

func metadata(raw json.RawMessage) (string, string) {
	o, ok := obj(raw)
	ok = ok && len(o) <= 16
	for k, v := range o {
		_, want := text(4 * 512)(v)
		s, _ := str(v)
		ok = ok && want == "" && len([]rune(k)) <= 64 && len([]rune(s)) <= 512
	}
	if !ok {
		return "", "must be an object of at most 16 strings, names up to 64 and values up to 512 characters long"
	}
	return "", ""
}
