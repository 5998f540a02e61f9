package rest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"freehold/cmd/freehold/rest"
)

// The server's own keepers of pools and of the date live as long as the process.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

// logs is a writer that many goroutines may use.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type nobody struct{}

func open(ctx context.Context, _ *rest.Request, _ string, run func(nobody) (*rest.Reply, error)) (*rest.Reply, error) {
	return run(nobody{})
}

type bundle struct {
	t    *testing.T
	door *rest.Door
	addr string
	logs *logs
	http *http.Client
}

// setup serves routes on a loopback port until the test ends.
func setup(t *testing.T, routes ...rest.Route[nobody]) *bundle {
	t.Helper()
	return setupIdle(t, 0, routes...)
}

// setupIdle is setup of a door that lets an upload's client be silent for so long.
func setupIdle(t *testing.T, idle time.Duration, routes ...rest.Route[nobody]) *bundle {
	t.Helper()
	l := &logs{}
	d, err := rest.New(rest.Config{
		Title: "test", Version: "v0", MaxBody: 1 << 20, BodyIdle: idle,
		Logger: slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	rest.Mount(d, open, routes)
	return serve(t, d, l)
}

func serve(t *testing.T, d *rest.Door, l *logs) *bundle {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- d.Serve(ln) }()
	b := &bundle{t, d, ln.Addr().String(), l, &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(func() {
		b.http.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := d.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return b
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (b *bundle) do(method, path, body string, header ...string) answer {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, "http://"+b.addr+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := b.http.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(got)}
}

// refused checks that an answer is an error of the table.
func refused(t *testing.T, a answer, status int, code, param string) {
	t.Helper()
	var body struct {
		Error map[string]any `json:"error"`
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil {
		t.Fatalf("status %d, body %q: %v", a.status, a.body, err)
	}
	var wantParam any
	if param != "" {
		wantParam = param
	}
	if a.status != status || body.Error["code"] != code || body.Error["param"] != wantParam {
		t.Errorf("got %d %v, want %d %s %q", a.status, body.Error, status, code, param)
	}
	for _, k := range []string{"message", "type"} {
		if s, _ := body.Error[k].(string); s == "" {
			t.Errorf("error without %s: %v", k, body.Error)
		}
	}
	if len(body.Error) != 4 {
		t.Errorf("error has members %v, want four", body.Error)
	}
	if got := a.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	if a.header.Get("X-Request-Id") == "" {
		t.Error("no x-request-id")
	}
}

type thing struct {
	Name  string     `json:"name"`
	Size  int        `json:"size,omitempty"`
	Color *string    `json:"color"`
	Until *time.Time `json:"until,omitempty"`
}

func echo(_ context.Context, _ nobody, _ *rest.Request, in thing) (thing, error) { return in, nil }

func get(path string, fn func(ctx context.Context, r *rest.Request) (any, error)) rest.Route[nobody] {
	return rest.Route[nobody]{
		Method: http.MethodGet, Path: path, Summary: "test",
		Endpoint: rest.Give(func(ctx context.Context, _ nobody, r *rest.Request) (any, error) { return fn(ctx, r) }),
	}
}

func post(path string) rest.Route[nobody] {
	return rest.Route[nobody]{Method: http.MethodPost, Path: path, Summary: "test", Endpoint: rest.Take(http.StatusCreated, echo)}
}

// raw sends bytes as they are and returns all that comes until the server has
// nothing more to say.
func (b *bundle) raw(text string) string {
	b.t.Helper()
	nc, err := net.Dial("tcp", b.addr)
	if err != nil {
		b.t.Error(err)
		return ""
	}
	defer nc.Close()
	if _, err := io.WriteString(nc, text); err != nil {
		b.t.Error(err)
	}
	_ = nc.SetReadDeadline(time.Now().Add(time.Second))
	got, _ := io.ReadAll(nc)
	return string(got)
}

// lines reads a stream's lines until it ends.
func lines(t *testing.T, body io.Reader) []string {
	t.Helper()
	var got []string
	for s := bufio.NewScanner(body); s.Scan(); {
		got = append(got, s.Text())
	}
	return got
}
