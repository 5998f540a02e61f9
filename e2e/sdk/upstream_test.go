//go:build e2e

package sdk_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// upstream is an OpenAI-compatible server of the tests:
//
//	/v1/…   answers: calls the first tool it is offered, tells what a tool said, else
//	        repeats the last message, once for each of n. "slow" goes on until its
//	        client leaves, "quiet" falls silent in between, "huge" is answered at length.
//	/down/… fails always.
//	/cut/…  breaks off in the middle of a stream.
type upstream struct {
	url  string
	left chan time.Time // one for each slow stream whose client left

	mu    sync.Mutex
	last  json.RawMessage // guarded by mu; the body of the last request to /v1
	calls int             // guarded by mu; to /v1
}

type upstreamRequest struct {
	Messages []struct {
		Role    string
		Content json.RawMessage
	}
	N      int
	Stream bool
	Tools  []struct {
		Function struct{ Name string }
	}
}

func startUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{left: make(chan time.Time, 16)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", u.chat)
	mux.HandleFunc("POST /down/v1/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"error":{"message":"secret words of an upstream","type":"server_error","param":null,"code":null}}`)
	})
	mux.HandleFunc("POST /cut/v1/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		event(w, choice(0, `{"role":"assistant","content":"so far"}`, "null"))
		panic(http.ErrAbortHandler)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	u.url = s.URL
	return u
}

// seen returns the last request's body and how many there were.
func (u *upstream) seen() (json.RawMessage, int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.last, u.calls
}

func (u *upstream) chat(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var req upstreamRequest
	if err != nil || json.Unmarshal(body, &req) != nil || len(req.Messages) == 0 {
		http.Error(w, "no chat", http.StatusBadRequest)
		return
	}
	u.mu.Lock()
	u.last, u.calls = body, u.calls+1
	u.mu.Unlock()
	last := req.Messages[len(req.Messages)-1]
	var text string
	_ = json.Unmarshal(last.Content, &text) // parts are no text
	switch {
	case text == "slow" && req.Stream:
		u.slow(w, r)
	case text == "quiet" && req.Stream:
		w.Header().Set("Content-Type", "text/event-stream")
		event(w, choice(0, `{"role":"assistant","content":"a"}`, "null"))
		time.Sleep(1300 * time.Millisecond) // a second of silence is a ping
		event(w, choice(0, `{"content":"b"}`, "null"))
		event(w, choice(0, `{}`, `"stop"`))
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	case len(req.Tools) > 0 && last.Role == "user":
		call := fmt.Sprintf(`"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":%q,"arguments":"{\"city\":\"Oslo\"}"}}]`, req.Tools[0].Function.Name)
		answer(w, req, `{"role":"assistant","content":null,`+call+`}`, "tool_calls")
	default:
		if last.Role == "tool" {
			text = "The tool says " + text
		}
		if text == "huge" {
			text = strings.Repeat("words ", 200_000)
		}
		content, _ := json.Marshal(text)
		answer(w, req, `{"role":"assistant","content":`+string(content)+`}`, "stop")
	}
}

// answer gives each of n choices the message: whole, or as a chunk.
func answer(w http.ResponseWriter, req upstreamRequest, message, reason string) {
	const head = `"id":"up-1","created":1,"model":"up"`
	const usage = `{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}`
	n := max(1, req.N)
	if !req.Stream {
		var choices []string
		for i := range n {
			choices = append(choices, fmt.Sprintf(`{"index":%d,"message":%s,"logprobs":null,"finish_reason":%q}`, i, message, reason))
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{%s,"object":"chat.completion","choices":[%s],"usage":%s}`, head, strings.Join(choices, ","), usage)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for i := range n {
		event(w, choice(i, message, "null"))
		event(w, choice(i, `{}`, `"`+reason+`"`))
	}
	event(w, `{`+head+`,"object":"chat.completion.chunk","choices":[],"usage":`+usage+`}`)
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

// slow says a word every 20 ms until its client leaves.
func (u *upstream) slow(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for bound := time.After(time.Minute); ; {
		event(w, choice(0, `{"role":"assistant","content":"word "}`, "null"))
		select {
		case <-r.Context().Done():
			u.left <- time.Now()
			return
		case <-bound:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func choice(index int, delta, reason string) string {
	return fmt.Sprintf(`{"id":"up-1","object":"chat.completion.chunk","created":1,"model":"up","choices":[{"index":%d,"delta":%s,"finish_reason":%s}]}`, index, delta, reason)
}

func event(w http.ResponseWriter, data string) {
	_, _ = fmt.Fprintf(w, "data: %s\n\n", data)
	_ = http.NewResponseController(w).Flush()
}
