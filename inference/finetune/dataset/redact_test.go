package dataset_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"freehold/inference/finetune/dataset"
)

func redact(t interface{ Fatal(...any) }, text string, p dataset.Policy) (string, dataset.Redacted) {
	var b bytes.Buffer
	res, err := dataset.Redact(context.Background(), strings.NewReader(text), &b, p)
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), res
}

func TestRedact(t *testing.T) {
	t.Parallel()
	p := dataset.Policy{Detect: true, Mode: "restore", Allow: []string{"help@ours.example"}, Deny: []string{"acme"}}
	text := strings.ReplaceAll(`{"tools":[{"function":{"parameters":{"b":1.50,"a":{"ann@example.com":1}},"name":"look"},"type":"function"}],
"messages":[{"content":"I am ann@example.com <b>","role":"user","name":"ben@example.com","weight":null},
{"tool_calls":[{"type":"function","id":"c1","function":{"name":"look","arguments":"{\"phone\": \"+44 20 7946 0958\"}"}}],"role":"assistant"},
{"role":"tool","tool_call_id":"c1","content":[{"text":"help@ours.example","type":"text"},{"type":"text","text":"ACME: ann@example.com"}]},
{"weight":1,"role":"assistant","content":"Ask ann@example.com or \u00e9"}]}`, "\n", " ")
	want := strings.ReplaceAll(`{"messages":[{"role":"user","content":"I am [EMAIL] <b>","name":"[EMAIL]"},
{"role":"assistant","content":null,"tool_calls":[{"function":{"arguments":"{\"phone\": \"[PHONE]\"}","name":"look"},"id":"c1","type":"function"}]},
{"role":"tool","content":[{"text":"help@ours.example","type":"text"},{"text":"[CUSTOM]: [EMAIL]","type":"text"}],"tool_call_id":"c1"},
{"role":"assistant","content":"Ask [EMAIL] or é","weight":1}],
"tools":[{"function":{"name":"look","parameters":{"a":{"[EMAIL]":1},"b":1.50}},"type":"function"}]}`, "\n", "") + "\n"
	got, res := redact(t, text, p)
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	sum := sha256.Sum256([]byte(got))
	if res.Examples != 1 || res.Bytes != int64(len(got)) || res.Sum != hex.EncodeToString(sum[:]) ||
		!reflect.DeepEqual(res.Personal, map[string]int{"EMAIL": 5, "PHONE": 1, "CUSTOM": 1}) {
		t.Errorf("%+v", res)
	}
	plain, res := redact(t, text, dataset.Policy{})
	if !strings.Contains(plain, "I am ann@example.com <b>") || len(res.Personal) != 0 {
		t.Errorf("%s %+v", plain, res)
	}
}

func TestRedactErrors(t *testing.T) {
	t.Parallel()
	var line *dataset.LineError
	_, err := dataset.Redact(t.Context(), strings.NewReader(among("{}")), &bytes.Buffer{}, dataset.Policy{})
	if !errors.As(err, &line) || line.Line != 6 || line.Code != dataset.CodeNoMessages {
		t.Error(err)
	}
	full := errors.New("the disk is full")
	if _, err := dataset.Redact(t.Context(), strings.NewReader(among(good(99))), failing{full}, dataset.Policy{}); !errors.Is(err, full) {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestRedactProperties: what is written is valid, has as many examples, is the same
// the second time, and written again is itself.
func TestRedactProperties(t *testing.T) {
	t.Parallel()
	p := dataset.Policy{Detect: true, Mode: "redact"}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.Map(rapid.SliceOfN(examples, 1, 5), func(l []string) string { return file(l...) }).Draw(t, "file")
		once, res := redact(t, text, p)
		twice, _ := redact(t, text, p)
		again, _ := redact(t, once, dataset.Policy{})
		if once != twice || once != again {
			t.Fatalf("%q\n%q\n%q", once, twice, again)
		}
		s, err := dataset.Validate(context.Background(), strings.NewReader(once), dataset.Options{MinExamples: 1})
		if err != nil || !s.Valid() || s.Examples != res.Examples || res.Examples != strings.Count(text, "\n") {
			t.Fatal(err, s, res)
		}
	})
}

