package rest

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/gofiber/fiber/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"freehold/inference/engine"
)

// Observation is one answered request as a metric may have it: the route's
// pattern, never the path, the tenant or anything that a client made up.
type Observation struct {
	Method string // a standard one, or "other"
	Route  string // empty when none matched
	Status int
	Took   time.Duration // of a stream, until its last event
}

// Observe has fn called with each answer, after it, on the goroutine that
// answered. Call it before Serve.
func (d *Door) Observe(fn func(Observation)) { d.observe = fn }

// Ended is how a request of a tenant's ended, as far as it tells how the tenant is
// served: that it was, or that the platform failed it.
type Ended struct {
	Tenant string
	Failed bool
	// Took is until its answer, of a stream until its first event and of a download until
	// its first byte; the time in which an upload arrived is left out.
	Took time.Duration
}

// ObserveTenants has fn called with each of them, on the goroutine that answered:
// it must be quick. Left out are refusals, which are the client's doing or the
// tenant's policy's, what an engine failed, and what a stopping node turns away. Call
// it before Serve.
func (d *Door) ObserveTenants(fn func(Ended)) { d.tenants = fn }

// outcome is what an answer says of how its tenant is served.
type outcome int

const (
	served outcome = iota
	failed
	neither
)

// outcome of an error. Who goes away may have waited for too long: that it waited
// counts.
func (e *Error) outcome() outcome {
	_, engines := errors.AsType[*engine.Error](e.Err)
	switch {
	case e.clientGone:
		return served
	case e.Status < http.StatusInternalServerError, engines, e.Code == codeStopping:
		return neither
	}
	return failed
}

// told has whoever watches over tenants know of a call that has ended.
func (d *Door) told(cl *call) {
	if d.tenants == nil || cl.tenant == "" || cl.outcome == neither {
		return
	}
	took := cl.first
	if took == 0 {
		took = time.Since(cl.started) - cl.arrival
	}
	d.tenants(Ended{Tenant: cl.tenant, Failed: cl.outcome == failed, Took: took})
}

// Trace has t record a span for each request that reached a route, the probes
// left out. Call it before Serve.
func (d *Door) Trace(t trace.Tracer) { d.tracer = t }

// isProbe reports whether machines ask for the route every few seconds: nobody
// reads about each time.
func isProbe(route string) bool {
	return route == "/healthz" || route == "/readyz" || route == "/metrics"
}

// startSpan begins the call's span. A client's own trace is linked to and never
// continued: whoever holds a key must not decide what is recorded here.
func (d *Door) startSpan(ctx context.Context, c *fiber.Ctx, cl *call) context.Context {
	if d.tracer == nil || isProbe(cl.route) {
		return ctx
	}
	opts := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(
			attribute.String("http.request.method", cl.method),
			attribute.String("http.route", cl.route),
			attribute.String("freehold.request_id", cl.id),
		),
	}
	theirs := propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": c.Get("traceparent")})
	if sc := trace.SpanContextFromContext(theirs); sc.IsValid() {
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: sc}))
	}
	ctx, cl.span = d.tracer.Start(ctx, cl.method+" "+cl.route, opts...)
	return ctx
}

// observed ends what was begun to be told of a call.
func (d *Door) observed(cl *call, status int, code string) {
	d.told(cl)
	if cl.span != nil {
		cl.span.SetAttributes(attribute.Int("http.response.status_code", status))
		if code != "" {
			cl.span.SetAttributes(attribute.String("error.type", code))
		}
		if status >= http.StatusInternalServerError {
			cl.span.SetStatus(codes.Error, code)
		}
		cl.span.End()
	}
	if d.observe != nil {
		method := cl.method
		if !slices.Contains(fiber.DefaultMethods, method) {
			method = "other"
		}
		d.observe(Observation{Method: method, Route: cl.route, Status: status, Took: time.Since(cl.started)})
	}
}
