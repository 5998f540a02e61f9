package mockengine

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

// maxBody bounds a request.
const maxBody = 16 << 20

type chatRequest struct {
	Model    string `json:"model"`
	Messages []struct {
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	MaxTokens           *int `json:"max_tokens"`
	MaxCompletionTokens *int `json:"max_completion_tokens"`
	N                   int  `json:"n"`
	Stream              bool `json:"stream"`
	StreamOptions       struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

// plan is what a chat request will be answered.
type plan struct {
	prompt, answer, finish string
	n                      int
	usage                  Usage
}

// Answer is the text that a prompt is answered with, of at most so many words: its
// own words from the first on, again and again.
func Answer(prompt string, words int) string {
	of := strings.Fields(prompt)
	if len(of) == 0 {
		of = []string{"nothing"}
	}
	out := make([]string, words)
	for i := range out {
		out[i] = of[i%len(of)]
	}
	return strings.Join(out, " ")
}

func (e *Engine) plan(req chatRequest) plan {
	p := plan{n: max(1, req.N), finish: "stop"}
	in := 0
	for _, m := range req.Messages {
		p.prompt = text(m.Content)
		in += len(strings.Fields(p.prompt))
	}
	words := e.cfg.Words
	for _, bound := range []*int{req.MaxTokens, req.MaxCompletionTokens} {
		if bound != nil && *bound < words {
			words, p.finish = max(0, *bound), "length"
		}
	}
	p.answer = Answer(p.prompt, words)
	p.usage = tokens(in, words*p.n)
	return p
}

func tokens(in, out int) Usage { return Usage{int64(in), int64(out), int64(in + out)} }

// text is a content's, a string or its parts.
func text(content json.RawMessage) string {
	var s string
	if json.Unmarshal(content, &s) == nil {
		return s
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if json.Unmarshal(content, &parts) != nil {
		return ""
	}
	var texts []string
	for _, p := range parts {
		texts = append(texts, p.Text)
	}
	return strings.Join(texts, "\n")
}

// read decodes a request; what can't be read is refused.
func read(w http.ResponseWriter, r *http.Request, into any) ([]byte, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":{"message":"malformed request","type":"invalid_request_error","param":null,"code":null}}`)
		return nil, false
	}
	return body, true
}

// wait takes the time of a piece of work; false: the caller has hung up meanwhile.
func (e *Engine) wait(r *http.Request, d time.Duration) bool {
	if e.cfg.Stubborn {
		time.Sleep(d)
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

func (e *Engine) chat(w http.ResponseWriter, r *http.Request) {
	var req chatRequest
	body, ok := read(w, r, &req)
	if !ok {
		return
	}
	p := e.plan(req)
	at := e.begin(Call{Path: r.URL.Path, Header: r.Header.Clone(), Body: body, Prompt: p.prompt})
	if !e.wait(r, e.cfg.Delay) {
		e.rest()
		return
	}
	if req.Stream {
		e.stream(w, r, req, p, at)
		return
	}
	choices := make([]any, p.n)
	for i := range choices {
		choices[i] = map[string]any{
			"index": i, "finish_reason": p.finish, "logprobs": nil,
			"message": map[string]any{"role": "assistant", "content": p.answer, "refusal": nil},
		}
	}
	e.rest()
	if send(w, map[string]any{
		"id": "chatcmpl-mock", "object": "chat.completion", "created": time.Now().Unix(), "model": req.Model,
		"choices": choices, "usage": p.usage,
	}) {
		e.written(at, p.usage)
	}
}

// send writes a whole answer; whether it arrives is for its reader to say.
func send(w http.ResponseWriter, answer any) bool {
	text, err := json.Marshal(answer)
	if err != nil {
		return false
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(text)
	return err == nil
}

// stream sends an answer in chunks that cut words.
func (e *Engine) stream(w http.ResponseWriter, r *http.Request, req chatRequest, p plan, at int) {
	w.Header().Set("Content-Type", "text/event-stream")
	event := func(choices []any, usage *Usage) bool {
		text, err := json.Marshal(map[string]any{
			"id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1, "model": req.Model,
			"choices": choices, "usage": usage,
		})
		if err == nil {
			_, err = fmt.Fprintf(w, "data: %s\n\n", text)
		}
		if err == nil {
			err = http.NewResponseController(w).Flush()
		}
		return err == nil || e.cfg.Stubborn
	}
	delta := func(i int, content string, finish any) []any {
		return []any{map[string]any{"index": i, "delta": map[string]any{"content": content}, "finish_reason": finish}}
	}
	for i := range p.n {
		for _, piece := range cut(p.answer, e.cfg.ChunkBytes) {
			if !event(delta(i, piece, nil), nil) || !e.wait(r, e.cfg.Gap) {
				e.rest()
				return
			}
		}
		if !event(delta(i, "", p.finish), nil) {
			e.rest()
			return
		}
	}
	e.rest()
	if req.StreamOptions.IncludeUsage && !event([]any{}, &p.usage) {
		return
	}
	if _, err := io.WriteString(w, "data: [DONE]\n\n"); err == nil {
		e.written(at, p.usage)
	}
}

// cut divides text into pieces of n bytes, or one or two more: no character is cut.
func cut(text string, n int) (pieces []string) {
	for len(text) > n {
		at := n
		for at < len(text) && !utf8.RuneStart(text[at]) {
			at++
		}
		pieces, text = append(pieces, text[:at]), text[at:]
	}
	return append(pieces, text)
}

type embedRequest struct {
	Model    string          `json:"model"`
	Input    json.RawMessage `json:"input"`
	Encoding string          `json:"encoding_format"`
}

// embed gives each text a vector of its length and its number of words.
func (e *Engine) embed(w http.ResponseWriter, r *http.Request) {
	var req embedRequest
	body, ok := read(w, r, &req)
	if !ok {
		return
	}
	var inputs []string
	if json.Unmarshal(req.Input, &inputs) != nil {
		inputs = []string{text(req.Input)}
	}
	at := e.begin(Call{Path: r.URL.Path, Header: r.Header.Clone(), Body: body, Prompt: strings.Join(inputs, "\n")})
	whole := e.wait(r, e.cfg.Delay)
	e.rest()
	if !whole {
		return
	}
	in, data := 0, make([]any, len(inputs))
	for i, s := range inputs {
		words := len(strings.Fields(s))
		in += words
		vector := []float32{float32(len(s)), float32(words)}
		var shown any = vector
		if req.Encoding == "base64" {
			shown = packed(vector)
		}
		data[i] = map[string]any{"object": "embedding", "index": i, "embedding": shown}
	}
	u := tokens(in, 0)
	if send(w, map[string]any{
		"object": "list", "model": req.Model, "data": data,
		"usage": map[string]int64{"prompt_tokens": u.PromptTokens, "total_tokens": u.TotalTokens},
	}) {
		e.written(at, u)
	}
}

// packed is a vector as OpenAI's API encodes it: base64 of float32s, little endian.
func packed(vector []float32) string {
	var b []byte
	for _, v := range vector {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return base64.StdEncoding.EncodeToString(b)
}
