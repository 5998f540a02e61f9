package move_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// words bounds an answer.
	words = 12
	// askTime is a request's deadline: longer than the longest pause, and what a busy
	// machine adds to it.
	askTime = pauseWait + 20*time.Second
)

// load sends a tenant's requests to nodes by turns, at a steady rate whatever the
// answers, and remembers each.
type load struct {
	client http.Client
	token  string
	nodes  []*node
	stop   context.CancelFunc
	asking sync.WaitGroup

	mu       sync.Mutex      // guards what follows
	answered map[string]bool // by what an answer is called
	streamed int
	again    int // answers that were told a second time
	failed   []string
	slowest  time.Duration
}

// begin has a tenant ask so often, until end.
func begin(t testing.TB, token string, every time.Duration, nodes ...*node) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{
		client: http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200}}, token: token, nodes: nodes,
		stop: stop, answered: map[string]bool{},
	}
	l.asking.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				l.asking.Go(func() { l.one(i) })
			}
		}
	})
	t.Cleanup(l.end)
	return l
}

// end waits for the last answer.
func (l *load) end() {
	l.stop()
	l.asking.Wait()
	l.client.CloseIdleConnections()
}

// one asks once, in one of four ways: plainly; as a stream; with an Idempotency-Key;
// with one, and once more at another node when it has been answered.
func (l *load) one(i int) {
	way, key := i%4, ""
	if way >= 2 {
		key = fmt.Sprintf("request-%d", i)
	}
	began := time.Now()
	id, err := l.ask(l.nodes[i%len(l.nodes)], i, way == 1, key)
	took := time.Since(began)
	if err == nil && way == 3 {
		var same string
		if same, err = l.ask(l.nodes[(i+1)%len(l.nodes)], i, false, key); err == nil && same != id {
			err = fmt.Errorf("answered twice: %s and %s", id, same)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed = append(l.failed, fmt.Sprintf("%s, request %d after %s: %v", began.Format(time.TimeOnly), i, took, err))
		return
	}
	if l.answered[id] {
		l.failed = append(l.failed, fmt.Sprintf("request %d: %s is another one's answer", i, id))
	}
	l.answered[id] = true
	l.slowest = max(l.slowest, took)
	switch way {
	case 1:
		l.streamed++
	case 3:
		l.again++
	}
}

// told is an answer, or a chunk of one.
type told struct {
	ID    string `json:"id"`
	Error *struct{ Code string }
}

// ask sends a request, and returns what the answer is called.
func (l *load) ask(n *node, i int, stream bool, key string) (id string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	status, header, text, err := post(ctx, &l.client, n, l.token, fmt.Sprintf("Sing verse %d for the guests", i), stream, key)
	switch {
	case err != nil:
		return "", err
	case status != http.StatusOK:
		return "", fmt.Errorf("%d %s (Retry-After %q)", status, text, header.Get("Retry-After"))
	}
	return name(text, stream)
}

// name is what an answer is called; the error says that it isn't a whole one.
func name(text string, stream bool) (string, error) {
	if stream && !strings.HasSuffix(strings.TrimSpace(text), "data: [DONE]") {
		return "", fmt.Errorf("the stream ends in %q", text[max(0, len(text)-100):])
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(text, "data: "), "\n")
	var t told
	if err := json.Unmarshal([]byte(first), &t); err != nil || t.ID == "" || t.Error != nil {
		return "", fmt.Errorf("not an answer: %s (%w)", first, err)
	}
	return strings.TrimPrefix(t.ID, "chatcmpl-"), nil
}

// post sends a prompt to a node, and reads all of what it answers.
func post(ctx context.Context, client *http.Client, n *node, token, prompt string, stream bool, key string) (
	status int, header http.Header, text string, err error,
) {
	body, err := json.Marshal(map[string]any{
		"model": chatModel, "max_tokens": words, "stream": stream,
		"messages": []any{map[string]string{"role": "user", "content": prompt}},
	})
	if err != nil {
		return 0, nil, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.api+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return 0, nil, "", err
	}
	req.GetBody = nil // so that the client never sends it twice
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, string(all), err
}

// count is how many requests were answered; names are what the answers are called.
func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.answered)
}

// await waits until so many more requests have been answered.
func (l *load) await(g *ground, more int) {
	g.Helper()
	from := l.count()
	g.until(fmt.Sprintf("%d requests are answered", more), askTime, func() bool { return l.count() >= from+more })
}

// unfelt fails unless each request was answered, and the slowest within a bound.
func (l *load) unfelt(g *ground, who string, bound time.Duration) {
	g.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, f := range l.failed {
		if i == 10 {
			g.Errorf("%s: and %d more", who, len(l.failed)-i)
			break
		}
		g.Errorf("%s: %s", who, f)
	}
	if l.slowest > bound {
		g.Errorf("%s: the slowest of %d requests took %s, want %s at most", who, len(l.answered), l.slowest, bound)
	}
	if len(l.failed) == 0 && (l.streamed == 0 || l.again == 0 || len(l.answered) < l.streamed+2*l.again) {
		g.Errorf("%s: not every way was gone: %d answered, %d streamed, %d twice", who, len(l.answered), l.streamed, l.again)
	}
	g.Logf("%s: %d answered, %d of them streamed, %d told twice; the slowest took %s",
		who, len(l.answered), l.streamed, l.again, l.slowest.Round(time.Millisecond))
}

// names are what the answers are called, sorted.
func (l *load) names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]string, 0, len(l.answered))
	for id := range l.answered {
		list = append(list, id)
	}
	slices.Sort(list)
	return list
}
