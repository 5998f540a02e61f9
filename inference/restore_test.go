package inference_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"freehold/inference"
	"freehold/inference/engine"
	"freehold/inference/pii"
)

// For every cut of a stream the streamed answer is the plain one: text, refusals,
// tool calls' arguments, custom tools' input, of several choices that take turns.
func TestRestore_everyCut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		session := pii.New(pii.Options{}).Session()
		mail, card := session.Redact(`"ann"@example.com`), session.Redact("4111 1111 1111 1111")
		mail2 := session.Redact("ann@example.com")
		word := rapid.SampledFrom([]string{
			mail, card, mail2, "[EMAIL_1]", "[", "[EMAIL", mail2[:len(mail2)-1], "a", "é", "\n", `"`, `\`, " ", "]", "😀",
		})
		words := func(name string) string {
			return strings.Join(rapid.SliceOfN(word, 0, 8).Draw(r, name), "")
		}
		var resp engine.ChatResponse
		var turns [][]*engine.ChatChunk
		for i := range rapid.IntRange(1, 2).Draw(r, "choices") {
			content := words("content")
			// A string that begins as a document does counts as one while it comes in, so
			// that what only looks like one would be escaped twice.
			arguments, _ := json.Marshal(map[string]string{"to": "to " + words("argument")})
			input := words("input")
			message, _ := json.Marshal(map[string]any{
				"role": "assistant", "content": content, "refusal": nil,
				"tool_calls": []any{
					map[string]any{"id": mail2, "type": "function", "function": map[string]string{"name": card, "arguments": string(arguments)}},
					map[string]any{"id": "b", "type": "custom", "custom": map[string]string{"name": "g", "input": input}},
				},
				"function_call": map[string]string{"name": card, "arguments": string(arguments)},
			})
			resp.Choices = append(resp.Choices, engine.ChatChoice{Index: i, Message: message, FinishReason: "stop"})
			turn := []*engine.ChatChunk{delta(i, `{"role":"assistant"}`)}
			for _, piece := range cut(r, content) {
				turn = append(turn, delta(i, text1(`{"content":%}`, piece)))
			}
			turn = append(turn, delta(i, `{"tool_calls":[{"index":0,"id":"`+mail2+`","type":"function","function":{"name":"`+card+`"}}]}`))
			for _, piece := range cut(r, string(arguments)) {
				turn = append(turn, delta(i, text1(`{"tool_calls":[{"index":0,"function":{"arguments":%}}]}`, piece)))
			}
			turn = append(turn, delta(i, `{"function_call":{"name":"`+card+`"}}`))
			for _, piece := range cut(r, string(arguments)) {
				turn = append(turn, delta(i, text1(`{"function_call":{"arguments":%}}`, piece)))
			}
			turn = append(turn, delta(i, `{"tool_calls":[{"index":1,"id":"b","type":"custom","custom":{"name":"g"}}]}`))
			for _, piece := range cut(r, input) {
				turn = append(turn, delta(i, text1(`{"tool_calls":[{"index":1,"custom":{"input":%}}]}`, piece)))
			}
			if rapid.Bool().Draw(r, "the last piece ends it") {
				stop := "stop"
				turn[len(turn)-1].Choices[0].FinishReason = &stop
			} else {
				turn = append(turn, delta(i, `{}`, "stop"))
			}
			turns = append(turns, turn)
		}
		plain, chunks := inference.Restored(session, rapid.Bool().Draw(r, "answer is JSON"), &resp, interleave(r, turns))
		heard := inference.Heard(chunks)
		if len(heard) != len(plain.Choices) {
			r.Fatalf("%d choices of %d", len(heard), len(plain.Choices))
		}
		for i, c := range plain.Choices {
			got, _ := json.Marshal(heard[i].Message)
			if a, b := normal(r, got), normal(r, c.Message); a != b || heard[i].FinishReason != "stop" {
				r.Fatalf("choice %d, streamed:\n%s\nplain:\n%s", i, a, b)
			}
		}
	})
}

// text1 puts a string into a JSON text.
func text1(format, s string) string {
	raw, _ := json.Marshal(s)
	return strings.Replace(format, "%", string(raw), 1)
}

// cut divides s anywhere between two characters.
func cut(r *rapid.T, s string) []string {
	var out []string
	for len(s) > 0 {
		n := rapid.IntRange(1, len(s)).Draw(r, "cut")
		for n < len(s) && !utf8.RuneStart(s[n]) {
			n++
		}
		out = append(out, s[:n])
		s = s[n:]
	}
	return out
}

func interleave(r *rapid.T, turns [][]*engine.ChatChunk) (out []*engine.ChatChunk) {
	for {
		var left []int
		for i := range turns {
			if len(turns[i]) > 0 {
				left = append(left, i)
			}
		}
		if len(left) == 0 {
			return out
		}
		i := rapid.SampledFrom(left).Draw(r, "turn")
		out = append(out, turns[i][0])
		turns[i] = turns[i][1:]
	}
}

// normal is a message with its arguments, which must be JSON, decoded.
func normal(r *rapid.T, raw []byte) string {
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		r.Fatalf("%s: %v", raw, err)
	}
	if m["content"] == nil {
		m["content"] = ""
	}
	for _, call := range m["tool_calls"].([]any) {
		if f, ok := call.(map[string]any)["function"].(map[string]any); ok {
			var arguments any
			if err := json.Unmarshal([]byte(f["arguments"].(string)), &arguments); err != nil {
				r.Fatalf("arguments %s: %v", f["arguments"], err)
			}
			f["arguments"] = arguments
		}
	}
	out, _ := json.Marshal(m)
	return string(out)
}
