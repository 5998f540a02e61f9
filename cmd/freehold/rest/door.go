package rest

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
	"go.opentelemetry.io/otel/trace"
)

const (
	readTimeout = 30 * time.Second  // a whole request, from its first byte
	idleTimeout = 120 * time.Second // longer than clients keep connections, so that they close first
	headerBytes = 16 << 10
	maxConns    = 16384
	// streamGrace is how long a shutdown lets streams go on before it ends them, beyond
	// what LetStreams says; unusedGrace is the same for connections that never said a
	// word: a request may be on its way.
	streamGrace = 500 * time.Millisecond
	unusedGrace = 500 * time.Millisecond
	// settleTime is how long a shutdown, once its time is up, waits for what it cancelled.
	settleTime = time.Second
)

// Config of a Door. Title and Logger are required.
type Config struct {
	Title, Version string // of the document
	PublicURL      string // of the document; may be empty
	Logger         *slog.Logger
	Ready          func(context.Context) error // nil: always ready
	MaxBody        int                         // bytes; 4 MiB; uploads have limits of their own
	BodyIdle       time.Duration               // how long an upload's client may be silent; 30 s
}

// Door is one listener's HTTP server. Mount its routes, then Serve.
type Door struct {
	cfg    Config
	log    *slog.Logger
	app    *fiber.App
	scopes map[string]string
	ops    []operation
	upload map[string]int64 // path to bytes, of the routes that stream their bodies

	// Set before Serve; nil: nobody wants to know.
	observe func(Observation)
	tenants func(Ended)
	tracer  trace.Tracer
	grace   time.Duration // of streams, at Shutdown

	// all ends every request, streams the streamed ones. They are roots: a
	// request's life hangs on its client and this door, on no caller.
	all, streams       context.Context
	endAll, endStreams context.CancelCauseFunc

	mu      sync.RWMutex // guards closing and ln
	closing bool
	ln      *listener
	work    sync.WaitGroup // requests; none is added once closing
}

// New makes a door that serves /healthz, /readyz and /openapi.json.
func New(cfg Config) (*Door, error) {
	if cfg.Logger == nil || cfg.Title == "" {
		return nil, errors.New("rest: Config needs Title and Logger")
	}
	cfg.MaxBody = cmp.Or(cfg.MaxBody, 4<<20)
	cfg.BodyIdle = cmp.Or(cfg.BodyIdle, bodyIdle)
	d := &Door{cfg: cfg, log: cfg.Logger, scopes: map[string]string{}, upload: map[string]int64{}, grace: streamGrace}
	// Two lives that Shutdown ends, streams' first: they outlast the call of New,
	// so no caller's context could bound them.
	d.all, d.endAll = context.WithCancelCause(context.Background())
	d.streams, d.endStreams = context.WithCancelCause(context.Background())
	d.app = fiber.New(fiber.Config{
		Immutable:     true, // a kept id would turn into the next request's
		StrictRouting: true, CaseSensitive: true,
		DisableStartupMessage: true, DisablePreParseMultipartForm: true,
		StreamRequestBody: true, // see receive: nothing but it bounds a body
		BodyLimit:         cfg.MaxBody, ReadBufferSize: headerBytes, Concurrency: maxConns,
		ReadTimeout: readTimeout, IdleTimeout: idleTimeout, // writes are bounded by the connection
		ErrorHandler: d.unserved,
	})
	srv := d.app.Server()
	srv.CloseOnShutdown = true
	srv.Handler = d.outermost(srv.Handler, srv.ErrorHandler)
	d.probes()
	return d, nil
}

// outermost keeps a panic of the framework's own from ending the process, receives
// bodies, and answers methods that the framework doesn't know. unread answers as the
// server does itself when it can't read a request.
func (d *Door) outermost(next fasthttp.RequestHandler, unread func(*fasthttp.RequestCtx, error)) fasthttp.RequestHandler {
	known := map[string]bool{}
	for _, m := range fiber.DefaultMethods {
		known[m] = true
	}
	return func(fctx *fasthttp.RequestCtx) {
		defer func() {
			if p := recover(); p != nil {
				d.logPanic("", p)
				fctx.Response.Reset()
				fctx.SetStatusCode(http.StatusInternalServerError)
				fctx.SetConnectionClose()
			}
		}()
		if limit := d.uploads(fctx); limit > 0 {
			b := newBody(fctx, limit, d.cfg.BodyIdle)
			defer b.settle(fctx)
		} else if err := d.receive(fctx); err != nil {
			unread(fctx, err)
			fctx.SetConnectionClose()
			return
		}
		if !known[string(fctx.Method())] {
			c := d.app.AcquireCtx(fctx)
			defer d.app.ReleaseCtx(c)
			d.fail(c, d.begin(c, ""), errMethod)
			return
		}
		next(fctx)
	}
}

// Serve serves ln (plain or TLS) until Shutdown, and closes it. It returns nil
// after a Shutdown, also one that came first.
func (d *Door) Serve(ln net.Listener) error {
	own := &listener{Listener: ln, conns: map[*conn]struct{}{}}
	d.mu.Lock()
	if d.closing || d.ln != nil {
		closing := d.closing
		d.mu.Unlock()
		_ = ln.Close()
		if !closing {
			return errors.New("rest: a door serves one listener")
		}
		return nil
	}
	d.ln = own
	d.mu.Unlock()
	return d.app.Listener(own)
}

// LetStreams has Shutdown let streams go on for so long before it ends them. Call it
// before Serve.
func (d *Door) LetStreams(grace time.Duration) { d.grace = grace + streamGrace }

// Shutdown stops accepting, lets requests end, ends streams that last with a last
// event, and returns when all have ended or ctx has: then the rest is cancelled, its
// settling waited for one second more, and the connections closed.
func (d *Door) Shutdown(ctx context.Context) error {
	d.mu.Lock()
	d.closing = true
	ln := d.ln
	d.mu.Unlock()
	defer d.endAll(ErrShuttingDown)
	defer d.endStreams(ErrShuttingDown)
	if ln == nil {
		return nil
	}
	_ = ln.Close() // Serve may not have come to know it yet
	drained := make(chan error, 1)
	go func() { drained <- d.app.ShutdownWithContext(ctx) }()
	unused := time.AfterFunc(unusedGrace, func() { ln.cut(false) })
	defer unused.Stop()
	streams := time.AfterFunc(d.grace, func() { d.endStreams(ErrShuttingDown) })
	defer streams.Stop()
	err := <-drained
	if errors.Is(err, net.ErrClosed) {
		err = nil // closed above
	}
	return errors.Join(err, d.settle(ln, err != nil))
}

// settle waits for handlers: a client that has gone leaves no connection, and
// its handler may still be writing down what was done.
func (d *Door) settle(ln *listener, late bool) error {
	if late {
		d.endStreams(ErrShuttingDown)
		d.endAll(ErrShuttingDown)
	}
	ended := make(chan struct{})
	go func() {
		d.work.Wait()
		close(ended)
	}()
	defer ln.cut(true)
	select {
	case <-ended:
		return nil
	case <-time.After(settleTime):
		return errors.New("requests were still running")
	}
}

// enter counts a request in, unless the door is closing.
func (d *Door) enter() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.closing {
		return false
	}
	d.work.Add(1)
	return true
}
