package privacy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"testing"
)

// upstream is an engine that speaks OpenAI's wire and remembers each byte that it
// is sent. The first part of the path says how it behaves.
type upstream struct {
	*httptest.Server
	gate chan struct{} // closed when the answers of "gated" may come

	mu     sync.Mutex // guards what follows
	got    bytes.Buffer
	calls  int
	waits  int    // calls of "gated"
	madeUp string // what "inventive" says of its own
}

// behaviours are the ways to behave, each the name of an engine and of a model.
var behaviours = []string{
	"echo",      // says all texts of the request again
	"tools",     // puts them into a tool call's arguments
	"inventive", // says what nobody told it
	"gated",     // is echo, once it may
	"refuse",    // refuses, and quotes the request and its key
	"fail",      // fails with a status, and quotes them
	"inband",    // fails with a status of 200
	"late",      // says that it has no time
	"hang",      // never answers
	"cut",       // breaks off
	"garbage",   // answers what isn't HTTP
	"coded",     // puts them into error codes
	"moved",     // redirects
}

func startUpstream(t testing.TB) *upstream {
	u := &upstream{gate: make(chan struct{})}
	u.Server = httptest.NewServer(http.HandlerFunc(u.serve))
	t.Cleanup(u.Close)
	return u
}

// received is all that it was sent.
func (u *upstream) received() []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	return bytes.Clone(u.got.Bytes())
}

func (u *upstream) invent(text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.madeUp = text
}

func (u *upstream) waiting() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.waits
}

// asked is what an answer is made of.
type asked struct {
	http.ResponseWriter
	stream bool
	n      int
	pieces int      // bytes of text in a chunk, of long texts more
	texts  []string // of the request
	json   bool     // the answer is to be JSON
}

// all is an answer that has all texts of the request.
func (a asked) all() map[string]any {
	if a.json {
		return map[string]any{"content": a.document()}
	}
	return map[string]any{"content": strings.Join(a.texts, "\n")}
}

// document has the texts as a document, and as a document in a string.
func (a asked) document() string {
	inner, _ := json.Marshal(a.texts)
	text, _ := json.Marshal(map[string]any{"list": a.texts, "nested": string(inner)})
	return string(text)
}

func (u *upstream) serve(w http.ResponseWriter, r *http.Request) {
	raw, _ := httputil.DumpRequest(r, true)
	body, _ := io.ReadAll(r.Body)
	u.mu.Lock()
	u.got.Write(raw)
	u.calls++
	a := asked{ResponseWriter: w, pieces: 1 + u.calls%7}
	madeUp := u.madeUp
	u.mu.Unlock()
	var req struct {
		Stream bool
		N      int
		Input  []string
		Format struct{ Type string } `json:"response_format"`
	}
	_ = json.Unmarshal(body, &req)
	var doc any
	_ = json.Unmarshal(body, &doc)
	a.stream, a.n, a.texts, a.json = req.Stream, max(1, req.N), textsOf(doc), req.Format.Type == "json_schema"
	behaviour, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if strings.HasSuffix(path, "embeddings") && behaviour == "echo" {
		a.embed(len(req.Input))
		return
	}
	quote := r.Header.Get("Authorization") + " sent " + string(body)
	switch behaviour {
	case "tools":
		a.answer(map[string]any{"content": nil, "tool_calls": a.toolCalls()}, "tool_calls")
	case "inventive":
		a.answer(map[string]any{"content": madeUp}, "stop")
	case "gated":
		u.mu.Lock()
		u.waits++
		u.mu.Unlock()
		select {
		case <-u.gate:
		case <-r.Context().Done():
		}
		a.answer(a.all(), "stop")
	case "refuse":
		a.fail(http.StatusBadRequest, map[string]any{"message": quote, "param": bare(quote), "code": nil, "type": "invalid_request_error"})
	case "fail":
		a.fail(http.StatusInternalServerError, map[string]any{"message": quote, "code": "server_error", "type": quote})
	case "inband":
		a.fail(http.StatusOK, map[string]any{"message": quote, "code": 500, "type": "server_error"})
	case "late":
		a.fail(http.StatusGatewayTimeout, map[string]any{"message": quote})
	case "coded":
		a.fail(http.StatusForbidden, map[string]any{"message": "no", "code": bare(r.Header.Get("Authorization")), "type": bare(lastWord(a.texts))})
	case "hang":
		<-r.Context().Done()
	case "cut":
		a.chunk(a.all(), nil)
		panic(http.ErrAbortHandler)
	case "garbage":
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = fmt.Fprintf(conn, "%s\r\n\r\n", strings.ReplaceAll(quote, "\n", " "))
			_ = conn.Close()
		}
	case "moved":
		w.Header().Set("Location", "http://%zz/"+bare(quote))
		w.WriteHeader(http.StatusFound)
	default:
		a.answer(a.all(), "stop")
	}
}

