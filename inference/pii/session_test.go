package pii_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"freehold/inference/pii"
	"freehold/inference/pii/piitest"
)

func TestPlaceholders(t *testing.T) {
	t.Parallel()
	scanner := pii.New(pii.Options{})
	s := scanner.Session()
	if s.Found() || len(s.Count()) != 0 {
		t.Error("a new session has found something")
	}
	got := s.Redact("a@example.com, b@example.com and a@example.com; password=hunter2")
	form := regexp.MustCompile(`^\[EMAIL_1_([0-9a-z]{8,})\], \[EMAIL_2_([0-9a-z]{8,})\] and \[EMAIL_1_([0-9a-z]{8,})\]; password=\[KEY\]$`)
	parts := form.FindStringSubmatch(got)
	if parts == nil || parts[1] != parts[2] || parts[1] != parts[3] {
		t.Fatalf("redacted: %s", got)
	}
	if c := s.Count(); !s.Found() || c[pii.Email] != 3 || c[pii.Key] != 1 || len(c) != 2 {
		t.Errorf("count: %v", c)
	}
	if again := s.Redact("again a@example.com"); again != "again [EMAIL_1_"+parts[1]+"]" {
		t.Errorf("another text of the session: %s", again)
	}
	if want := "a@example.com, b@example.com and a@example.com; password=[KEY]"; s.Restore(got) != want {
		t.Errorf("restored: %s", s.Restore(got))
	}
	other := scanner.Session()
	if mine := other.Redact("a@example.com"); strings.Contains(mine, parts[1]) || other.Restore(got) != got {
		t.Error("sessions share a nonce")
	}
	for _, literal := range []string{
		"[EMAIL_1]", "[EMAIL]", "[KEY]", "[EMAIL_3_" + parts[1] + "]", "[email_1_" + parts[1] + "]", "[PHONE_1_" + parts[1] + "]",
		"[EMAIL_1_" + parts[1], "EMAIL_1_" + parts[1] + "]", "[EMAIL_01_" + parts[1] + "]", "[EMAIL_1_" + parts[1] + " ]",
		"[EMAIL_1_" + strings.ToUpper(parts[1]) + "]", "[", "[[", "]",
	} {
		if got := s.Restore(literal); got != literal {
			t.Errorf("%q was restored: %q", literal, got)
		}
		if got := s.Redact(literal); got != literal {
			t.Errorf("%q was redacted: %q", literal, got)
		}
	}
	if got := s.Restore("[[EMAIL_1_" + parts[1] + "]]"); got != "[a@example.com]" {
		t.Errorf("in brackets: %s", got)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	const doc = `{ "to":"a@example.com", "n" : [1, 2.50,"b@example.com",null],
		"b@example.com":{"phone":"5551234567","code":"5551234567"},
		"arguments":"{\"to\":\"\\\"john \\\\ doe\\\"@example.com\",\"text\":\"caf\\u00e9 \\n a@example.com\"}", "esc":"\u0061@example.com" }`
	scanner := pii.New(pii.Options{})
	want := `{ "to":"[EMAIL]", "n" : [1, 2.50,"[EMAIL]",null],
		"[EMAIL]":{"phone":"[PHONE]","code":"5551234567"},
		"arguments":"{\"to\":\"[EMAIL]\",\"text\":\"café \\n [EMAIL]\"}", "esc":"[EMAIL]" }`
	if got := string(scanner.TagJSON([]byte(doc))); got != want {
		t.Errorf("tagged:\n%s\nwant:\n%s", got, want)
	}
	s := scanner.Session()
	redacted := s.RedactJSON([]byte(doc))
	if strings.Contains(string(redacted), "example") || !json.Valid(redacted) {
		t.Fatalf("redacted: %s", redacted)
	}
	if got := s.RestoreJSON(redacted); !sameJSON(t, got, []byte(doc)) {
		t.Errorf("restored: %s", got)
	}
	for _, same := range []string{`{"a":1}`, `"x"`, `[]`, ` {"text":"caf\u00e9"}`, ``, `not json`} {
		if got := string(scanner.TagJSON([]byte(same))); got != same {
			t.Errorf("%s became %s", same, got)
		}
	}
	if got := string(scanner.TagJSON([]byte(`{"cut":"a@example.com`))); got != `{"cut":"[EMAIL]` {
		t.Errorf("invalid JSON: %s", got)
	}
}

// sameJSON compares documents, and the documents inside their strings.
func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	return canonical(t, a) == canonical(t, b)
}

