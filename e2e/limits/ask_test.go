package limits_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// prompt is what a client asks.
type prompt struct {
	text   string
	most   int    // tokens of its answer
	stream bool   // with usage
	key    string // Idempotency-Key
}

// answer is what it got; status 0 is a connection that broke, or a stream that did.
type answer struct {
	status int
	id     string // the answer's own
	code   string // of an error
	header http.Header
	text   string
	used   int64
	why    error
}

// asker posts prompts with one key.
type asker struct {
	http.Client
	token string
}

func newAsker(token string) *asker {
	return &asker{http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}, token}
}

// askTime is the longest that a request may take: longer than a node that waits
// for a database.
const askTime = 20 * time.Second

func (a *asker) ask(ctx context.Context, node string, p prompt) answer {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	body := map[string]any{
		"model": chatModel, "max_tokens": p.most, "stream": p.stream,
		"messages": []any{map[string]string{"role": "user", "content": p.text}},
	}
	if p.stream {
		body["stream_options"] = map[string]bool{"include_usage": true}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return answer{why: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, node+"/v1/chat/completions", bytes.NewReader(text))
	if err != nil {
		return answer{why: err}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+a.token)
	if p.key != "" {
		req.Header.Set("Idempotency-Key", p.key)
	}
	res, err := a.Do(req)
	if err != nil {
		return answer{why: err}
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{why: err}
	}
	out := answer{status: res.StatusCode, header: res.Header}
	if p.stream && res.StatusCode == http.StatusOK {
		err = out.streamed(string(all))
	} else {
		err = out.whole(all)
	}
	if err != nil {
		return answer{why: fmt.Errorf("%w in %q", err, all)}
	}
	return out
}

// told is a whole answer, or a chunk of one.
type told struct {
	ID      string `json:"id"`
	Choices []struct {
		Message, Delta struct{ Content string }
	} `json:"choices"`
	Usage *struct {
		Total int64 `json:"total_tokens"`
	} `json:"usage"`
	Error struct{ Code string } `json:"error"`
}

func (a *answer) add(text []byte) error {
	var t told
	if err := json.Unmarshal(text, &t); err != nil {
		return err
	}
	a.id, a.code = t.ID, t.Error.Code
	for _, c := range t.Choices {
		a.text += c.Message.Content + c.Delta.Content
	}
	if t.Usage != nil {
		a.used = t.Usage.Total
	}
	return nil
}

func (a *answer) whole(text []byte) error { return a.add(text) }

// streamed reads a stream, which has broken off when it doesn't end well.
func (a *answer) streamed(text string) error {
	ended := false
	for event := range strings.SplitSeq(text, "\n\n") {
		data, ok := strings.CutPrefix(event, "data: ")
		switch {
		case data == "[DONE]":
			ended = true
		case ok:
			if err := a.add([]byte(data)); err != nil {
				return err
			}
			if a.code != "" {
				return fmt.Errorf("the stream ended with %s", a.code)
			}
		}
	}
	if !ended {
		return io.ErrUnexpectedEOF
	}
	return nil
}
