//go:build e2e

package sdk_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// attempt is a request as the door saw it.
type attempt struct {
	Path   string    `json:"path"`
	At     time.Time `json:"at"`
	Status int       `json:"status"` // 0: not answered yet
	Retry  string    `json:"retry"`  // the SDK's count
}

// door stands before Freehold, lets everything through as it is, and counts. What
// the tests of another process need to know or to have done, they ask below /test/.
type door struct {
	url string // with /v1, as an SDK wants it

	mu       sync.Mutex
	attempts []attempt // guarded by mu
}

func startDoor(t *testing.T, g *ground, freehold string) *door {
	t.Helper()
	to, err := url.Parse(freehold)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	d := &door{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
		// Each event at once, and what the client breaks off is broken off behind.
		FlushInterval: -1, Transport: transport,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/", func(w http.ResponseWriter, r *http.Request) {
		i := d.begin(r)
		proxy.ServeHTTP(&status{ResponseWriter: w, tell: func(code int) { d.answered(i, code) }}, r)
	})
	mux.HandleFunc("POST /test/{act}", g.control)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	d.url = s.URL + "/v1"
	return d
}

// status tells the status that goes by.
type status struct {
	http.ResponseWriter
	tell func(int)
}

func (s *status) WriteHeader(code int) {
	s.tell(code)
	s.ResponseWriter.WriteHeader(code)
}

func (s *status) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (d *door) begin(r *http.Request) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.attempts = append(d.attempts, attempt{Path: r.URL.EscapedPath(), At: time.Now(), Retry: r.Header.Get("X-Stainless-Retry-Count")})
	return len(d.attempts) - 1
}

func (d *door) answered(i, code int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i < len(d.attempts) {
		d.attempts[i].Status = code
	}
}

// counted returns the attempts since the last reset.
func (d *door) counted() []attempt {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.attempts)
}

func (d *door) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.attempts = nil
}

// refusedFirst waits until an attempt since the reset was answered with the status.
func (d *door) refusedFirst(code int) bool {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if slices.ContainsFunc(d.counted(), func(a attempt) bool { return a.Status == code }) {
			return true
		}
	}
	return false
}

// control does what Node's tests can't do themselves.
func (g *ground) control(w http.ResponseWriter, r *http.Request) {
	var out any
	switch act := r.PathValue("act"); act {
	case "reset":
		g.door.reset()
	case "attempts":
		out = g.door.counted()
	case "upstream":
		body, calls := g.upstream.seen()
		out = map[string]any{"body": body, "calls": calls}
	case "left":
		select {
		case at := <-g.upstream.left:
			out = map[string]int64{"at": at.UnixMilli()}
		case <-time.After(5 * time.Second):
			http.Error(w, "nobody left", http.StatusGatewayTimeout)
			return
		}
	case "config":
		if name, _, ok := strings.Cut(r.URL.Query().Get("set"), "="); !ok || name == "" {
			http.Error(w, "set what?", http.StatusBadRequest)
			return
		}
		g.sh(`freehold config set "$SLUG" "$SET"`, "SET="+r.URL.Query().Get("set"))
	case "mend-after-503":
		g.fence("+ 1000000")
		g.workers.Go(func() {
			g.door.refusedFirst(http.StatusServiceUnavailable)
			g.fence("- 1000000")
		})
	default:
		http.Error(w, fmt.Sprintf("no act %q", act), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
}
