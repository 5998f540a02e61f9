package rest_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"freehold/cmd/freehold/rest"
)

// watched is a door whose observations and spans are kept.
type watched struct {
	*bundle
	mu    sync.Mutex // guards seen
	seen  []rest.Observation
	spans *tracetest.InMemoryExporter
}

func setupWatched(t *testing.T, routes ...rest.Route[nobody]) *watched {
	t.Helper()
	l := &logs{}
	d, err := rest.New(rest.Config{Title: "test", Logger: slog.New(slog.NewTextHandler(l, nil))})
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{spans: tracetest.NewInMemoryExporter()}
	d.Observe(func(o rest.Observation) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen = append(w.seen, o)
	})
	d.Trace(sdktrace.NewTracerProvider(sdktrace.WithSyncer(w.spans)).Tracer("test"))
	rest.Mount(d, open, routes)
	w.bundle = serve(t, d, l)
	return w
}

func (w *watched) observed() []rest.Observation {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.seen)
}

// What is counted bears the route's pattern, whatever the client asked for.
func TestObserve(t *testing.T) {
	t.Parallel()
	w := setupWatched(t,
		get("/things/{id}", func(context.Context, *rest.Request) (any, error) { return thing{}, nil }),
		get("/broken", func(context.Context, *rest.Request) (any, error) { panic("secret-4711") }),
	)
	w.do("GET", "/things/secret-4711?q=secret-4711", "")
	w.do("GET", "/secret-4711", "")
	w.do("SECRET-4711", "/things/1", "")
	w.do("DELETE", "/things/1", "")
	w.do("GET", "/broken", "")
	w.do("GET", "/healthz", "")
	want := []rest.Observation{
		{Method: "GET", Route: "/things/{id}", Status: 200},
		{Method: "GET", Status: 404},
		{Method: "other", Status: 405},
		{Method: "DELETE", Status: 405},
		{Method: "GET", Route: "/broken", Status: 500},
		{Method: "GET", Route: "/healthz", Status: 200},
	}
	got := w.observed()
	for i := range got {
		if took := got[i].Took; took <= 0 || took > 10*time.Second {
			t.Errorf("%v took %s", got[i], took)
		}
		got[i].Took = 0
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// A request is a span of its own trace; nothing of what it carries is in it.
func TestTrace(t *testing.T) {
	t.Parallel()
	inner := make(chan trace.SpanContext, 4)
	w := setupWatched(t,
		get("/things/{id}", func(ctx context.Context, _ *rest.Request) (any, error) {
			inner <- trace.SpanContextFromContext(ctx)
			return thing{Name: "secret-4711"}, nil
		}),
		get("/broken", func(context.Context, *rest.Request) (any, error) { return nil, context.DeadlineExceeded }),
	)
	w.do("GET", "/healthz", "")
	w.do("GET", "/things/secret-4711?q=secret-4711", "", "X-Request-Id", "req-7", "Authorization", "Bearer secret-4711",
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	w.do("GET", "/broken", "")

	spans := w.spans.GetSpans()
	if len(spans) != 2 {
		t.Fatalf("%d spans, want 2", len(spans))
	}
	s := spans[0]
	if s.Name != "GET /things/{id}" || s.SpanContext.TraceID() != (<-inner).TraceID() || s.Parent.IsValid() {
		t.Errorf("span %s, parent %v", s.Name, s.Parent)
	}
	if len(s.Links) != 1 || s.Links[0].SpanContext.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("links %v", s.Links)
	}
	if got := attributes(s); got != "freehold.request_id=req-7 http.request.method=GET http.response.status_code=200 http.route=/things/{id}" {
		t.Errorf("attributes %s", got)
	}
	if late := spans[1]; late.Status.Code != codes.Error || late.Status.Description != "engine_timeout" {
		t.Errorf("failed request: %+v", late.Status)
	}
}

func attributes(s tracetest.SpanStub) string {
	var list []string
	for _, kv := range s.Attributes {
		list = append(list, string(kv.Key)+"="+kv.Value.String())
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// A stream counts once, when it has ended.
func TestObserveStream(t *testing.T) {
	t.Parallel()
	w := setupWatched(t, rest.Route[nobody]{
		Method: "GET", Path: "/stream", Summary: "test",
		Endpoint: rest.Raw[thing, thing](func(context.Context, nobody, *rest.Request) (*rest.Reply, error) {
			return rest.Stream(func(_ context.Context, send func(any) error) error { return send(thing{Name: "x"}) }), nil
		}),
	})
	w.do("GET", "/stream", "")
	for deadline := time.Now().Add(5 * time.Second); len(w.observed()) == 0 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	got := w.observed()
	if len(got) != 1 || got[0].Route != "/stream" || got[0].Status != 200 || len(w.spans.GetSpans()) != 1 {
		t.Errorf("observed %+v, %d spans", got, len(w.spans.GetSpans()))
	}
}

// Text goes out as it is, and the document names its type.
func TestText(t *testing.T) {
	t.Parallel()
	b := setup(t, rest.Route[nobody]{
		Method: "GET", Path: "/notes", Summary: "test",
		Endpoint: rest.Text("text/plain; charset=utf-8", func(context.Context, nobody, *rest.Request) ([]byte, error) {
			return []byte("a < b\n"), nil
		}),
	})
	a := b.do("GET", "/notes", "")
	if a.status != 200 || a.body != "a < b\n" || a.header.Get("Content-Type") != "text/plain; charset=utf-8" || a.header.Get("X-Request-Id") == "" {
		t.Errorf("%+v", a)
	}
	if doc := b.do("GET", "/openapi.json", "").body; !strings.Contains(doc, `"text/plain; charset=utf-8":{"schema":{"type":"string"}}`) {
		t.Errorf("document: %s", doc)
	}
}
