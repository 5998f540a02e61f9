package openai_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"freehold/inference/engine"
	"freehold/inference/engine/openai"
)

func TestChatSendsWhatItGotAndReadsTheAnswer(t *testing.T) {
	t.Parallel()
	var sent map[string]any
	var auth, path string
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		auth, path = r.Header.Get("Authorization"), r.URL.Path
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			t.Error(err)
		}
		says(200, `{"id":"x","error":null,"choices":[{"index":0,"message":{"role":"assistant","content":"yes","tool_calls":null},"finish_reason":"length"},
			{"index":1,"message":{"content":"no"},"finish_reason":null}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":99,"prompt_tokens_details":{"cached_tokens":1}}}`)(w, r)
	})
	got, err := u.Chat(t.Context(), chat())
	if err != nil {
		t.Fatal(err)
	}
	if auth != "Bearer "+key || path != "/v1/chat/completions" {
		t.Errorf("sent %q to %q", auth, path)
	}
	want := `{"max_tokens":7,"messages":[{"content":"hi","role":"user"}],"model":"up","n":2,"stop":["x"],"temperature":0.5,"user":"u1"}`
	if b, _ := json.Marshal(sent); string(b) != want {
		t.Errorf("sent %s\nwant %s", b, want)
	}
	first := got.Choices[0]
	if string(first.Message) != `{"content":"yes","refusal":null,"role":"assistant"}` || first.FinishReason != "length" {
		t.Errorf("first choice: %s %s", first.Message, first.FinishReason)
	}
	if got.Choices[1].FinishReason != "stop" || got.Usage.TotalTokens != 5 || string(got.Usage.PromptTokensDetails) != `{"cached_tokens":1}` {
		t.Errorf("got %+v", got)
	}
}

// A tenant's own model by its artifact is never answered by its base instead.
func TestChatRefusesAnArtifact(t *testing.T) {
	t.Parallel()
	u := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("asked upstream") })
	req := chat()
	req.Tuned = &engine.Tuned{Key: "t/models/x/", Name: "ft:up:acme::1"}
	_, err := u.Chat(t.Context(), req)
	streamed := u.ChatStream(t.Context(), req, func(*engine.ChatChunk) error { return nil })
	for _, err := range []error{err, streamed} {
		if e, ok := errors.AsType[*engine.Error](err); !ok || e.Kind != engine.Unsupported || e.Param != "model" {
			t.Errorf("got %v", err)
		}
	}
}

