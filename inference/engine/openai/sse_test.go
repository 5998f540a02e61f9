package openai_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"freehold/inference/engine"
	"freehold/inference/engine/openai"
)

// canned answers each request with one body, which arrives in pieces of these
// lengths, in turn; none: at once.
type canned struct {
	body string
	cuts []byte
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}},
		Body: io.NopCloser(&pieces{in: strings.NewReader(c.body), cuts: c.cuts}), Request: r,
	}, nil
}

type pieces struct {
	in   io.Reader
	cuts []byte
	n    int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.cuts) > 0 {
		b = b[:min(len(b), 1+int(p.cuts[p.n%len(p.cuts)])%32)]
		p.n++
	}
	return p.in.Read(b)
}

// transcript is all that a stream says, and how it ends.
func transcript(t *testing.T, body string, cuts []byte) string {
	t.Helper()
	eng, err := openai.New(openai.Config{BaseURL: "http://upstream.test/v1", Transport: canned{body, cuts}})
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	err = eng.ChatStream(t.Context(), chat(), func(c *engine.ChatChunk) error {
		b, err := json.Marshal(c)
		if err != nil || !json.Valid(b) {
			t.Errorf("a chunk that can't be sent: %v", err)
		}
		said.Write(b)
		return nil
	})
	var e *engine.Error
	if err != nil && !errors.As(err, &e) {
		t.Errorf("got %T, want an *engine.Error", err)
	}
	return fmt.Sprintf("%s\n%v", said.String(), err)
}

// However a stream is cut on its way, it says the same.
func TestStreamCutAnywhere(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"LF":   ": x\n\n" + lines(hel, lo, stop, usage, "[DONE]"),
		"CRLF": "\xEF\xBB\xBF" + strings.ReplaceAll(lines(hel, lo, stop, usage), "\n", "\r\n"),
		"CR":   strings.ReplaceAll(lines(hel, lo, stop, usage, "[DONE] "), "\n", "\r"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole := transcript(t, body, nil)
			if !strings.HasSuffix(whole, "<nil>") || !strings.Contains(whole, `"total_tokens":5`) {
				t.Fatalf("uncut: %s", whole)
			}
			for size := range 32 {
				if got := transcript(t, body, []byte{byte(size)}); got != whole {
					t.Errorf("in pieces of %d: %s\nwant %s", size+1, got, whole)
				}
			}
		})
	}
}

func FuzzSSE(f *testing.F) {
	for _, s := range []string{lines(hel, lo, stop, usage, "[DONE]"), "data: {}\r\rdata\n\n: \n", "event: error\ndata: {\"error\":null}", "\xEF\xBB\xBFdata:[DONE]\r\n"} {
		f.Add(s, []byte{0})
		f.Add(strings.ReplaceAll(s, "\n", "\r\n"), []byte{7, 1})
	}
	f.Fuzz(func(t *testing.T, body string, cuts []byte) {
		if whole, cut := transcript(t, body, nil), transcript(t, body, cuts); whole != cut {
			t.Errorf("cut: %s\nuncut: %s", cut, whole)
		}
	})
}