// textsOf are all texts of a document, names of members too.
func textsOf(doc any) (out []string) {
	switch v := doc.(type) {
	case string:
		return []string{v}
	case []any:
		for _, one := range v {
			out = append(out, textsOf(one)...)
		}
	case map[string]any:
		for name, one := range v {
			out = append(append(out, name), textsOf(one)...)
		}
	}
	return out
}

// bare is the end of a text as a word that may be a parameter's name or a code.
func bare(text string) string {
	word := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_.-", r) {
			return r
		}
		return -1
	}, strings.TrimPrefix(text, "Bearer "))
	return word[:min(len(word), 64)]
}

// lastWord is the last word of the longest text.
func lastWord(texts []string) string {
	longest := ""
	for _, t := range texts {
		if len(t) > len(longest) {
			longest = t
		}
	}
	words := strings.Fields(longest)
	if len(words) == 0 {
		return ""
	}
	return words[len(words)-1]
}

// toolCalls are a function's call, whose arguments are the document, and a custom
// tool's.
func (a asked) toolCalls() []map[string]any {
	return []map[string]any{
		{"index": 0, "id": "call_1", "type": "function", "function": map[string]any{"name": "again", "arguments": a.document()}},
		{"index": 1, "id": "call_2", "type": "custom", "custom": map[string]any{"name": "say", "input": strings.Join(a.texts, "\n")}},
	}
}

func (a asked) fail(status int, e map[string]any) {
	a.Header().Set("Content-Type", "application/json")
	a.WriteHeader(status)
	_ = json.NewEncoder(a).Encode(map[string]any{"error": e})
}

var usage = map[string]int{"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}

func (a asked) embed(inputs int) {
	data := make([]any, inputs)
	for i := range data {
		data[i] = map[string]any{"object": "embedding", "index": i, "embedding": []float32{1, 2}}
	}
	_ = json.NewEncoder(a).Encode(map[string]any{"object": "list", "data": data, "usage": usage})
}

func (a asked) answer(message map[string]any, finish string) {
	if a.stream {
		a.streamed(message, finish)
		return
	}
	message["role"] = "assistant"
	choices := make([]any, a.n)
	for i := range choices {
		choices[i] = map[string]any{"index": i, "message": message, "finish_reason": finish}
	}
	a.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(a).Encode(map[string]any{"object": "chat.completion", "choices": choices, "usage": usage})
}

// cut divides a text into pieces, at most a thousand.
func (a asked) cut(text string) (pieces []string) {
	n := max(a.pieces, len(text)/1000+1)
	for ; len(text) > n; text = text[n:] {
		pieces = append(pieces, text[:n])
	}
	return append(pieces, text)
}

// streamed sends the message in pieces, the choices in turn.
func (a asked) streamed(message map[string]any, finish string) {
	if text, ok := message["content"].(string); ok {
		for _, piece := range a.cut(text) {
			a.chunk(map[string]any{"content": piece}, nil)
		}
	}
	calls, _ := message["tool_calls"].([]map[string]any)
	for _, call := range calls {
		for member, field := range map[string]string{"function": "arguments", "custom": "input"} {
			body, ok := call[member].(map[string]any)
			if !ok {
				continue
			}
			text, _ := body[field].(string)
			a.chunk(map[string]any{"tool_calls": []any{map[string]any{
				"index": call["index"], "id": call["id"], "type": call["type"], member: map[string]any{"name": body["name"], field: ""},
			}}}, nil)
			for _, piece := range a.cut(text) {
				a.chunk(map[string]any{"tool_calls": []any{map[string]any{
					"index": call["index"], member: map[string]any{field: piece},
				}}}, nil)
			}
		}
	}
	a.chunk(map[string]any{}, &finish)
	event, _ := json.Marshal(map[string]any{"choices": []any{}, "usage": usage})
	_, _ = fmt.Fprintf(a, "data: %s\n\ndata: [DONE]\n\n", event)
}

// chunk sends a delta for each choice.
func (a asked) chunk(delta map[string]any, finish *string) {
	a.Header().Set("Content-Type", "text/event-stream")
	for i := range a.n {
		event, _ := json.Marshal(map[string]any{"choices": []any{map[string]any{"index": i, "delta": delta, "finish_reason": finish}}})
		_, _ = fmt.Fprintf(a, "data: %s\n\n", event)
	}
	_ = http.NewResponseController(a).Flush()
}
