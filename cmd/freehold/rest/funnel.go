package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
	"go.opentelemetry.io/otel/trace"
)

// call is a request's life for headers and the access log.
type call struct {
	id      string
	method  string
	route   string // the pattern; empty when none matched
	started time.Time
	tenant  string
	span    trace.Span // nil: none is recorded
	outcome outcome
	first   time.Duration // until a stream's first event; 0: it isn't known
	arrival time.Duration // of an upload's body, while its handler ran
}

// begin starts a call's clock and writes the headers that every answer bears.
func (d *Door) begin(c *fiber.Ctx, route string) *call {
	cl := &call{id: requestID(c.Get("X-Request-Id")), method: c.Method(), route: route, started: time.Now()}
	c.Set("X-Request-Id", cl.id)
	c.Set("Openai-Version", "2020-10-01")
	c.Set("X-Content-Type-Options", "nosniff")
	c.Set(fiber.HeaderCacheControl, "no-store")
	return cl
}

// funnel is what every handler stands in: request id, deadline, cancellation
// when the client goes, panics, errors to answers, the access log.
func (d *Door) funnel(route string, timeout time.Duration, run runFunc) fiber.Handler {
	return func(c *fiber.Ctx) error {
		cl := d.begin(c, route)
		if !d.enter() {
			d.fail(c, cl, ErrShuttingDown)
			return nil
		}
		r, err := newRequest(c, cl.id)
		if err != nil {
			d.work.Done()
			d.fail(c, cl, err)
			return nil
		}
		ctx, cancel := context.WithCancelCause(d.startSpan(d.all, c, cl))
		ctx, stopTimer := context.WithTimeout(ctx, timeout)
		stopWatch := watch(c.Context().Conn(), func() { cancel(errClientGone) })
		stopBody := func() bool { return true }
		if r.body != nil {
			stopBody = r.body.endWith(ctx)
		}
		release := func() {
			stopBody()
			stopWatch()
			stopTimer()
			cancel(nil)
			d.work.Done()
		}
		reply, err := d.protect(cl.id, func() (*Reply, error) { return run(ctx, r) })
		cl.tenant = r.Tenant
		if r.body != nil {
			cl.arrival = r.body.until.Sub(r.body.began)
		}
		if err == nil && reply.stream != nil {
			d.stream(ctx, c, cl, reply, cancel, release)
			return nil
		}
		if err == nil && reply.content != nil {
			d.download(ctx, c, cl, reply.content, release)
			return nil
		}
		err = because(ctx, err)
		release()
		if err != nil {
			d.fail(c, cl, err)
			return nil
		}
		d.answer(c, cl, reply)
		return nil
	}
}

// because names the reason of an error that is a mere cancellation.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && (errors.Is(cause, errClientGone) || errors.Is(cause, ErrShuttingDown)) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// protect turns a panic into an error.
func (d *Door) protect(id string, fn func() (*Reply, error)) (reply *Reply, err error) {
	defer func() {
		if p := recover(); p != nil {
			d.logPanic(id, p)
			reply, err = nil, errPanic
		}
	}()
	return fn()
}

// logPanic logs where, and what only when the runtime says it: a panic's own
// value may hold anything, a prompt too.
func (d *Door) logPanic(id string, p any) {
	what := fmt.Sprintf("a value of type %T", p)
	if re, ok := p.(runtime.Error); ok {
		what = re.Error()
	}
	d.log.Error("panic", "request_id", id, "panic", what, "stack", string(debug.Stack()))
}

func (d *Door) answer(c *fiber.Ctx, cl *call, reply *Reply) {
	setAll(c, reply.header)
	if reply.media != "" {
		d.write(c, cl, reply.status, reply.media, reply.text)
		d.access(cl, reply.status, "")
		return
	}
	b, err := json.Marshal(reply.value)
	if err != nil {
		d.fail(c, cl, fmt.Errorf("encode answer: %w", err))
		return
	}
	d.write(c, cl, reply.status, mediaJSON, b)
	d.access(cl, reply.status, "")
}

