package pii_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"freehold/inference/pii"
	"freehold/inference/pii/piitest"
)

var fuzzOptions = pii.Options{Allow: []string{"ok@example.com"}, Deny: []string{"aurora", "12-34"}}

// hostile are the pieces of which texts are made that cost a careless scanner
// quadratic time.
var hostile = []string{
	"@", "1", "1-", "1-1-1-", "1 ", "1.", ":", "::", "a:", "1:", "eyJ.", "eyJhbGciOiJIUzI1NiJ9.", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----",
	"-----BEGIN PRIVATE KEY-----\n", "a.a.a.a@", "@a.", "a@a", "http://", "://a:b", "://a:", "x://a:b/@", "4111 1111 1111 1111 ", "4111111111111112 ", "(", "(1", "(1)", "+", "+1",
	"+1 (2", "020 7946 0958 ", "DE89 3704 0044 0532 0130 01 ", "de", "DE12 ", "123-45-678 ", "password=", "password:", "sk-", "ghp_", "\"", "\"@", "é", "é@",
	"\\n", "00:11:22:33:44:", "fe80::", "1:2:3:4:5:6:7:", "call ", "aurora", "aurora 12-34 ", "12-34", "項", "x", "_", " ", "\n", "[EMAIL_1_", "0000000000 ", "phone 12 ",
}

func FuzzFind(f *testing.F) {
	for _, sample := range piitest.Corpus(2, 100) {
		f.Add(sample.Text)
	}
	for _, piece := range hostile {
		f.Add(strings.Repeat(piece, 4))
	}
	plain, tuned := pii.New(pii.Options{}), pii.New(fuzzOptions)
	f.Fuzz(func(t *testing.T, text string) {
		for _, scanner := range []*pii.Scanner{plain, tuned} {
			end, oneWay := 0, false
			for _, m := range scanner.Find(text) {
				if m.Start < end || m.End <= m.Start || m.End > len(text) || m.Entity == "" {
					t.Fatalf("%q: %+v after %d", text, m, end)
				}
				if utf8.ValidString(text) && !utf8.ValidString(text[m.Start:m.End]) {
					t.Fatalf("%q: %+v cuts a character", text, m)
				}
				end, oneWay = m.End, oneWay || m.Entity.OneWay()
			}
			s := scanner.Session()
			if got := s.Restore(s.Redact(text)); !oneWay && got != text {
				t.Fatalf("%q came back as %q", text, got)
			}
			if tagged := scanner.Tag(text); (tagged == text) != (end == 0) {
				t.Fatalf("%q: tagged %q", text, tagged)
			}
			if steps := pii.Steps(scanner, text); steps > maxSteps*(len(text)+16) {
				t.Fatalf("%d steps for %d bytes: %q", steps, len(text), text)
			}
		}
	})
}

func FuzzRestorer(f *testing.F) {
	f.Add("hello [EMAIL_1_", uint8(3), true)
	f.Add(`{"a":"{\"b\":\"\u005b\""}`, uint8(1), false)
	s, live := placeholders(f)
	f.Fuzz(func(t *testing.T, text string, size uint8, plain bool) {
		// What the fuzzer can't guess: placeholders.
		for i, p := range live {
			text = strings.ReplaceAll(text, string(rune('A'+i)), p)
		}
		var cut []string
		for rest := text; rest != ""; {
			n := min(len(rest), 1+int(size)%16)
			cut, rest = append(cut, rest[:n]), rest[n:]
		}
		if plain {
			if got, want := stream(s.Stream(), cut), s.Restore(text); got != want {
				t.Fatalf("%q: %q, want %q", text, got, want)
			}
			return
		}
		if got, want := stream(s.StreamJSON(), cut), stream(s.StreamJSON(), []string{text}); got != want {
			t.Fatalf("%q: %q, want %q", text, got, want)
		}
	})
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"a":"b@example.com","phone":"5551234567","c":"{\"d\":[\"e@example.com\"]}"}`))
	f.Add([]byte(`["\ud800 a@example.com", "\u0041@example.com"]`))
	scanner := pii.New(pii.Options{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := scanner.Session()
		valid := isJSON(raw)
		redacted := s.RedactJSON(raw)
		if valid && !isJSON(redacted) {
			t.Fatalf("%q became %q", raw, redacted)
		}
		if restored := s.RestoreJSON(redacted); valid && !isJSON(restored) {
			t.Fatalf("%q came back as %q", raw, restored)
		}
	})
}

// maxSteps bounds the work a byte of any text: what each candidate looks at is
// bounded, and candidates overlap no more than this.
const maxSteps = 600

// TestLinear: twice the text is twice the work, whatever the text.
func TestLinear(t *testing.T) {
	t.Parallel()
	scanner := pii.New(fuzzOptions)
	for _, piece := range hostile {
		const size = 8 << 10
		once := strings.Repeat(piece, size/len(piece))
		a, b := pii.Steps(scanner, once), pii.Steps(scanner, once+once)
		if float64(b) > 2.2*float64(a) || a > maxSteps*size {
			t.Errorf("%q: %d steps for %d bytes, %d for twice as many", piece, a, len(once), b)
		}
	}
}
