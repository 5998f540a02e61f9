package rest_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"freehold/cmd/freehold/rest"
	"freehold/inference/engine"
)

type sendFunc = func(any) error

func stream(path string, fn func(ctx context.Context, send sendFunc) error) rest.Route[nobody] {
	return rest.Route[nobody]{
		Method: http.MethodPost, Path: path, Summary: "test",
		Endpoint: rest.Raw[thing, thing](func(context.Context, nobody, *rest.Request) (*rest.Reply, error) {
			return rest.Stream(fn), nil
		}).Streaming(),
	}
}

// begin posts and returns the response with its body unread.
func (b *bundle) begin(ctx context.Context, path string) *http.Response {
	b.t.Helper()
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+b.addr+path, strings.NewReader("{}"))
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := b.http.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func TestStream(t *testing.T) {
	t.Parallel()
	b := setup(t,
		stream("/two", func(_ context.Context, send sendFunc) error {
			return errors.Join(send(map[string]int{"n": 1}), send(map[string]int{"n": 2}))
		}),
		stream("/none", func(context.Context, sendFunc) error { return nil }),
		stream("/refused", func(context.Context, sendFunc) error { return &engine.Error{Message: "x"} }),
		stream("/breaks", func(_ context.Context, send sendFunc) error {
			_ = send(1)
			return &engine.Error{Kind: engine.Timeout, Message: "x"}
		}),
		stream("/panics", func(_ context.Context, send sendFunc) error {
			_ = send(1)
			panic("prompt")
		}),
		stream("/panics-first", func(context.Context, sendFunc) error { panic("prompt") }),
		stream("/unencodable", func(_ context.Context, send sendFunc) error { return send(make(chan int)) }),
	)
	resp := b.begin(t.Context(), "/two")
	got := lines(t, resp.Body)
	if want := []string{`data: {"n":1}`, "", `data: {"n":2}`, "", "data: [DONE]", ""}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if ct, cc := resp.Header.Get("Content-Type"), resp.Header.Get("Cache-Control"); ct != "text/event-stream; charset=utf-8" || cc != "no-cache" {
		t.Errorf("content type %q, cache %q", ct, cc)
	}
	if resp.Header.Get("X-Request-Id") == "" {
		t.Error("no x-request-id")
	}
	if got := lines(t, b.begin(t.Context(), "/none").Body); !slices.Equal(got, []string{"data: [DONE]", ""}) {
		t.Errorf("none: %q", got)
	}
	refused(t, b.do("POST", "/refused", "{}"), 502, "engine_error", "")
	refused(t, b.do("POST", "/panics-first", "{}"), 500, "internal_error", "")
	refused(t, b.do("POST", "/unencodable", "{}"), 500, "internal_error", "")
	for path, code := range map[string]string{"/breaks": `"code":"engine_timeout"`, "/panics": `"code":"internal_error"`} {
		got := lines(t, b.begin(t.Context(), path).Body)
		if len(got) != 4 || got[0] != "data: 1" || !strings.HasPrefix(got[2], `data: {"error":{`) || !strings.Contains(got[2], code) {
			t.Errorf("%s: %q", path, got)
		}
	}
	if a := b.do("GET", "/healthz", ""); a.status != 200 {
		t.Errorf("after panics: %d", a.status)
	}
}

// A stream that says nothing for long is pinged, and its status goes out.
func TestSilentStreamIsPinged(t *testing.T) {
	t.Parallel()
	quiet := make(chan struct{})
	b := setup(t, stream("/silent", func(_ context.Context, send sendFunc) error {
		<-quiet
		return send("late")
	}))
	started := time.Now()
	resp := b.begin(t.Context(), "/silent")
	r := bufio.NewReader(resp.Body)
	first, err := r.ReadString('\n')
	if took := time.Since(started); err != nil || first != ": ping\n" || took > 4*time.Second {
		t.Errorf("got %q, %v after %v", first, err, took)
	}
	close(quiet)
	rest, _ := io.ReadAll(r)
	if !strings.HasSuffix(string(rest), "data: \"late\"\n\ndata: [DONE]\n\n") {
		t.Errorf("rest: %q", rest)
	}
}

// gone starts a request on an own connection, closes it after a while, and returns
// how long the handler then went on.
func gone(t *testing.T, dial func() net.Conn, path string, ended <-chan time.Time) time.Duration {
	t.Helper()
	nc := dial()
	if _, err := io.WriteString(nc, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	left := time.Now()
	_ = nc.Close()
	select {
	case at := <-ended:
		return at.Sub(left)
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: the handler went on", path)
		return 0
	}
}

// hang waits for its context to end and says when.
func hang(ended chan<- time.Time) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		ended <- time.Now()
		return ctx.Err()
	}
}

