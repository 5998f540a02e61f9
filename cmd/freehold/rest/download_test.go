package rest_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"freehold/cmd/freehold/rest"
)

// tape is content whose reader is watched.
type tape struct {
	io.Reader
	closed *atomic.Int32
}

func (t tape) Close() error {
	t.closed.Add(1)
	return nil
}

func download(path, name string, size int64, open func(ctx context.Context, from, to int64) (io.ReadCloser, error)) rest.Route[nobody] {
	return rest.Route[nobody]{
		Method: http.MethodGet, Path: path, Summary: "test",
		Endpoint: rest.Download(func(context.Context, nobody, *rest.Request) (rest.Content, error) {
			return rest.Content{Name: name, Size: size, Tag: "abc", Open: open}, nil
		}),
	}
}

// Content goes out whole, in the one range that was asked for, or not at all for
// HEAD; its reader is closed each time.
func TestDownload(t *testing.T) {
	t.Parallel()
	const text = "0123456789"
	var opened, closed atomic.Int32
	slice := func(_ context.Context, from, to int64) (io.ReadCloser, error) {
		opened.Add(1)
		return tape{strings.NewReader(text[from:to]), &closed}, nil
	}
	b := setup(t, download("/f", `a "quoted" <name>.jsonl`, 10, slice), download("/empty", "e", 0, slice),
		download("/away", "f", 10, func(context.Context, int64, int64) (io.ReadCloser, error) { return nil, rest.ErrShuttingDown }))
	for _, c := range []struct {
		header, value string
		status        int
		body, span    string
	}{
		{"", "", 200, text, ""},
		{"Range", "bytes=0-0", 206, "0", "bytes 0-0/10"},
		{"Range", "bytes=2-4", 206, "234", "bytes 2-4/10"},
		{"Range", "bytes=8-", 206, "89", "bytes 8-9/10"},
		{"Range", "bytes=8-99999999999999999999", 206, "89", "bytes 8-9/10"},
		{"Range", "bytes=-3", 206, "789", "bytes 7-9/10"},
		{"Range", "bytes=-30", 200, text, ""},
		{"Range", "bytes=0-", 200, text, ""},
		{"Range", "bytes=10-", 416, "", "bytes */10"},
		{"Range", "bytes=-0", 416, "", "bytes */10"},
		{"Range", "bytes=4-2", 200, text, ""},
		{"Range", "bytes=1-2,4-5", 200, text, ""},
		{"Range", "bytes=+1-2", 200, text, ""},
		{"Range", "bytes=", 200, text, ""},
		{"Range", "lines=1-2", 200, text, ""},
	} {
		args := []string{}
		if c.header != "" {
			args = append(args, c.header, c.value)
		}
		a := b.do("GET", "/f", "", args...)
		if a.status != c.status || a.header.Get("Content-Range") != c.span || c.status < 300 && a.body != c.body {
			t.Errorf("%s: got %d %q %s", c.value, a.status, a.body, a.header.Get("Content-Range"))
		}
	}
	for tag, status := range map[string]int{`"abc"`: 206, `"other"`: 200, "Mon, 23 Nov 2026 00:00:00 GMT": 200} {
		if a := b.do("GET", "/f", "", "Range", "bytes=1-2", "If-Range", tag); a.status != status {
			t.Errorf("If-Range %s: %d", tag, a.status)
		}
	}
	before := opened.Load()
	a := b.do("HEAD", "/f", "")
	_, params, err := mime.ParseMediaType(a.header.Get("Content-Disposition"))
	if a.status != 200 || a.body != "" || a.header.Get("Content-Length") != "10" || a.header.Get("Content-Type") != "application/octet-stream" ||
		a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Accept-Ranges") != "bytes" || a.header.Get("Etag") != `"abc"` ||
		err != nil || params["filename"] != `a "quoted" <name>.jsonl` || !strings.HasPrefix(a.header.Get("Content-Disposition"), "attachment;") {
		t.Errorf("HEAD: %d %q %v", a.status, a.body, a.header)
	}
	if opened.Load() != before {
		t.Error("HEAD opened the content")
	}
	if a := b.do("GET", "/empty", ""); a.status != 200 || a.body != "" || a.header.Get("Content-Length") != "0" {
		t.Errorf("empty: %d %v", a.status, a.header)
	}
	refused(t, b.do("GET", "/empty", "", "Range", "bytes=0-"), 416, "invalid_request", "Range")
	refused(t, b.do("GET", "/away", ""), 503, "shutting_down", "")
	if o, c := opened.Load(), closed.Load(); o != c || o == 0 {
		t.Errorf("%d opened, %d closed", o, c)
	}
}

