package mockengine_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"freehold/e2e/mockengine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, cfg mockengine.Config) *mockengine.Engine {
	t.Helper()
	e, err := mockengine.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// post returns the whole answer.
func post(t *testing.T, url, body string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Post(url, "application/json", bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const asked = `{"model":"m","max_tokens":4,"messages":[{"role":"system","content":"be kind"},
	{"role":"user","content":[{"type":"text","text":"über zwei drei"}]}]`

// A stream says what a plain answer says, both count the same, and the engine's
// own count is theirs.
func TestPlainAndStreamedAreAlike(t *testing.T) {
	t.Parallel()
	e := open(t, mockengine.Config{ChunkBytes: 1, Record: true})
	var plain struct {
		Choices []struct{ Message struct{ Content string } }
		Usage   mockengine.Usage
	}
	if err := json.Unmarshal([]byte(post(t, e.URL()+"/chat/completions", asked+"}")), &plain); err != nil {
		t.Fatal(err)
	}
	want := mockengine.Answer("über zwei drei", 4)
	if got := plain.Choices[0].Message.Content; got != want || want != "über zwei drei über" {
		t.Errorf("%q, want %q", got, want)
	}
	if plain.Usage != (mockengine.Usage{PromptTokens: 5, CompletionTokens: 4, TotalTokens: 9}) {
		t.Errorf("%+v", plain.Usage)
	}
	var text string
	var usage *mockengine.Usage
	lines := bufio.NewScanner(strings.NewReader(post(t, e.URL()+"/chat/completions",
		asked+`,"stream":true,"stream_options":{"include_usage":true}}`)))
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: {")
		if !ok {
			continue
		}
		var chunk struct {
			Choices []struct{ Delta struct{ Content string } }
			Usage   *mockengine.Usage
		}
		if err := json.Unmarshal([]byte("{"+data), &chunk); err != nil {
			t.Fatal(err)
		}
		for _, c := range chunk.Choices {
			text += c.Delta.Content
		}
		usage = chunk.Usage
	}
	if text != want || usage == nil || *usage != plain.Usage {
		t.Errorf("streamed %q %+v", text, usage)
	}
	calls := e.Calls()
	if len(calls) != 2 || calls[0].Prompt != "über zwei drei" || !calls[0].Whole || calls[1].Usage != plain.Usage {
		t.Errorf("%+v", calls)
	}
	if now, most := e.Busy(); now != 0 || most != 1 || e.Used().TotalTokens != 18 || e.Count() != 2 {
		t.Errorf("busy %d, at most %d; used %+v in %d calls", now, most, e.Used(), e.Count())
	}
}

func TestEmbeddings(t *testing.T) {
	t.Parallel()
	e := open(t, mockengine.Config{})
	got := post(t, e.URL()+"/embeddings", `{"model":"m","input":["one two"]}`)
	if !strings.Contains(got, `"embedding":[7,2]`) || e.Used().TotalTokens != 2 {
		t.Errorf("%s, used %+v", got, e.Used())
	}
	got = post(t, e.URL()+"/embeddings", `{"model":"m","input":"one two","encoding_format":"base64"}`)
	if !strings.Contains(got, `"embedding":"AADgQAAAAEA="`) {
		t.Errorf("%s", got)
	}
}

// Close ends calls that would take long, and what nobody got isn't counted.
func TestCloseEndsCalls(t *testing.T) {
	t.Parallel()
	e, err := mockengine.Open(mockengine.Config{Delay: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	go func() {
		defer close(ended)
		res, err := client.Post(e.URL()+"/chat/completions", "application/json", strings.NewReader(asked+"}"))
		if err == nil {
			_ = res.Body.Close()
		}
	}()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if now, _ := e.Busy(); now == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the call didn't arrive")
		}
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	<-ended
	if now, _ := e.Busy(); now != 0 || e.Used().TotalTokens != 0 {
		t.Errorf("busy %d, used %+v", now, e.Used())
	}
}
