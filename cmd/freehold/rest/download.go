package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
)

const mediaBytes = "application/octet-stream"

// Content is bytes to be saved as a file.
type Content struct {
	Name string
	Size int64  // bytes
	Tag  string // names these bytes and no others, without quotes
	// Open reads the bytes from up to, not including, to. It is called once at most, and
	// not for HEAD; ctx ends when the client leaves. The door closes what it returns.
	Open func(ctx context.Context, from, to int64) (io.ReadCloser, error)
}

// Download serves a route that answers a file's content, whole or the one range that
// was asked for (RFC 9110, section 14). When it can't be read to its end, the
// connection is cut.
func Download[C any](fn func(ctx context.Context, caller C, r *Request) (Content, error)) Endpoint[C] {
	return Endpoint[C]{
		out: reflect.TypeFor[File](), status: http.StatusOK, media: mediaBytes,
		run: func(ctx context.Context, caller C, r *Request) (*Reply, error) {
			content, err := fn(ctx, caller, r)
			return &Reply{status: http.StatusOK, content: &content}, err
		},
	}
}

// download answers with content. release is called once, when the last byte has
// gone out or can't any more.
func (d *Door) download(ctx context.Context, c *fiber.Ctx, cl *call, content *Content, release func()) {
	from, to := int64(0), content.Size
	status := http.StatusOK
	if asked := c.Get(fiber.HeaderRange); asked != "" && (c.Get(fiber.HeaderIfRange) == "" || c.Get(fiber.HeaderIfRange) == quote(content.Tag)) {
		var ok bool
		if from, to, ok = span(asked, content.Size); !ok {
			release()
			d.fail(c, cl, &Error{
				Status: http.StatusRequestedRangeNotSatisfiable, Code: "invalid_request", Type: typeRequest, Param: "Range",
				Message: "The range lies outside of the file.",
				Header:  map[string]string{fiber.HeaderContentRange: fmt.Sprintf("bytes */%d", content.Size)},
			})
			return
		}
		if to-from < content.Size {
			status = http.StatusPartialContent
		}
	}
	out := &sending{left: to - from, size: to - from}
	if c.Method() != http.MethodHead {
		var err error
		if out.from, err = content.Open(ctx, from, to); err != nil {
			release()
			d.fail(c, cl, because(ctx, err))
			return
		}
	}
	cl.first = time.Since(cl.started)
	out.end = func(failure error) {
		release()
		code := ""
		if failure != nil {
			e := Describe(because(ctx, failure))
			cl.outcome, code = e.outcome(), e.Code
			d.logError(cl, e)
		}
		d.access(cl, status, code)
	}
	out.panicked = func(p any) { d.logPanic(cl.id, p) }
	if status == http.StatusPartialContent {
		c.Set(fiber.HeaderContentRange, fmt.Sprintf("bytes %d-%d/%d", from, to-1, content.Size))
	}
	c.Set(fiber.HeaderAcceptRanges, "bytes")
	if content.Tag != "" {
		c.Set(fiber.HeaderETag, quote(content.Tag))
	}
	c.Set(fiber.HeaderContentDisposition, disposition(content.Name))
	c.Set(fiber.HeaderContentType, mediaBytes)
	c.Status(status)
	c.Context().SetBodyStream(out, int(out.size))
}

func quote(tag string) string { return `"` + tag + `"` }

// disposition has a browser save the answer and never show it.
func disposition(name string) string {
	if s := mime.FormatMediaType("attachment", map[string]string{"filename": name}); s != "" {
		return s
	}
	return "attachment"
}

// span reads a Range header: from and to (not included) of size bytes. Several ranges,
// and what isn't one, ask for the whole; not ok is one that lies outside.
func span(header string, size int64) (from, to int64, ok bool) {
	whole := func() (int64, int64, bool) { return 0, size, true }
	unit, set, found := strings.Cut(header, "=")
	first, last, dash := strings.Cut(strings.TrimSpace(set), "-")
	if !found || !dash || !strings.EqualFold(unit, "bytes") || strings.Contains(set, ",") {
		return whole()
	}
	if first == "" { // the last so many
		n, valid := offset(last)
		if !valid {
			return whole()
		}
		return max(0, size-n), size, n > 0 && size > 0
	}
	from, valid := offset(first)
	if !valid {
		return whole()
	}
	to = size
	if last != "" {
		end, valid := offset(last)
		if !valid || end < from {
			return whole()
		}
		to = min(size, end+1)
	}
	return from, to, from < size
}

// offset reads digits alone, of no more than fit.
func offset(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return min(n, 1<<62), err == nil || errors.Is(err, strconv.ErrRange)
}

var (
	errShort = errors.New("the content ended too early")
	errLong  = errors.New("the content is longer than it should be")
)

// sending is content on its way: the server reads it, and closes it always.
type sending struct {
	from       io.ReadCloser // nil for HEAD
	left, size int64
	failure    error
	end        func(failure error)
	panicked   func(p any)
}

// Read is called on the server's goroutine: nobody else would log its panic. Every
// error makes the server cut the connection.
func (s *sending) Read(p []byte) (n int, err error) {
	defer func() {
		if v := recover(); v != nil {
			s.panicked(v)
			n, err, s.failure = 0, errPanic, errPanic
		}
	}()
	n, err = s.from.Read(p)
	switch s.left -= int64(n); {
	case s.left < 0:
		err = errLong
	case errors.Is(err, io.EOF) && s.left > 0:
		err = errShort
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.failure = err
	}
	return n, err
}

// Close is called once, by whoever owns the answer.
func (s *sending) Close() error {
	if s.end == nil {
		return nil
	}
	end := s.end
	s.end = nil
	if s.from != nil {
		_ = s.from.Close() // read to its end, or of no more use
		if s.left > 0 && s.failure == nil {
			s.failure = errClientGone // it could not be written
		}
	}
	end(s.failure)
	return nil
}
