package dataset_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"freehold/inference/finetune/dataset"
)

// good is an example that differs with i.
func good(i int) string {
	return fmt.Sprintf(`{"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "What is case %d?"}, {"role": "assistant", "content": "Case number %d."}]}`, i, i)
}

// file joins lines, each with its end.
func file(lines ...string) string { return strings.Join(lines, "\n") + "\n" }

// among puts a line among ten good ones, as the sixth.
func among(line string) string {
	var lines []string
	for i := range 10 {
		if i == 5 {
			lines = append(lines, line)
		}
		lines = append(lines, good(i))
	}
	return file(lines...)
}

func validate(t *testing.T, text string, o dataset.Options) *dataset.Summary {
	t.Helper()
	s, err := dataset.Validate(t.Context(), strings.NewReader(text), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// chat is an example with these messages.
func chat(messages ...string) string { return `{"messages":[` + strings.Join(messages, ",") + `]}` }

const (
	user      = `{"role":"user","content":"Hello?"}`
	assistant = `{"role":"assistant","content":"Hello!"}`
	call      = `{"id":"c1","type":"function","function":{"name":"look","arguments":"{\"at\":1}"}}`
)

func TestErrors(t *testing.T) {
	t.Parallel()
	secret := "Zanzibar-4711"
	for _, c := range []struct {
		name, line, code, says string
	}{
		{"array", `[` + user + `]`, "data_type", "an array"},
		{"string", `"` + secret + `"`, "data_type", "a string"},
		{"number", `4711`, "data_type", "a number"},
		{"null", `null`, "data_type", "null"},
		{"no messages", `{}`, "missing_messages_list", "no"},
		{"null messages", `{"messages":null}`, "missing_messages_list", "no"},
		{"empty messages", `{"messages":[]}`, "missing_messages_list", "empty"},
		{"old format", `{"prompt":"` + secret + `","completion":"b"}`, "missing_messages_list", "prompt"},
		{"messages no array", `{"messages":"` + secret + `"}`, "wrong_type", "array"},
		{"message no object", chat(user, `"`+secret+`"`), "data_type", "messages[1] is a string"},
		{"no role", chat(`{"content":"` + secret + `"}`), "message_missing_key", `"role"`},
		{"no content", chat(`{"role":"user"}`, assistant), "message_missing_key", `messages[0] has no "content"`},
		{"assistant without content", chat(user, `{"role":"assistant"}`), "message_missing_key", `messages[1]`},
		{"unknown key", chat(`{"role":"user","content":"a","colour":"`+secret+`"}`, assistant), "message_unrecognized_key", `"colour"`},
		{"unknown key is content", chat(`{"role":"user","content":"a","`+secret+`":1}`, assistant), "message_unrecognized_key", "a member,"},
		{"unknown key is null", chat(`{"role":"user","content":"a","colour":null}`, assistant), "message_unrecognized_key", `"colour"`},
		{"another role's key", chat(`{"role":"user","content":"a","tool_calls":[`+call+`]}`, assistant), "message_unrecognized_key", "tool_calls"},
		{"role", chat(`{"role":"`+secret+`","content":"a"}`, assistant), "unrecognized_role", "messages[0]"},
		{"role in capitals", chat(`{"role":"User","content":"a"}`, assistant), "unrecognized_role", "system, developer, user"},
		{"role no string", chat(`{"role":7,"content":"a"}`, assistant), "unrecognized_role", "messages[0]"},
		{"null content", chat(`{"role":"user","content":null}`, assistant), "missing_content", "null"},
		{"empty content", chat(user, `{"role":"assistant","content":" "}`), "missing_content", "messages[1]"},
		{"empty parts", chat(`{"role":"user","content":[]}`, assistant), "missing_content", "messages[0]"},
		{"content object", chat(`{"role":"user","content":{"a":1}}`, assistant), "missing_content", "an object"},
		{"content number", chat(`{"role":"user","content":12}`, assistant), "missing_content", "a number"},
		{"part string", chat(`{"role":"user","content":["`+secret+`"]}`, assistant), "wrong_type", "content[0]"},
		{"part text number", chat(`{"role":"user","content":[{"type":"text","text":1}]}`, assistant), "wrong_type", "content[0].text"},
		{"image", chat(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"`+secret+`"}}]}`, assistant), "unsupported_content_part", "content[0]"},
		{"no assistant", chat(user), "example_missing_assistant_message", "no assistant"},
		{"all weights 0", chat(user, `{"role":"assistant","content":"a","weight":0}`), "example_missing_assistant_message", "weight 0"},
		{"last is a user's", chat(user, assistant, user), "last_message_not_assistant", "last"},
		{"weight 2", chat(user, `{"role":"assistant","content":"a","weight":2}`), "invalid_weight", "0 or 1"},
		{"weight half", chat(user, `{"role":"assistant","content":"a","weight":0.5}`), "invalid_weight", "0 or 1"},
		{"weight true", chat(user, `{"role":"assistant","content":"a","weight":true}`), "invalid_weight", "0 or 1"},
		{"weight string", chat(user, `{"role":"assistant","content":"a","weight":"1"}`), "invalid_weight", "0 or 1"},
		{"user's weight", chat(`{"role":"user","content":"a","weight":1}`, assistant), "invalid_weight", "assistant"},
		{"name number", chat(`{"role":"user","content":"a","name":1}`, assistant), "wrong_type", "messages[0].name"},
		{"tool without id", chat(user, `{"role":"tool","content":"a"}`, assistant), "message_missing_key", "tool_call_id"},
		{"function without name", chat(user, `{"role":"function","content":"a"}`, assistant), "message_missing_key", `"name"`},
		{"calls empty", chat(user, `{"role":"assistant","content":null,"tool_calls":[]}`), "wrong_type", "tool_calls"},
		{"call without id", chat(user, `{"role":"assistant","tool_calls":[{"type":"function","function":{"name":"a","arguments":""}}]}`), "wrong_type", "tool_calls[0]"},
		{"arguments object", chat(user, `{"role":"assistant","function_call":{"name":"a","arguments":{}}}`), "wrong_type", "function_call"},
		{"top-level key", `{"messages":[` + user + `,` + assistant + `],"label":"` + secret + `"}`, "example_unrecognized_key", `"label"`},
		{"tools no array", `{"messages":[` + user + `,` + assistant + `],"tools":{}}`, "wrong_type", `"tools"`},
		{"tool without name", `{"messages":[` + user + `,` + assistant + `],"tools":[{"type":"function","function":{}}]}`, "wrong_type", "tools[0]"},
		{"function no object", `{"messages":[` + user + `,` + assistant + `],"functions":[1]}`, "wrong_type", "functions[0]"},
		{"parallel", `{"messages":[` + user + `,` + assistant + `],"parallel_tool_calls":1}`, "wrong_type", "parallel_tool_calls"},
		{"no JSON", `{"messages": ` + secret, "invalid_json", "at byte"},
		{"two objects", good(1) + good(2), "invalid_json", "one JSON object"},
		{"half an object", good(1)[:40], "invalid_json", "not valid JSON"},
		{"duplicate key", `{"messages":[],"messages":[` + user + `,` + assistant + `]}`, "duplicate_key", "same name"},
		{"duplicate key, escaped", chat(`{"role":"user","content":"a","rol\u0065":"assistant"}`, assistant), "duplicate_key", "same name"},
		{"duplicate key, deep", `{"messages":[` + user + `,` + assistant + `],"tools":[{"type":"function","function":{"name":"a","parameters":{"x":1,"y":{"z":1,"z":2}}}}]}`, "duplicate_key", "same name"},
		{"invalid UTF-8", chat("{\"role\":\"user\",\"content\":\"\xff\xfe\"}", assistant), "invalid_utf8", "UTF-8"},
		{"Latin-1", chat("{\"role\":\"user\",\"content\":\"caf\xe9\"}", assistant), "invalid_utf8", "UTF-8"},
		{"half a pair", chat(`{"role":"user","content":"\ud83d"}`, assistant), "invalid_utf8", "surrogate"},
		{"a pair the wrong way round", chat(`{"role":"user","content":"\ude00\ud83d"}`, assistant), "invalid_utf8", "surrogate"},
		{"NUL", chat("{\"role\":\"user\",\"content\":\"a\x00b\"}", assistant), "nul_character", "NUL"},
		{"NUL, escaped", chat(`{"role":"user","content":"a\u0000b"}`, assistant), "nul_character", "NUL"},
		{"deep", strings.Repeat("[", 101) + strings.Repeat("]", 101), "nested_too_deep", "100"},
		{"deeper", strings.Repeat(`{"a":`, 100_000), "nested_too_deep", "100"},
		{"long line", `{"messages":"` + strings.Repeat("x", dataset.MaxLine) + `"}`, "line_too_long", "1048576"},
		{"10 MB line", strings.Repeat("x", 10<<20), "line_too_long", "1048576"},
		{"empty line", ``, "empty_line", "empty"},
		{"blank line", " \t ", "empty_line", "empty"},
		{"Windows line", good(99) + "\r", "windows_line_ending", "carriage return"},
		{"Windows empty line", "\r", "windows_line_ending", "carriage return"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := validate(t, among(c.line), dataset.Options{})
			if len(s.Errors) == 0 || s.Valid() {
				t.Fatal("no error")
			}
			e := s.Errors[0]
			if e.Line != 6 || e.Code != c.code || !strings.Contains(e.Message, c.says) {
				t.Errorf("%+v; want line 6, %s, a message with %q", e, c.code, c.says)
			}
			if !strings.HasSuffix(e.Message, ".") || strings.Contains(fmt.Sprint(s.Errors), secret) {
				t.Errorf("no sentence, or it quotes: %s", e.Message)
			}
			if s.Lines != 11 || s.Examples < 10 {
				t.Errorf("%d lines, %d examples", s.Lines, s.Examples)
			}
		})
	}
}

// TestFiles has what is wrong with a file as a whole.
func TestFiles(t *testing.T) {
	t.Parallel()
	ten := strings.Repeat(good(1)+"\n", 10)
	utf16 := "\xff\xfe" + strings.ReplaceAll(ten, "", "\x00")
	for _, c := range []struct {
		name, text string
		want       []string // line code
	}{
		{"good", ten, nil},
		{"without a final line end", strings.TrimSuffix(ten, "\n"), nil},
		{"with several", ten + "\n \n\n", nil},
		{"empty", "", []string{"0 empty_file"}},
		{"blank", "\n \n", []string{"0 empty_file"}},
		{"a mark alone", "\xef\xbb\xbf", []string{"0 empty_file", "1 byte_order_mark"}},
		{"mark", "\xef\xbb\xbf" + ten, []string{"1 byte_order_mark"}},
		{"UTF-16", utf16, []string{"1 byte_order_mark"}},
		{"nine", strings.Repeat(good(1)+"\n", 9), []string{"0 too_few_examples"}},
		{"nine and a bad one", strings.Repeat(good(1)+"\n", 9) + "x", []string{"10 invalid_json"}},
		{"Windows throughout", strings.ReplaceAll(ten, "\n", "\r\n"), []string{"1 windows_line_ending"}},
		{"lines between", strings.ReplaceAll(good(1)+"\n\n\n"+ten, "\n\n\n\n", "\n"), []string{"2 empty_line", "3 empty_line"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := validate(t, c.text, dataset.Options{})
			var got []string
			for _, e := range s.Errors {
				got = append(got, fmt.Sprint(e.Line, " ", e.Code))
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) || s.ErrorCount != len(c.want) {
				t.Errorf("%v (%d); want %v", got, s.ErrorCount, c.want)
			}
			if s.Lines != strings.Count(c.text, "\n")+len(tail(c.text)) && c.name != "UTF-16" && c.name != "a mark alone" {
				t.Errorf("%d lines", s.Lines)
			}
		})
	}
}

// tail has one element when a text's last line has no end.
func tail(text string) []int {
	if text == "" || strings.HasSuffix(text, "\n") {
		return nil
	}
	return []int{1}
}

func TestGoodExamples(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		chat(user, assistant),
		chat(`{"role":"developer","content":"a"}`, user, assistant),
		chat(user, `{"role":"assistant","content":"a","weight":0}`, user, `{"role":"assistant","content":"b","weight":1}`),
		chat(user, `{"role":"assistant","content":null,"tool_calls":[`+call+`]}`, `{"role":"tool","tool_call_id":"c1","content":""}`, assistant),
		chat(user, `{"role":"assistant","tool_calls":[`+call+`]}`),
		chat(user, `{"role":"assistant","content":null,"refusal":"I won't."}`),
		chat(user, `{"role":"assistant","content":null,"function_call":{"name":"a","arguments":"{}"}}`, `{"role":"function","name":"a","content":"7"}`, assistant),
		chat(`{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}`, assistant),
		chat(`{"role":"user","name":null,"content":"a","tool_calls":null,"weight":null,"tool_call_id":null}`, assistant),
		`{"messages":[` + user + `,` + assistant + `],"tools":[{"type":"function","function":{"name":"a","parameters":{"type":"object"},"strict":true}}],"parallel_tool_calls":false,"functions":null}`,
		"\t" + chat(user, `{"role":"assistant","content":"\ud83d\ude00 \\u0000 \u00e9"}`) + "  ",
	} {
		if s := validate(t, line, dataset.Options{MinExamples: 1}); !s.Valid() || s.Examples != 1 {
			t.Errorf("%s\n%+v", line, s.Errors)
		}
	}
}

// TestMany: the first hundred errors are kept, all are counted, and a file of no end
// isn't read to it.
func TestMany(t *testing.T) {
	t.Parallel()
	s := validate(t, strings.Repeat("{}\n", 250), dataset.Options{MinExamples: 300})
	if len(s.Errors) != 100 || s.ErrorCount != 251 || s.Errors[0].Code != dataset.CodeTooFew || s.Errors[99].Line != 99 {
		t.Errorf("%d kept of %d, last %+v", len(s.Errors), s.ErrorCount, s.Errors[99])
	}
	if text := s.Explain(2); !strings.HasPrefix(text, "The file has 251 errors. The file has 250 examples.") || !strings.HasSuffix(text, "(missing_messages_list) And 249 more.") {
		t.Error(text)
	}
	endless := &repeated{text: "{}\n"}
	s, err := dataset.Validate(t.Context(), endless, dataset.Options{})
	if err != nil || s.Lines != dataset.MaxExamples+1 || s.Examples != 0 || s.ErrorCount != dataset.MaxExamples+1 {
		t.Errorf("%d lines, %d errors, %v", s.Lines, s.ErrorCount, err)
	}
}

// repeated is a file that never ends.
type repeated struct {
	text string
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.text[r.at:])
	for n < len(p) {
		n += copy(p[n:], r.text)
	}
	r.at = (r.at + n) % len(r.text)
	return n, nil
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	away := errors.New("the store is away")
	for name, r := range map[string]io.Reader{
		"at once":       iotest.ErrReader(away),
		"after a while": io.MultiReader(strings.NewReader(among("x")), iotest.ErrReader(away)),
		"in a line":     io.MultiReader(strings.NewReader(strings.Repeat("x", 100_000)), iotest.ErrReader(away)),
	} {
		if s, err := dataset.Validate(t.Context(), r, dataset.Options{}); !errors.Is(err, away) || s != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(away)
	if _, err := dataset.Validate(ctx, &repeated{text: "\n"}, dataset.Options{}); !errors.Is(err, away) {
		t.Error(err)
	}
	// Blank lines count as lines and cost nothing else; no number of them is too many to end.
	if _, err := dataset.Redact(ctx, &repeated{text: "\n"}, io.Discard, dataset.Policy{}); !errors.Is(err, away) {
		t.Error(err)
	}
}

// TestMemory: what a file has makes no difference to what reading it takes.
func TestMemory(t *testing.T) { //nolint:paralleltest // it counts all that is allocated meanwhile
	for name, text := range map[string]string{
		"one line": strings.Repeat("x", 1000), "blank lines": strings.Repeat("\n", 1000), "nested": strings.Repeat("[", 1000),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		s, err := dataset.Validate(t.Context(), io.LimitReader(&repeated{text: text}, 16<<20), dataset.Options{})
		runtime.ReadMemStats(&after)
		if err != nil || s.Valid() {
			t.Errorf("%s: %v %+v", name, err, s)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
			t.Errorf("%s: %d MB", name, used>>20)
		}
	}
}
