package rest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// The server hands every body over as a stream, and then bounds none. So outermost
// reads the bodies of ordinary routes itself, before routing, and those of Upload's
// routes are read by their handlers, through a body.

// receive reads an ordinary route's body, at most MaxBody bytes, in the time that
// the server gives a whole request. Its errors are the server's own.
func (d *Door) receive(fctx *fasthttp.RequestCtx) error {
	stream := fctx.Request.BodyStream()
	if stream == nil {
		return nil
	}
	var body []byte
	var err error
	switch n := fctx.Request.Header.ContentLength(); {
	case n > d.cfg.MaxBody:
		return fasthttp.ErrBodyTooLarge
	case n >= 0:
		body = make([]byte, n)
		_, err = io.ReadFull(stream, body)
	default:
		body, err = io.ReadAll(io.LimitReader(stream, int64(d.cfg.MaxBody)+1))
		if err == nil && len(body) > d.cfg.MaxBody {
			return fasthttp.ErrBodyTooLarge
		}
		if err == nil && hasEnded(fctx.Conn()) {
			err = io.ErrUnexpectedEOF
		}
	}
	if err != nil {
		return err
	}
	fctx.Request.SetBodyRaw(body)
	return nil
}

// hasEnded reports whether the client's bytes ran out while more were wanted. Behind
// a body in chunks the server's stream says the same for that and for its end.
func hasEnded(nc net.Conn) bool {
	c, ours := nc.(*conn)
	return ours && c.ended.Load()
}

// body is a request's body while it arrives, at most limit bytes of it. One goroutine
// reads it.
type body struct {
	from   io.Reader // nil: there is no body
	nc     net.Conn
	length int64 // -1: nobody has said
	limit  int64
	idle   time.Duration // how long the client may be silent

	cut   atomic.Bool
	armed time.Time // when the read deadline was last set
	// When it was first read, and last.
	began, until time.Time
	read         int64
	err          error // sticky; io.EOF behind the last byte
}

// bodyKey is where outermost keeps the body of an Upload's request.
type bodyKey struct{}

func newBody(fctx *fasthttp.RequestCtx, limit int64, idle time.Duration) *body {
	b := &body{from: fctx.Request.BodyStream(), nc: fctx.Conn(), limit: limit, idle: idle}
	if b.length = int64(fctx.Request.Header.ContentLength()); b.from == nil {
		b.length, b.err = 0, io.EOF
	}
	fctx.SetUserValue(bodyKey{}, b)
	return b
}

// endWith has reads end when ctx does, until stop is called.
func (b *body) endWith(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		b.cut.Store(true)
		_ = b.nc.SetReadDeadline(time.Unix(1, 0)) // wakes who reads
	})
}

// Read returns errTooLarge behind limit, errSlowClient when the client is silent for
// too long or the request's time is up, errClientGone when the client has left before
// the end, and errMalformed.
func (b *body) Read(p []byte) (int, error) {
	now := time.Now()
	if b.began.IsZero() {
		b.began = now
	}
	if b.until = now; b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	if now.Sub(b.armed) > b.idle/8 {
		b.armed = now
		if err := b.nc.SetReadDeadline(now.Add(b.idle)); err != nil {
			return 0, b.fail(errClientGone)
		}
	}
	if b.cut.Load() { // looked at after the deadline, which may have undone the cut's
		return 0, b.fail(errSlowClient)
	}
	if room := b.limit - b.read + 1; int64(len(p)) > room {
		p = p[:room] // one more byte tells that there are too many
	}
	n, err := b.from.Read(p)
	b.until = time.Now()
	if b.read += int64(n); b.read > b.limit {
		return 0, b.fail(errTooLarge)
	}
	switch {
	case err == nil:
		return n, nil
	case !errors.Is(err, io.EOF):
		return n, b.fail(unread(err))
	case b.length >= 0 && b.read < b.length, b.length < 0 && hasEnded(b.nc):
		return n, b.fail(errClientGone)
	}
	b.err = io.EOF
	return n, io.EOF
}

// ended reports whether all of it was read.
func (b *body) ended() bool { return errors.Is(b.err, io.EOF) }

func (b *body) fail(err error) error {
	b.err = err
	return err
}

// unread names why a body could not be read on.
func unread(err error) error {
	if ne, ok := errors.AsType[net.Error](err); ok {
		if ne.Timeout() {
			return errSlowClient
		}
		return errClientGone
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return errClientGone
	}
	return errMalformed
}

// settle is called when the answer is known: bytes that nobody has read must not
// become the next request, nor hold up the answer.
func (b *body) settle(fctx *fasthttp.RequestCtx) {
	if b.ended() || b.length == 0 {
		return
	}
	fctx.SetConnectionClose()
	if c, ok := b.nc.(*conn); ok {
		c.linger.Store(true)
	}
}

// uploads answers how many bytes a request may stream; 0: its route takes none, and
// its body is read before it is routed.
func (d *Door) uploads(fctx *fasthttp.RequestCtx) int64 {
	if len(d.upload) == 0 || string(fctx.Method()) != http.MethodPost {
		return 0
	}
	return d.upload[string(fctx.URI().PathOriginal())]
}
