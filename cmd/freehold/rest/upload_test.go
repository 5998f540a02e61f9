package rest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"freehold/cmd/freehold/rest"
)

// received is what a test's upload has read.
type received struct {
	Bytes int64 `json:"bytes"`
	Parts int   `json:"parts"`
}

const uploadLimit = 3 << 20

func upload(path string, timeout time.Duration, fn func(ctx context.Context, r *rest.Request) (received, error)) rest.Route[nobody] {
	return rest.Route[nobody]{
		Method: http.MethodPost, Path: path, Summary: "test", Timeout: timeout,
		Endpoint: rest.Upload[thing](uploadLimit, func(ctx context.Context, _ nobody, r *rest.Request) (received, error) { return fn(ctx, r) }),
	}
}

// readAll reads the whole form.
func readAll(_ context.Context, r *rest.Request) (got received, err error) {
	form, err := r.Form()
	if err != nil {
		return got, err
	}
	for {
		part, err := form.NextRawPart()
		if errors.Is(err, io.EOF) {
			return got, r.Finish()
		}
		if err != nil {
			return got, errors.Join(r.BodyError(), err)
		}
		n, err := io.Copy(io.Discard, part)
		if got.Bytes += n; err != nil {
			return got, errors.Join(r.BodyError(), err)
		}
		got.Parts++
	}
}

// uploads are a door with a route that reads its form, one that reads a part of it, and
// two that don't read at all.
func uploads(t *testing.T, idle, timeout time.Duration) *bundle {
	t.Helper()
	return setupIdle(t, idle, upload("/up", timeout, readAll),
		upload("/first", timeout, func(_ context.Context, r *rest.Request) (received, error) {
			form, err := r.Form()
			if err != nil {
				return received{}, err
			}
			_, err = form.NextPart()
			return received{Parts: 1}, err
		}),
		upload("/ignored", timeout, func(context.Context, *rest.Request) (received, error) { return received{}, nil }),
		upload("/refused", timeout, func(context.Context, *rest.Request) (received, error) {
			return received{}, rest.Bad("file", "No.")
		}),
		get("/inner", func(context.Context, *rest.Request) (any, error) { return "smuggled", nil }),
		post("/things"),
	)
}

// formOf is a form of one file, and its content type.
func formOf(t testing.TB, file string) (body, media string) {
	t.Helper()
	var b strings.Builder
	w := multipart.NewWriter(&b)
	part, err := w.CreateFormFile("file", "x")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(part, file)
	_ = w.Close()
	return b.String(), w.FormDataContentType()
}

// head is an upload's, with lines of its own.
func head(path, media string, lines ...string) string {
	return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: " + media + "\r\n" + strings.Join(append(lines, "", ""), "\r\n")
}

func lengthOf(body string) string { return fmt.Sprintf("Content-Length: %d", len(body)) }

const inChunks = "Transfer-Encoding: chunked"

// chunked is body in chunks of 64 KiB, without its end.
func chunked(body string) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(len(body), 64<<10)
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String()
}

// talk sends bytes on a connection of its own and reads one answer.
func (b *bundle) talk(text string) (status int, body string, closed bool) {
	b.t.Helper()
	nc, err := net.Dial("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	defer nc.Close()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.WriteString(nc, text) // an early answer may stop it
	}()
	_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		b.t.Errorf("no answer: %v", err)
		return 0, "", false
	}
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Errorf("answer: %v", err)
	}
	_ = nc.Close()
	<-sent
	return resp.StatusCode, string(got), resp.Close
}