// Content that can't be read to its end is cut: no client takes the part for the whole.
func TestDownloadCut(t *testing.T) {
	t.Parallel()
	var closed atomic.Int32
	const size = 100 << 10
	content := func(r io.Reader) func(context.Context, int64, int64) (io.ReadCloser, error) {
		return func(context.Context, int64, int64) (io.ReadCloser, error) { return tape{r, &closed}, nil }
	}
	half := bytes.NewReader(make([]byte, size/2))
	b := setup(t,
		download("/broken", "f", size, content(io.MultiReader(half, failing{errors.New("who knows what")}))),
		download("/short", "f", size, content(bytes.NewReader(make([]byte, size/2)))),
		download("/long", "f", size, content(bytes.NewReader(make([]byte, size+1)))),
		download("/panics", "f", size, content(io.MultiReader(bytes.NewReader(make([]byte, size/2)), panicking{}))),
	)
	for _, path := range []string{"/broken", "/short", "/long", "/panics"} {
		got := b.raw("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n" + "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != 200 || resp.ContentLength != size || err == nil || n > size || strings.Contains(got, `"status"`) {
			t.Errorf("%s: %d, %d bytes, %v", path, resp.StatusCode, n, err)
		}
	}
	if n := closed.Load(); n != 4 {
		t.Errorf("%d of 4 were closed", n)
	}
	if got := b.logs.String(); strings.Count(got, "level=ERROR") != 4 || !strings.Contains(got, "panic") || strings.Contains(got, "secret") {
		t.Errorf("log: %s", got)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("secret") }

// A client that leaves a download ends its reader within a second, and is nobody's
// fault.
func TestDownloadLeft(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	b := setup(t, download("/f", "f", 1<<30, func(ctx context.Context, _, _ int64) (io.ReadCloser, error) {
		return hanging{ctx, ended}, nil
	}))
	nc, err := net.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(nc, "GET /f HTTP/1.1\r\nHost: x\r\n\r\n")
	time.Sleep(50 * time.Millisecond)
	_ = nc.Close()
	select {
	case <-ended:
	case <-time.After(2 * time.Second):
		t.Fatal("it is read on")
	}
	for end := time.Now().Add(time.Second); !strings.Contains(b.logs.String(), "client_closed_request"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("log: %s", b.logs)
		}
	}
	if got := b.logs.String(); strings.Contains(got, "level=ERROR") || strings.Contains(got, "level=WARN") {
		t.Errorf("log: %s", got)
	}
}

// hanging is a store that says nothing.
type hanging struct {
	ctx   context.Context
	ended chan struct{}
}

func (h hanging) Read([]byte) (int, error) {
	<-h.ctx.Done()
	return 0, h.ctx.Err()
}

func (h hanging) Close() error {
	close(h.ended)
	return nil
}

// A range that is read lies within the content, and isn't empty.
func FuzzSpan(f *testing.F) {
	for _, s := range []string{"bytes=0-1", "bytes=-5", "bytes=5-", "bytes=9223372036854775807-", "bytes=0-9223372036854775807", "=-", "bytes=--1"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		size = max(0, size)
		from, to, ok := rest.Span(header, size)
		if whole := from == 0 && to == size; ok && !whole && (from < 0 || from >= to || to > size) {
			t.Errorf("%q of %d: %d to %d", header, size, from, to)
		}
	})
}