// examples draws good ones with texts of all sorts.
var examples = rapid.Custom(func(t *rapid.T) string {
	text := rapid.OneOf(
		rapid.SampledFrom([]string{"a@b.example", "{\"phone\": \"+44 20 7946 0958\"}", "4111 1111 1111 1111", "\\u0000", "\u2028<&>"}),
		rapid.StringN(1, 30, -1),
	).Filter(func(s string) bool { return strings.TrimSpace(s) != "" && !strings.Contains(s, "\x00") })
	message := func(role, name string) map[string]any {
		m := map[string]any{"role": role}
		if m["content"] = any(text.Draw(t, name)); rapid.Bool().Draw(t, "parts") {
			m["content"] = []any{map[string]any{"type": "text", "text": m["content"]}, map[string]any{"type": "text", "text": text.Draw(t, name)}}
		}
		return m
	}
	asked := message("user", "question")
	if rapid.Bool().Draw(t, "named") {
		asked["name"] = text.Draw(t, "name")
	}
	ex := map[string]any{"messages": []any{asked, message("assistant", "answer")}}
	if rapid.Bool().Draw(t, "tools") {
		ex["tools"] = []any{map[string]any{"type": "function", "function": map[string]any{"name": text.Draw(t, "tool"), "parameters": map[string]any{
			text.Draw(t, "parameter"): rapid.Int().Draw(t, "number"), text.Draw(t, "parameter"): nil,
		}}}}
	}
	b, err := json.Marshal(ex)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
})

// TestCuts: of a good file that is cut anywhere, each whole line is an example, and
// the rest one or an error.
func TestCuts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.Map(rapid.SliceOfN(examples, 1, 4), func(l []string) string { return file(l...) }).Draw(t, "file")
		text = text[:rapid.IntRange(0, len(text)).Draw(t, "cut")]
		s, err := dataset.Validate(context.Background(), strings.NewReader(text), dataset.Options{MinExamples: 1})
		if err != nil {
			t.Fatal(err)
		}
		whole := strings.Count(text, "\n")
		last := text[strings.LastIndexByte(text, '\n')+1:]
		switch {
		case last == "" && whole == 0:
			if s.Lines != 0 || s.ErrorCount != 1 || s.Errors[0].Code != dataset.CodeEmptyFile {
				t.Fatalf("%+v", s)
			}
		case last == "" || json.Valid([]byte(last)):
			if s.Examples != whole+len(tail(text)) || !s.Valid() {
				t.Fatalf("%+v", s)
			}
		default:
			if s.Lines != whole+1 || s.Examples != whole || s.ErrorCount != 1 || s.Errors[0].Line != whole+1 {
				t.Fatalf("%+v", s)
			}
		}
	})
}

func TestExamples(t *testing.T) {
	t.Parallel()
	text := file(
		chat(`{"role":"system","content":"s"}`, user, `{"role":"assistant","content":"no","weight":0}`,
			`{"role":"user","content":[{"type":"text","text":"one"},{"type":"text","text":"two"}]}`, `{"role":"assistant","content":"three"}`),
		chat(user, `{"role":"assistant","content":"Let me look.","tool_calls":[`+call+`]}`, `{"role":"tool","tool_call_id":"c1","content":"7"}`, `{"role":"assistant","content":" Seven.\n"}`),
		chat(`{"role":"system","content":"s"}`, assistant),
		chat(`{"role":"developer","content":"d"}`, user, assistant, `{"role":"user","content":"And?"}`, `{"role":"assistant","content":"Bye."}`),
	)
	want := []dataset.Example{
		{1, "s", "one\ntwo", "three"}, {2, "", "Hello?", "Seven."}, {4, "d", "Hello?", "Hello!"}, {4, "d", "And?", "Bye."},
	}
	var got []dataset.Example
	for e, err := range dataset.Examples(t.Context(), strings.NewReader(text)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	for range dataset.Examples(t.Context(), strings.NewReader(text)) {
		break // without a panic, and without more of them
	}
	n := 0
	var last error
	for _, err := range dataset.Examples(t.Context(), strings.NewReader(file(good(1), "x", good(2)))) {
		n, last = n+1, err
	}
	if line := new(dataset.LineError); n != 2 || !errors.As(last, &line) || line.Line != 2 {
		t.Error(n, last)
	}
}

func TestHiddenExamples(t *testing.T) {
	t.Parallel()
	p := dataset.Policy{Detect: true, Deny: []string{"acme"}}
	for e, err := range dataset.HiddenExamples(t.Context(), strings.NewReader(file(ask("I am ann@example.com", "Tell Acme."))), p) {
		if err != nil || e.Prompt != "I am [EMAIL]" || e.Answer != "Tell [CUSTOM]." {
			t.Error(e, err)
		}
	}
	if got := p.Hide("ACME, ann@example.com"); got != "[CUSTOM], [EMAIL]" {
		t.Error(got)
	}
	if got := (dataset.Policy{Deny: p.Deny}).Hide("ACME"); got != "ACME" {
		t.Error(got)
	}
}
