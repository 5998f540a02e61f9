//go:build e2e

package upgrade_test

import (
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
	pace    = 40 * time.Millisecond // between two requests, whatever becomes of them
	askTime = 30 * time.Second
)

// load is what tenants ask of the nodes in a list, as a load balancer spreads it. A
// request is sent once.
type load struct {
	keys   []string
	client http.Client
	stop   context.CancelFunc
	asking sync.WaitGroup

	mu     sync.Mutex // guards what follows
	nodes  []*node
	turn   int
	open   map[*node]int // requests at work
	good   map[*node]int
	failed []string
}

// begin asks until end is called.
func begin(t *testing.T, keys []string, nodes ...*node) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{
		keys: keys, nodes: nodes, stop: stop, open: map[*node]int{}, good: map[*node]int{},
		client: http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}, Timeout: askTime},
	}
	l.asking.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				n := l.take()
				l.asking.Go(func() { l.note(n, l.ask(n, i)) })
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

// take is the node whose turn it is.
func (l *load) take() *node {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn++
	n := l.nodes[l.turn%len(l.nodes)]
	l.open[n]++
	return n
}

func (l *load) note(n *node, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[n]--
	if err != nil {
		l.failed = append(l.failed, fmt.Sprintf("%s %s: %v", time.Now().Format(time.TimeOnly), n.api, err))
		return
	}
	l.good[n]++
}

// add puts a node into the list, remove takes one out.
func (l *load) add(n *node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes = append(l.nodes, n)
}

func (l *load) remove(n *node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes = slices.DeleteFunc(slices.Clone(l.nodes), func(o *node) bool { return o == n })
}

func (l *load) goodOf(n *node) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.good[n]
}

func (l *load) openAt(n *node) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open[n]
}

// await waits until each of the nodes has answered so many requests more.
func (l *load) await(t *testing.T, more int, nodes ...*node) {
	t.Helper()
	deadline := time.Now().Add(askTime)
	for _, n := range nodes {
		from := l.goodOf(n)
		for l.goodOf(n) < from+more {
			if time.Now().After(deadline) {
				t.Fatalf("%s answered %d requests within %v, want %d; failed: %q", n.api, l.goodOf(n)-from, askTime, more, l.failures())
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func (l *load) failures() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.failed)
}

// replace puts a node of a release in place of another, as README's rolling restart
// does: the new one into the list, the old one out of it, and stopped once nobody who
// had picked it before that still waits.
func (l *load) replace(g *ground, old *node, release string) *node {
	g.Helper()
	fresh := g.serve(release)
	l.add(fresh)
	l.remove(old)
	for deadline := time.Now().Add(askTime); l.openAt(old) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			g.Fatalf("%s has %d requests at work after %v", old.api, l.openAt(old), askTime)
		}
	}
	if code := old.Stop(g); code != 0 {
		g.Errorf("after SIGTERM: exit status %d", code)
	}
	return fresh
}

// ask sends one request: each third is a stream.
func (l *load) ask(n *node, i int) error {
	stream := i%3 == 0
	body, err := json.Marshal(map[string]any{
		"model": chatModel, "max_tokens": 12, "stream": stream,
		"messages": []any{map[string]string{"role": "user", "content": "the number of this request is " + fmt.Sprint(i)}},
	})
	if err != nil {
		return err
	}
	// Not the test's context: a request that is at work when the load ends is answered.
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, n.api+"/v1/chat/completions", strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	req.GetBody = nil // so that the client never sends it twice
	req.Header.Set("Authorization", "Bearer "+l.keys[i%len(l.keys)])
	req.Header.Set("Content-Type", "application/json")
	res, err := l.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return fmt.Errorf("%d, then %w", res.StatusCode, err)
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("%d %s", res.StatusCode, text)
	case stream && !strings.HasSuffix(strings.TrimSpace(string(text)), "data: [DONE]"):
		return fmt.Errorf("the stream ends in %q", text[max(0, len(text)-100):])
	case !stream && !strings.Contains(string(text), "the number of this request"):
		return fmt.Errorf("another answer: %s", text)
	}
	return nil
}

// log asks a node for the first tenant's newest prediction.
func (g *ground) log(n *node) (status int, text string) {
	g.Helper()
	req, err := http.NewRequestWithContext(g.Context(), http.MethodGet, n.api+"/v1/predictions?limit=1", http.NoBody)
	g.ok(err)
	req.Header.Set("Authorization", "Bearer "+g.keys[0])
	res, err := http.DefaultClient.Do(req)
	g.ok(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	g.ok(err)
	return res.StatusCode, string(body)
}
