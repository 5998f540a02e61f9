package rest

import (
	"context"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
)

// Route is a line of a door's table: what is served, what a caller must hold, and
// what the document says of it. C is who calls.
type Route[C any] struct {
	Method  string
	Path    string // {id} is one segment of the path, {name...} all that is left
	Scope   string
	Summary string
	Query   []Query
	Timeout time.Duration // 30 s
	Once    bool          // an Idempotency-Key is honoured
	Endpoint[C]
}

// Query documents a query parameter; Type is a JSON type.
type Query struct{ Name, Type, Summary string }

// Paging documents the parameters that Request.Page reads.
var Paging = []Query{
	{"limit", "integer", "How many at most."},
	{"after", "string", "The last one of the page before."},
}

// Endpoint is a handler with the types that go in and out.
type Endpoint[C any] struct {
	in, out reflect.Type // nil: none
	status  int
	media   string // of the answer; empty: JSON
	later   bool   // it may be answered 202
	streams bool
	form    string // media type of what goes in; empty: JSON
	upload  int64  // bytes that the handler may read while they arrive; 0: it is given them
	run     func(ctx context.Context, caller C, r *Request) (*Reply, error)
}

// Give serves a route that takes no body.
func Give[C, Out any](fn func(ctx context.Context, caller C, r *Request) (Out, error)) Endpoint[C] {
	return Endpoint[C]{
		out: reflect.TypeFor[Out](), status: http.StatusOK,
		run: func(ctx context.Context, caller C, r *Request) (*Reply, error) {
			out, err := fn(ctx, caller, r)
			return &Reply{status: http.StatusOK, value: out}, err
		},
	}
}

// Begin is Give for work that goes on behind the answer: 202.
func Begin[C, Out any](fn func(ctx context.Context, caller C, r *Request) (Out, error)) Endpoint[C] {
	e := Give(fn)
	give := e.run
	e.status = http.StatusAccepted
	e.run = func(ctx context.Context, caller C, r *Request) (*Reply, error) {
		reply, err := give(ctx, caller, r)
		reply.status = http.StatusAccepted
		return reply, err
	}
	return e
}

// Text serves a route that takes no body and answers text of this media type.
func Text[C any](media string, fn func(ctx context.Context, caller C, r *Request) ([]byte, error)) Endpoint[C] {
	return Endpoint[C]{
		out: reflect.TypeFor[string](), status: http.StatusOK, media: media,
		run: func(ctx context.Context, caller C, r *Request) (*Reply, error) {
			text, err := fn(ctx, caller, r)
			return &Reply{status: http.StatusOK, media: media, text: text}, err
		},
	}
}

// Take serves a route whose body is an In: JSON, decoded strictly. Members with
// omitempty and pointers may be left out.
func Take[C, In, Out any](status int, fn func(ctx context.Context, caller C, r *Request, in In) (Out, error)) Endpoint[C] {
	return Endpoint[C]{
		in: reflect.TypeFor[In](), out: reflect.TypeFor[Out](), status: status,
		run: func(ctx context.Context, caller C, r *Request) (*Reply, error) {
			if err := r.wantJSON(); err != nil {
				return nil, err
			}
			in, err := decode[In](r.Body)
			if err != nil {
				return nil, err
			}
			out, err := fn(ctx, caller, r, in)
			return &Reply{status: status, value: out}, err
		},
	}
}

// TakeLong is Take for work that may go on behind the answer: fn also says whether
// it does, which is answered 202.
func TakeLong[C, In, Out any](status int, fn func(ctx context.Context, caller C, r *Request, in In) (out Out, later bool, err error)) Endpoint[C] {
	e := Take(status, func(ctx context.Context, caller C, r *Request, in In) (answer, error) {
		out, later, err := fn(ctx, caller, r, in)
		if later {
			return answer{out, http.StatusAccepted}, err
		}
		return answer{out, status}, err
	})
	e.out, e.later = reflect.TypeFor[Out](), true
	take := e.run
	e.run = func(ctx context.Context, caller C, r *Request) (*Reply, error) {
		reply, err := take(ctx, caller, r)
		if err == nil {
			a := reply.value.(answer) //nolint:forcetypeassert // made above
			reply.value, reply.status = a.value, a.status
		}
		return reply, err
	}
	return e
}

// answer is a value with the status that it is answered with.
type answer struct {
	value  any
	status int
}