// A client that leaves ends its handler within a second, plain or streamed,
// silent or talking, with TLS or without.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	ended := make(chan time.Time, 1)
	wait := hang(ended)
	routes := []rest.Route[nobody]{
		{Method: "POST", Path: "/plain", Summary: "test", Endpoint: rest.Raw[thing, thing](func(ctx context.Context, _ nobody, _ *rest.Request) (*rest.Reply, error) {
			return nil, wait(ctx)
		})},
		stream("/silent", func(ctx context.Context, _ sendFunc) error { return wait(ctx) }),
		stream("/said-one", func(ctx context.Context, send sendFunc) error {
			_ = send(1)
			return wait(ctx)
		}),
		stream("/talks", func(ctx context.Context, send sendFunc) error {
			for send("word") == nil {
				time.Sleep(20 * time.Millisecond)
			}
			ended <- time.Now()
			return ctx.Err()
		}),
	}
	b := setup(t, routes...)
	plain := func() net.Conn {
		nc, err := net.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		return nc
	}
	secure, pool := setupTLS(t, routes...)
	encrypted := func() net.Conn {
		nc, err := tls.Dial("tcp", secure.addr, &tls.Config{RootCAs: pool, ServerName: "freehold.test"})
		if err != nil {
			t.Fatal(err)
		}
		return nc
	}
	for _, path := range []string{"/plain", "/silent", "/said-one", "/talks"} {
		for kind, dial := range map[string]func() net.Conn{"plain": plain, "tls": encrypted} {
			if took := gone(t, dial, path, ended); took > time.Second {
				t.Errorf("%s over %s: the handler went on for %v", path, kind, took)
			}
		}
	}
	if got := b.logs.String(); strings.Contains(got, "level=ERROR") || strings.Contains(got, "level=WARN") {
		t.Errorf("a client that leaves is nobody's fault: %s", got)
	}
}

// A request that takes long, and whose client stays, isn't cancelled.
func TestClientStays(t *testing.T) {
	t.Parallel()
	b := setup(t, get("/slow", func(ctx context.Context, _ *rest.Request) (any, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(700 * time.Millisecond):
			return "done", nil
		}
	}))
	if a := b.do("GET", "/slow", ""); a.status != 200 {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	entered, finish := make(chan struct{}), make(chan struct{})
	b := setup(t,
		get("/slow", func(context.Context, *rest.Request) (any, error) {
			close(entered)
			<-finish
			return "done", nil
		}),
		stream("/endless", func(ctx context.Context, send sendFunc) error {
			_ = send("first")
			<-ctx.Done()
			return context.Cause(ctx)
		}),
	)
	slow := make(chan answer, 1)
	go func() { slow <- b.do("GET", "/slow", "") }()
	resp := b.begin(t.Context(), "/endless")
	idle, err := net.Dial("tcp", b.addr) // never says a word
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	<-entered

	stopped := make(chan error, 1)
	started := time.Now()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		stopped <- b.door.Shutdown(ctx)
	}()
	got := lines(t, resp.Body)
	if n := len(got); n < 4 || !strings.Contains(got[n-2], `"code":"shutting_down"`) || got[n-1] != "" {
		t.Errorf("stream ended with %q", got)
	}
	if _, err := net.DialTimeout("tcp", b.addr, time.Second); err == nil {
		t.Error("a new connection was accepted")
	}
	close(finish)
	if a := <-slow; a.status != 200 {
		t.Errorf("the plain request got %d %s", a.status, a.body)
	}
	if err := <-stopped; err != nil || time.Since(started) > 3*time.Second {
		t.Errorf("shutdown: %v after %v", err, time.Since(started))
	}
}

// What outlasts a shutdown's time is cancelled.
func TestShutdownIsBounded(t *testing.T) {
	t.Parallel()
	entered, ended := make(chan struct{}), make(chan time.Time, 1)
	wait := hang(ended)
	l := &logs{}
	d, err := rest.New(rest.Config{Title: "test", Logger: slog.New(slog.NewTextHandler(l, nil))})
	if err != nil {
		t.Fatal(err)
	}
	rest.Mount(d, open, []rest.Route[nobody]{get("/stuck", func(ctx context.Context, _ *rest.Request) (any, error) {
		close(entered)
		return nil, wait(ctx)
	})})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- d.Serve(ln) }()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_, _ = io.WriteString(nc, "GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	started := time.Now()
	if err := d.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(started) > 2*time.Second {
		t.Errorf("shutdown: %v after %v", err, time.Since(started))
	}
	<-ended
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestShutdownBeforeServe(t *testing.T) {
	t.Parallel()
	d, err := rest.New(rest.Config{Title: "test", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Serve(ln); err != nil {
		t.Error(err)
	}
	if _, err := net.DialTimeout("tcp", ln.Addr().String(), time.Second); err == nil {
		t.Error("the listener is open")
	}
}

func setupTLS(t *testing.T, routes ...rest.Route[nobody]) (*bundle, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"freehold.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	l := &logs{}
	d, err := rest.New(rest.Config{Title: "test", Logger: slog.New(slog.NewTextHandler(l, nil)), MaxBody: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	rest.Mount(d, open, routes)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	served := make(chan error, 1)
	go func() { served <- d.Serve(tls.NewListener(ln, conf)) }()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "freehold.test"}}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := d.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return &bundle{t, d, ln.Addr().String(), l, client}, pool
}

// Over TLS too the answer to a body that is too large can be read.
func TestTooLargeOverTLS(t *testing.T) {
	t.Parallel()
	b, _ := setupTLS(t, post("/things"))
	req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+b.addr+"/things", strings.NewReader(strings.Repeat("x", 10<<20)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := b.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, answer{resp.StatusCode, resp.Header, string(body)}, 413, "request_too_large", "")
}
