package dataset_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"freehold/inference/finetune/dataset"
)

// FuzzValidate: no file makes it panic, lines are counted as they stand, and what is
// valid can be redacted, into a file that is as valid.
func FuzzValidate(f *testing.F) {
	for _, seed := range []string{
		"", "\n", "\xef\xbb\xbf{}", good(1), among("x"), among(chat(user, `{"role":"assistant","tool_calls":[`+call+`]}`)), good(1) + "\r\n\r\n" + good(2),
		`{"messages":[{"role":"user","content":[{"type":"text","text":"\ud83d\ude00\\u0000 4111 1111 1111 1111"}]},{"role":"assistant","content":"a@b.example"}]}`,
		`{"a":{"b":[{"c":"\u"}]}}`, `{"a":1,"a":2}`, "[[[[", `{"messages":[{"role":"user","content":"\u0000"}]}`,
	} {
		f.Add([]byte(seed))
	}
	detect := dataset.Policy{Detect: true, Mode: "redact"}
	f.Fuzz(func(t *testing.T, text []byte) {
		ctx := context.Background()
		s, err := dataset.Validate(ctx, bytes.NewReader(text), dataset.Options{MinExamples: 1, Policy: detect})
		if err != nil {
			t.Fatal(err)
		}
		body := bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
		lines := bytes.Count(body, []byte("\n"))
		if len(body) > 0 && !bytes.HasSuffix(body, []byte("\n")) {
			lines++
		}
		utf16 := bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff"))
		if s.Lines != lines && !utf16 {
			t.Fatalf("%d lines; want %d", s.Lines, lines)
		}
		if len(s.Errors) > s.ErrorCount || s.Valid() && s.Examples == 0 {
			t.Fatalf("%+v", s)
		}
		var out bytes.Buffer
		res, err := dataset.Redact(ctx, bytes.NewReader(text), &out, detect)
		if line := new(dataset.LineError); (err == nil) != s.Valid() && !errors.As(err, &line) && s.ErrorCount > 1 {
			t.Fatalf("%v; %+v", err, s.Errors)
		}
		if !s.Valid() {
			return
		}
		again, err := dataset.Validate(ctx, strings.NewReader(out.String()), dataset.Options{MinExamples: 1})
		if err != nil || !again.Valid() || again.Examples != res.Examples || again.Examples != s.Examples {
			t.Fatalf("%v %+v: %q", err, again, out.String())
		}
	})
}

func BenchmarkValidate(b *testing.B) { benchmark(b, false) }

func BenchmarkValidateDetecting(b *testing.B) { benchmark(b, true) }

func corpus() string {
	var text strings.Builder
	for i := range 2000 {
		text.WriteString(strings.ReplaceAll(good(i), "Be short.", strings.Repeat("You answer what customers ask, politely. ", 10)) + "\n")
	}
	return text.String()
}

func benchmark(b *testing.B, detect bool) {
	text := corpus()
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		s, err := dataset.Validate(b.Context(), strings.NewReader(text), dataset.Options{Policy: dataset.Policy{Detect: detect}})
		if err != nil || !s.Valid() {
			b.Fatal(err, s)
		}
	}
}

func BenchmarkRedact(b *testing.B) {
	text := corpus()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		var out bytes.Buffer
		if _, err := dataset.Redact(b.Context(), strings.NewReader(text), &out, dataset.Policy{Detect: true}); err != nil {
			b.Fatal(err)
		}
	}
}