func canonical(t interface{ Fatalf(string, ...any) }, raw []byte) string {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	var open func(v any) any
	open = func(v any) any {
		switch v := v.(type) {
		case string:
			var inner any
			if strings.HasPrefix(v, "{") && json.Unmarshal([]byte(v), &inner) == nil {
				return map[string]any{"document": open(inner)}
			}
		case []any:
			for i := range v {
				v[i] = open(v[i])
			}
		case map[string]any:
			for k := range v {
				v[k] = open(v[k])
			}
		}
		return v
	}
	out, err := json.Marshal(open(v))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return string(out)
}

// pieces cuts a text at places that rapid chooses, also inside characters.
func pieces(t *rapid.T, text string) []string {
	var out []string
	for text != "" {
		n := rapid.IntRange(0, min(len(text), 12)).Draw(t, "cut")
		out = append(out, text[:n])
		text = text[n:]
	}
	return out
}

func stream(r *pii.Restorer, pieces []string) string {
	var b strings.Builder
	for _, p := range pieces {
		b.WriteString(r.Write(p))
	}
	b.WriteString(r.Flush())
	return b.String()
}

// drawAnswer is what a model may make of placeholders: whole, cut off, doubled,
// invented.
func drawAnswer(t *rapid.T, live []string) string {
	var b strings.Builder
	for range rapid.IntRange(0, 12).Draw(t, "parts") {
		p := live[rapid.IntRange(0, len(live)-1).Draw(t, "which")]
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0, 1:
			b.WriteString(p)
		case 2:
			b.WriteString(p[:rapid.IntRange(0, len(p)).Draw(t, "cut off")])
		case 3:
			b.WriteString(rapid.SampledFrom([]string{"[", "]", "[[", "[EMAIL_1]", "[EMAIL_1_", "é", "\xe2\x82", " "}).Draw(t, "noise"))
		case 4:
			b.WriteString(rapid.StringN(0, 8, -1).Draw(t, "text"))
		case 5:
			b.WriteString(p[rapid.IntRange(0, len(p)).Draw(t, "begun"):])
		}
	}
	return b.String()
}

// secretsOf has values of several kinds, some of which need escapes.
const secretsOf = `a@example.com, "john \ doe"@example.com, 4111 1111 1111 1111, (555) 123-4567, 10.1.2.3, ab"c\d, jürgen@münchen.de`

func placeholders(t interface{ Fatalf(string, ...any) }) (*pii.Session, []string) {
	s := pii.New(pii.Options{Deny: []string{`ab"c\d`}}).Session()
	live := regexp.MustCompile(`\[[A-Z]+_\d+_[0-9a-z]+\]`).FindAllString(s.Redact(secretsOf), -1)
	if len(live) != 7 {
		t.Fatalf("%d placeholders: %q", len(live), s.Redact(secretsOf))
	}
	return s, live
}

// TestRestoreAtEveryCut holds the promise of Restorer: wherever the stream is cut,
// what comes out is what Restore makes of the whole.
func TestRestoreAtEveryCut(t *testing.T) {
	t.Parallel()
	s, live := placeholders(t)
	rapid.Check(t, func(t *rapid.T) {
		text := drawAnswer(t, live)
		if got, want := stream(s.Stream(), pieces(t, text)), s.Restore(text); got != want {
			t.Fatalf("%q: streamed %q, want %q", text, got, want)
		}
	})
	for _, text := range append(live, "x"+live[0]+live[1]+"[EMAIL_1_"+live[2]) {
		for i := range len(text) + 1 {
			if got, want := stream(s.Stream(), []string{text[:i], text[i:]}), s.Restore(text); got != want {
				t.Errorf("%q cut at %d: %q, want %q", text, i, got, want)
			}
		}
		if got, want := stream(s.Stream(), strings.Split(text, "")), s.Restore(text); got != want {
			t.Errorf("%q byte by byte: %q, want %q", text, got, want)
		}
	}
}

// TestHoldsBackNoMore: what can't become a placeholder goes out at once.
func TestHoldsBackNoMore(t *testing.T) {
	t.Parallel()
	s, live := placeholders(t)
	rapid.Check(t, func(t *rapid.T) {
		r := s.Stream()
		text := ""
		out := ""
		for _, p := range pieces(t, drawAnswer(t, live)) {
			text += p
			out += r.Write(p)
			held := 0
			for _, p := range live {
				for n := 1; n < len(p); n++ {
					if strings.HasSuffix(text, p[:n]) {
						held = max(held, n)
					}
				}
			}
			if want := s.Restore(text[:len(text)-held]); out != want {
				t.Fatalf("after %q: %q, want %q", text, out, want)
			}
		}
	})
}