// Raw serves a route whose handler reads r.Body (JSON by its content type) and
// may stream; In and Out are what the document says.
func Raw[In, Out, C any](fn func(ctx context.Context, caller C, r *Request) (*Reply, error)) Endpoint[C] {
	return Endpoint[C]{
		in: reflect.TypeFor[In](), out: reflect.TypeFor[Out](), status: http.StatusOK,
		run: func(ctx context.Context, caller C, r *Request) (*Reply, error) {
			if err := r.wantJSON(); err != nil {
				return nil, err
			}
			return fn(ctx, caller, r)
		},
	}
}

// Streaming says in the document that the endpoint can answer with events.
func (e Endpoint[C]) Streaming() Endpoint[C] {
	e.streams = true
	return e
}

// Reply is a successful answer.
type Reply struct {
	status int
	header map[string]string
	value  any
	media  string // set: text is the body
	text   []byte
	stream func(ctx context.Context, send func(event any) error) error
	// content, when set, is the body.
	content *Content
}

// OK answers 200 with v as JSON.
func OK(v any) *Reply { return &Reply{status: http.StatusOK, value: v} }

// With adds a header to the answer, in place of an earlier value, and returns the
// reply. A stream's headers go out before its first event, also when that fails.
func (r *Reply) With(name, value string) *Reply {
	if r.header == nil {
		r.header = map[string]string{}
	}
	r.header[name] = value
	return r
}

// Stream answers with server-sent events. fn runs on a goroutine of the door's
// until it returns, always exactly once; ctx ends when the client goes away or
// the door shuts down, and send then returns why. An error before the first event
// is answered with its own status, later as a last event.
func Stream(fn func(ctx context.Context, send func(event any) error) error) *Reply {
	return &Reply{status: http.StatusOK, stream: fn}
}

// Gate decides who calls, refuses, or calls run as them. It may call run again
// when an error says that nothing was done.
type Gate[C any] func(ctx context.Context, r *Request, scope string, run func(C) (*Reply, error)) (*Reply, error)

// Mount serves a table behind its gate.
func Mount[C any](d *Door, gate Gate[C], routes []Route[C]) {
	for _, rt := range routes {
		if rt.upload > 0 {
			d.upload[rt.Path] = rt.upload
		}
		d.add(rt.Method, rt.Path, rt.Scope, rt.Timeout, func(ctx context.Context, r *Request) (*Reply, error) {
			return gate(ctx, r, rt.Scope, func(caller C) (*Reply, error) { return rt.run(ctx, caller, r) })
		})
		d.document(operation{
			method: rt.Method, path: rt.Path, scope: rt.Scope, summary: rt.Summary, query: rt.Query, once: rt.Once,
			in: rt.in, out: rt.out, status: rt.status, media: rt.media, form: rt.form, later: rt.later, streams: rt.streams,
		})
	}
}

type runFunc func(ctx context.Context, r *Request) (*Reply, error)

func (d *Door) add(method, path, scope string, timeout time.Duration, run runFunc) {
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	native := nativePath(path)
	h := d.funnel(path, timeout, run)
	d.app.Add(method, native, h)
	if method == http.MethodGet {
		d.app.Add(http.MethodHead, native, h)
	}
	d.scopes[method+" "+native] = scope
}

// nativePath turns {id} into :id and {name...} into +, which matches one
// character at least, slashes too: model ids hold them, escaped or not.
func nativePath(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if !strings.HasPrefix(s, "{") {
			continue
		}
		if strings.HasSuffix(s, "...}") {
			segments[i] = "+"
		} else {
			segments[i] = ":" + strings.Trim(s, "{}")
		}
	}
	return strings.Join(segments, "/")
}

// paramName is the name that handlers know a parameter by: the router numbers
// its wildcards, and a route here has one at most.
func paramName(native string) string {
	if strings.HasPrefix(native, "+") {
		return "name"
	}
	return native
}

// Mounted is a route as the server has it, for tests that compare tables.
type Mounted struct {
	Method, Path string // Path in the server's own form: /v1/models/+
	Scope        string
}

// Routes lists what the server serves, HEAD left out.
func (d *Door) Routes() []Mounted {
	var list []Mounted
	for _, stack := range d.app.Stack() {
		for _, r := range stack {
			if r.Method != fiber.MethodHead {
				list = append(list, Mounted{r.Method, r.Path, d.scopes[r.Method+" "+r.Path]})
			}
		}
	}
	return list
}