func TestNoKeyNoAuthorization(t *testing.T) {
	t.Parallel()
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, ok := r.Header["Authorization"]; ok {
			t.Error("an Authorization header without a key")
		}
		says(200, `{"choices":[{"message":{"content":"a"}}]}`)(w, r)
	}, func(c *openai.Config) { c.Key = ""; c.BaseURL += "/" })
	if _, err := u.Chat(t.Context(), chat()); err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status  int
		body    string
		kind    engine.Kind
		message string // a part of what the client may read
		param   string
	}{
		"400 with a reason":    {400, `{"error":{"message":"too long, ` + key + `","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}`, engine.BadRequest, "too long, [key]", "messages"},
		"400 as text":          {400, `{"error":"model can't do tools"}`, engine.BadRequest, "model can't do tools", ""},
		"400 of old vLLM":      {400, `{"object":"error","message":"no"}`, engine.BadRequest, ": no", ""},
		"422 with a detail":    {422, `{"detail":"bad field"}`, engine.BadRequest, "bad field", ""},
		"422 with a list":      {422, `{"detail":[{"loc":["body"]}]}`, engine.BadRequest, "refused the request", ""},
		"413 of a proxy":       {413, `<html>`, engine.BadRequest, "refused the request", ""},
		"401 stays with us":    {401, `{"error":{"message":"Incorrect API key: ` + key + `"}}`, engine.Failed, "credentials", ""},
		"403":                  {403, ``, engine.Failed, "credentials", ""},
		"404":                  {404, `{"error":{"message":"secret-path"}}`, engine.Failed, "does not know", ""},
		"408":                  {408, ``, engine.Timeout, "in time", ""},
		"504":                  {504, ``, engine.Timeout, "in time", ""},
		"429":                  {429, ``, engine.Failed, "rate limit", ""},
		"500":                  {500, `oops`, engine.Failed, "failed", ""},
		"a redirect":           {307, ``, engine.Failed, "failed", ""},
		"an endless complaint": {400, `{"error":{"message":"` + strings.Repeat("é", 5000) + `"}}`, engine.BadRequest, "…", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				says(c.status, c.body)(w, r)
			}, func(c *openai.Config) { c.Tries = 1 })
			_, err := u.Chat(t.Context(), chat())
			e := wantFail(t, err, c.kind, c.status)
			if !strings.Contains(e.Message, c.message) || e.Param != c.param || len(e.Message) > 1100 {
				t.Errorf("message %q, param %q", e.Message, e.Param)
			}
			if c.kind == engine.BadRequest && c.message != "refused the request" && strings.Contains(e.Error(), c.message) {
				t.Errorf("%q is not for logs", e.Error())
			}
			if n := u.calls.Load(); n != 1 {
				t.Errorf("%d calls, want 1", n)
			}
		})
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"no JSON":         `<html>`,
		"empty":           ``,
		"no choices":      `{"choices":[]}`,
		"no message":      `{"choices":[{"index":0}]}`,
		"an error inside": `{"error":{"message":"x","code":"overloaded"}}`,
		"a wild choice":   `{"choices":[{"index":1000000,"message":{"content":"a"}}]}`,
		"our key":         `{"error":{"message":"x","type":"invalid_request_error","code":"invalid_api_key"}}`,
		"too large":       `{"choices":[{"message":{"content":"` + strings.Repeat("a", 33<<20) + `"}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, says(200, body))
			_, err := u.Chat(t.Context(), chat())
			wantFail(t, err, engine.Failed, 0)
		})
	}
}

// Some servers answer 200 and say inside what the client did wrong.
func TestRefusalsInside(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"by a number": `{"error":{"message":"too long","code":400}}`,
		"by its type": `{"error":{"message":"too long","type":"BadRequestError","param":null}}`,
		"by a code":   `{"error":{"message":"too long","type":"invalid_request_error","code":"context_length_exceeded"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := serve(t, says(200, body)).Chat(t.Context(), chat())
			whole := wantFail(t, err, engine.BadRequest, 0)
			streamed := wantFail(t, listen(t.Context(), serve(t, streams(lines(body))).Engine).err, engine.BadRequest, 0)
			for _, e := range []*engine.Error{whole, streamed} {
				if !strings.HasSuffix(e.Message, ": too long") || strings.Contains(e.Error(), "too long") {
					t.Errorf("message %q, logged as %q", e.Message, e.Error())
				}
			}
		})
	}
}

func TestAbsurdUsageIsBounded(t *testing.T) {
	t.Parallel()
	u := serve(t, says(200, `{"choices":[{"message":{"content":"a"}}],"usage":{"prompt_tokens":9223372036854775807,"completion_tokens":9223372036854775807}}`))
	got, err := u.Chat(t.Context(), chat())
	if err != nil || got.Usage.TotalTokens != 1<<32 {
		t.Errorf("%v, usage %+v", err, got)
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	u := serve(t, nil, func(c *openai.Config) { c.BaseURL = "http://127.0.0.1:1/v1" })
	_, err := u.Chat(t.Context(), chat())
	wantFail(t, err, engine.Failed, 0)
}

func TestChatTimeoutAndCancel(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{}, 2)
	slow := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		gone <- struct{}{}
	}
	u := serve(t, slow, func(c *openai.Config) { c.Timeout = 50 * time.Millisecond })
	within(t, time.Second, func() {
		_, err := u.Chat(t.Context(), chat())
		wantFail(t, err, engine.Timeout, 0)
		<-gone
	})
	u = serve(t, slow)
	within(t, time.Second, func() {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		_, err := u.Chat(ctx, chat())
		wantFail(t, err, engine.Failed, 0)
		<-gone
	})
}

func TestConfigNamesAllMistakes(t *testing.T) {
	t.Parallel()
	_, err := openai.New(openai.Config{BaseURL: "ftp://u:p@host/v1", Key: "a\nb", Timeout: -1, Tries: -1})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{"BaseURL", "Key", "Timeout", "Tries"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v doesn't name %s", err, part)
		}
	}
	for _, bad := range []string{"", "http://", "http://u:p@h/v1", "http://h/v1?key=1", "://"} {
		if _, err := openai.New(openai.Config{BaseURL: bad}); err == nil || strings.Contains(err.Error(), "u:p") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