// drawDocument is a JSON value with placeholders, and documents inside strings.
func drawDocument(t *rapid.T, live []string, depth int) any {
	kind := rapid.IntRange(0, 6).Draw(t, "kind")
	if depth == 0 && kind > 2 {
		kind = 0
	}
	switch kind {
	case 3:
		return map[string]any{rapid.StringN(0, 5, -1).Draw(t, "key"): drawDocument(t, live, depth-1), "b": drawDocument(t, live, depth-1)}
	case 4:
		return []any{drawDocument(t, live, depth-1), drawDocument(t, live, depth-1)}
	case 5, 6:
		inner, err := json.Marshal(map[string]any{"inner": drawDocument(t, live, depth-1)})
		if err != nil {
			t.Fatalf("%v", err)
		}
		return string(inner)
	case 1:
		return rapid.IntRange(-9, 9).Draw(t, "n")
	}
	text := strings.ToValidUTF8(drawAnswer(t, live), "?")
	if strings.HasPrefix(strings.TrimSpace(text), "[") || strings.HasPrefix(strings.TrimSpace(text), "{") {
		return "x" + text // else it only looks like a document
	}
	return text
}

// TestRestoreJSONAtEveryCut holds StreamJSON against RestoreJSON.
func TestRestoreJSONAtEveryCut(t *testing.T) {
	t.Parallel()
	s, live := placeholders(t)
	rapid.Check(t, func(t *rapid.T) {
		raw, err := json.Marshal(drawDocument(t, live, 4))
		if err != nil {
			t.Fatalf("%v", err)
		}
		got := stream(s.StreamJSON(), pieces(t, string(raw)))
		want := s.RestoreJSON(raw)
		if canonical(t, []byte(got)) != canonical(t, want) {
			t.Fatalf("%s:\nstreamed %s\nwant     %s", raw, got, want)
		}
	})
}

func TestRedactIsUndone(t *testing.T) {
	t.Parallel()
	scanner := pii.New(pii.Options{})
	for _, sample := range piitest.Corpus(3, 300) {
		s := scanner.Session()
		redacted := s.Redact(sample.Text)
		c := s.Count()
		if c[pii.Key]+c[pii.JWT]+c[pii.URL] > 0 {
			continue
		}
		if got := s.Restore(redacted); got != sample.Text {
			t.Errorf("%q became %q", sample.Text, got)
		}
	}
}

func TestPhrases(t *testing.T) {
	t.Parallel()
	s := pii.New(pii.Options{
		Allow: []string{"support@acme.com", "Hotline 0800 123456", "127.0.0.1", "john"},
		Deny:  []string{"Project Aurora", "Straße", "x-1", "anna", "項目"},
	})
	for text, want := range map[string]string{
		"Support@ACME.com is ours":                    "Support@ACME.com is ours",
		"mail not.support@acme.com":                   "mail [EMAIL]",
		"call hotline 0800 123456":                    "call hotline 0800 123456",
		"call 0800 123456":                            "call [PHONE]",
		"127.0.0.1 and 127.0.0.2":                     "127.0.0.1 and [IP]",
		"john@example.com is john":                    "[EMAIL] is john",
		"the PROJECT AURORA, project auroras":         "the [CUSTOM], project auroras",
		"STRAßE, Straßen, (straße)":                   "[CUSTOM], Straßen, ([CUSTOM])",
		"x-1 x-12 ax-1":                               "[CUSTOM] x-12 ax-1",
		"anna@example.com, Anna, Joanna, annas, anna": "[EMAIL], [CUSTOM], Joanna, annas, [CUSTOM]",
		"das 項目!":                                     "das [CUSTOM]!",
	} {
		if got := s.Tag(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", pii.MaxPhraseLen)
	many := strings.Split(strings.Repeat("x ", pii.MaxPhrases), " ")
	for _, c := range []struct {
		o    pii.Options
		want string
	}{
		{pii.Options{}, ""},
		{pii.Options{Allow: []string{"a", long}, Deny: many[:pii.MaxPhrases]}, ""},
		{pii.Options{Allow: []string{long + "x"}}, "allow: entry 1"},
		{pii.Options{Deny: []string{"ok", ""}}, "deny: entry 2"},
		{pii.Options{Deny: []string{" a"}}, "deny: entry 1"},
		{pii.Options{Deny: []string{"\xff"}}, "deny: entry 1"},
		{pii.Options{Deny: append(many[:pii.MaxPhrases:pii.MaxPhrases], "y")}, "deny: at most 200"},
	} {
		err := pii.Validate(c.o)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60v: %v, want %q", c.o, err, c.want)
		}
	}
}