// An upload arrives with a length and in chunks, also behind a 100-continue, and is
// refused beyond its limit before all of it was read, or any.
func TestUpload(t *testing.T) {
	t.Parallel()
	b := uploads(t, time.Second, 10*time.Second)
	file := strings.Repeat("0123456789abcdef", 128<<10) // 2 MiB, twice what other routes take
	body, media := formOf(t, file)
	large, largeMedia := formOf(t, file+file)
	want := fmt.Sprintf(`{"bytes":%d,"parts":1}`, len(file))
	for name, c := range map[string]struct {
		text   string
		status int
		closed bool
	}{
		"length":              {head("/up", media, lengthOf(body)) + body, 200, false},
		"chunks":              {head("/up", media, inChunks) + chunked(body) + "0\r\n\r\n", 200, false},
		"chunks with trailer": {head("/up", media, inChunks) + chunked(body) + "0\r\nX: y\r\n\r\n", 200, false},
		// The server reads 8 KiB before it asks anybody.
		"too long":        {head("/up", media, "Content-Length: 4000000") + file[:8<<10], 413, true},
		"too long, sent":  {head("/up", largeMedia, lengthOf(large)) + large, 413, true},
		"too many chunks": {head("/up", largeMedia, inChunks) + chunked(large), 413, true},
		"other route":     {head("/things", "application/json", inChunks) + chunked(file), 413, true},
		"no form":         {head("/up", "application/json", lengthOf("{}")) + "{}", 415, true},
		"compressed":      {head("/up", media, "Content-Encoding: gzip", lengthOf(body)) + body, 415, true},
		"no boundary":     {head("/up", "multipart/form-data", lengthOf(body)) + body, 400, true},
		"no chunk":        {head("/up", media, inChunks) + "zz\r\n", 400, true},
		"not read":        {head("/refused", media, lengthOf(body)) + body, 400, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, got, closed := b.talk(c.text)
			if status != c.status || closed != c.closed || status == 200 && got != want {
				t.Errorf("got %d %s, closed: %v\n%s", status, got, closed, b.logs)
			}
		})
	}
	t.Run("expect", func(t *testing.T) {
		t.Parallel()
		for _, path := range []string{"/up", "/refused", "/things"} {
			nc, err := net.Dial("tcp", b.addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
			small, media := formOf(t, "abc")
			if path == "/things" {
				small, media = `{"name":"n","color":null}`, "application/json"
			}
			_, _ = io.WriteString(nc, head(path, media, "Expect: 100-continue", lengthOf(small)))
			from := bufio.NewReader(nc)
			line, err := from.ReadString('\n')
			if blank, _ := from.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") || blank != "\r\n" {
				t.Fatalf("%s: %q %v", path, line, err)
			}
			_, _ = io.WriteString(nc, small)
			resp, err := http.ReadResponse(from, nil)
			if err != nil {
				t.Fatal(err)
			}
			if want := map[string]int{"/up": 200, "/refused": 400, "/things": 201}[path]; resp.StatusCode != want {
				t.Errorf("%s: %d", path, resp.StatusCode)
			}
			_ = nc.Close()
		}
	})
}

// Of two requests on one connection the second is the one that was sent, whatever the
// first one's handler has read of its body.
func TestUploadSmuggling(t *testing.T) {
	t.Parallel()
	b := uploads(t, time.Second, 10*time.Second)
	inner := "GET /inner HTTP/1.1\r\nHost: x\r\n\r\n"
	small, media := formOf(t, "abc")
	behind := small + inner                              // the tail of a form
	long := small + strings.Repeat("x", 300<<10) + inner // more of it than anybody reads away
	for _, path := range []string{"/up", "/first", "/ignored", "/refused", "/nope"} {
		for name, text := range map[string]string{
			"length":      head(path, media, lengthOf(behind)) + behind,
			"chunks":      head(path, media, inChunks) + chunked(behind) + "0\r\n\r\n",
			"long length": head(path, media, lengthOf(long)) + long,
			"long chunks": head(path, media, inChunks) + chunked(long) + "0\r\n\r\n",
			"two lengths": head(path, media, "Content-Length: 4", inChunks) + "0\r\n\r\n" + inner,
			"unended":     head(path, media, inChunks) + chunked(small) + inner,
		} {
			t.Run(path+" "+name, func(t *testing.T) {
				t.Parallel()
				if got := b.raw(text); strings.Contains(got, "smuggled") || strings.Count(got, "HTTP/1.1 ") > 1 {
					t.Errorf("%q", got)
				}
			})
		}
	}
	// What was read to its end leaves a connection that serves on: an upload, then what
	// is none, with a body of its own.
	things := `{"name":"n","color":null}`
	got := b.raw(head("/up", media, lengthOf(small)) + small + head("/up", media, inChunks) + chunked(small) + "0\r\n\r\n" +
		head("/things", "application/json", lengthOf(things)) + things + head("/up", media, "Content-Length: 0"))
	if strings.Count(got, `{"bytes":3,"parts":1}`) != 2 || !strings.Contains(got, `{"name":"n"`) || strings.Count(got, "HTTP/1.1 ") != 4 {
		t.Errorf("on one connection: %q", got)
	}
}