func (d *Door) fail(c *fiber.Ctx, cl *call, err error) {
	e := Describe(err)
	cl.outcome = e.outcome()
	d.logError(cl, e)
	if e.Status == http.StatusUnauthorized {
		c.Set(fiber.HeaderWWWAuthenticate, "Bearer")
	}
	if e.RetryAfter > 0 {
		c.Set(fiber.HeaderRetryAfter, strconv.Itoa(int(e.RetryAfter.Seconds())))
	}
	if !e.retryable() {
		c.Set("X-Should-Retry", "false")
	}
	setAll(c, e.Header)
	b, _ := json.Marshal(e.body()) // strings always encode
	d.write(c, cl, e.Status, mediaJSON, b)
	d.access(cl, e.Status, e.Code)
}

func setAll(c *fiber.Ctx, header map[string]string) {
	for name, value := range header {
		c.Set(name, value)
	}
}

const mediaJSON = "application/json"

func (d *Door) write(c *fiber.Ctx, cl *call, status int, media string, body []byte) {
	c.Set("Openai-Processing-Ms", strconv.FormatInt(time.Since(cl.started).Milliseconds(), 10))
	c.Set(fiber.HeaderContentType, media)
	c.Status(status)
	c.Response().SetBodyRaw(body)
}

// logError writes down what an answer leaves out.
func (d *Door) logError(cl *call, e *Error) {
	switch {
	case e.clientGone || e.Status < 500 || errors.Is(e.Err, errPanic):
	case e.unlisted:
		d.log.Error("request failed", "request_id", cl.id, "route", cl.route, "tenant", cl.tenant, "error", e.Err)
	case e.Err != nil && !errors.Is(e.Err, ErrShuttingDown):
		d.log.Warn("request failed", "request_id", cl.id, "route", cl.route, "tenant", cl.tenant, "code", e.Code, "error", e.Err)
	}
}

// access is told of each answer once. Its log has no body, no query, no key.
func (d *Door) access(cl *call, status int, code string) {
	d.observed(cl, status, code)
	args := []any{
		"method", cl.method, "route", cl.route, "status", status,
		"dur_ms", time.Since(cl.started).Milliseconds(), "request_id", cl.id,
	}
	if cl.tenant != "" {
		args = append(args, "tenant", cl.tenant)
	}
	if code != "" {
		args = append(args, "code", code)
	}
	if isProbe(cl.route) {
		d.log.Debug("request", args...)
		return
	}
	d.log.Info("request", args...)
}

// unserved answers what reached no handler: unknown routes and methods, and
// requests that the server could not read.
func (d *Door) unserved(c *fiber.Ctx, err error) error {
	cl := d.begin(c, "")
	fe, ok := errors.AsType[*fiber.Error](err)
	if !ok {
		d.fail(c, cl, err)
		return nil
	}
	// The framework's text may hold bytes of the request: the code is enough.
	switch fe.Code {
	case http.StatusNotFound:
		err = &Error{Status: fe.Code, Code: "not_found", Type: typeRequest, Message: "No such route: " + cl.method + " " + c.Path()}
	case http.StatusMethodNotAllowed:
		err = errMethod
	default:
		// The request wasn't read to its end: see conn.Close.
		if nc, ok := c.Context().Conn().(*conn); ok {
			nc.linger.Store(true)
		}
		err = unreadable(fe.Code)
	}
	d.fail(c, cl, err)
	return nil
}

func unreadable(status int) error {
	switch status {
	case http.StatusRequestEntityTooLarge:
		return errTooLarge
	case http.StatusRequestTimeout:
		return errSlowClient
	case http.StatusRequestHeaderFieldsTooLarge:
		return errHeaders
	default:
		return errMalformed
	}
}