// A body that ends too early is no body, also where a chunk ends.
func TestBrokenBodies(t *testing.T) {
	t.Parallel()
	done := make(chan error, 1)
	b := setupIdle(t, time.Second,
		upload("/up", 0, func(ctx context.Context, r *rest.Request) (received, error) {
			got, err := readAll(ctx, r)
			done <- err
			return got, err
		}),
		post("/things"))
	body, media := formOf(t, strings.Repeat("x", 20<<10))
	for name, text := range map[string]string{
		"length": head("/up", media, lengthOf(body)) + body[:len(body)-4],
		"chunk":  head("/up", media, inChunks) + chunked(body),
		// The form is whole, the body isn't.
		"epilogue": head("/up", media, lengthOf(body+"123")) + body,
	} {
		nc, err := net.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(nc, text)
		_ = nc.Close()
		select {
		case err := <-done:
			if e := rest.Describe(err); err == nil || e.Code != "client_closed_request" {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: the handler reads on", name)
		}
	}
	// An ordinary route's too, though its JSON is whole.
	whole := `{"name":"n","color":null}`
	nc, err := net.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_, _ = io.WriteString(nc, head("/things", "application/json", inChunks)+chunked(whole))
	_ = nc.(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // a TCP connection
	_ = nc.SetReadDeadline(time.Now().Add(5 * time.Second))
	if got, _ := io.ReadAll(nc); strings.Contains(string(got), " 201 ") {
		t.Errorf("half a body was taken: %q", got)
	}
}

// A client that is silent, or that takes too long on the whole, is let go; one that
// goes on slowly isn't.
func TestSlowUpload(t *testing.T) {
	t.Parallel()
	body, media := formOf(t, strings.Repeat("x", 12<<10))
	drip := func(addr string, pause time.Duration, pieces int) (status int, took time.Duration) {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		begun := time.Now()
		go func() {
			_, _ = io.WriteString(nc, head("/up", media, lengthOf(body))+body[:9<<10])
			rest := body[9<<10:]
			for i := range pieces {
				time.Sleep(pause)
				_, _ = io.WriteString(nc, rest[i*len(rest)/pieces:(i+1)*len(rest)/pieces])
			}
		}()
		_ = nc.SetReadDeadline(time.Now().Add(5 * time.Second))
		resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			t.Error(err)
			return 0, 0
		}
		return resp.StatusCode, time.Since(begun)
	}
	silent := uploads(t, 300*time.Millisecond, 10*time.Second)
	if status, took := drip(silent.addr, 0, 0); status != 408 || took > 3*time.Second {
		t.Errorf("silent: %d after %v", status, took)
	}
	if status, took := drip(silent.addr, 50*time.Millisecond, 10); status != 200 || took < 400*time.Millisecond {
		t.Errorf("slow, but going on: %d after %v", status, took)
	}
	short := uploads(t, 300*time.Millisecond, 400*time.Millisecond)
	if status, took := drip(short.addr, 50*time.Millisecond, 100); status != 408 || took > 3*time.Second {
		t.Errorf("too long on the whole: %d after %v", status, took)
	}
}

// Over TLS an upload is the same, and the answer to one that is too long can be read.
func TestUploadOverTLS(t *testing.T) {
	t.Parallel()
	b, _ := setupTLS(t, upload("/up", 0, readAll))
	for size, status := range map[int]int{2 << 20: 200, 10 << 20: 413} {
		body, media := formOf(t, strings.Repeat("x", size))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+b.addr+"/up", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", media)
		resp, err := b.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != status {
			t.Errorf("%d bytes: %d %v", size, resp.StatusCode, err)
		}
		_ = resp.Body.Close()
	}
}

// A stopping door ends uploads.
func TestUploadShutdown(t *testing.T) {
	t.Parallel()
	b := uploads(t, 30*time.Second, time.Minute)
	body, media := formOf(t, strings.Repeat("x", 20<<10))
	nc, err := net.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_, _ = io.WriteString(nc, head("/up", media, lengthOf(body))+body[:10<<10])
	time.Sleep(50 * time.Millisecond) // it is being read, or will be
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_ = b.door.Shutdown(ctx) // it says that not all had ended in time
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	_ = nc.SetReadDeadline(time.Now().Add(5 * time.Second))
	if got, _ := io.ReadAll(nc); strings.Contains(string(got), "200 OK") {
		t.Errorf("%q", got)
	}
}
