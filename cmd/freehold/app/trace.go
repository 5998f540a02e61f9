package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/exaring/otelpgx"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Telemetry is what OTEL_* says about traces, as far as it decides something
// here; all else the exporter reads by itself.
type Telemetry struct {
	Disabled bool   // OTEL_SDK_DISABLED
	Exporter string // OTEL_TRACES_EXPORTER
	Endpoint string // OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, or OTEL_EXPORTER_OTLP_ENDPOINT
	Protocol string // OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, or OTEL_EXPORTER_OTLP_PROTOCOL
}

func telemetryFromEnv(getenv func(string) string) Telemetry {
	return Telemetry{
		Disabled: strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true"),
		Exporter: getenv("OTEL_TRACES_EXPORTER"),
		Endpoint: cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), getenv("OTEL_EXPORTER_OTLP_ENDPOINT")),
		Protocol: cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), getenv("OTEL_EXPORTER_OTLP_PROTOCOL")),
	}
}

// wanted reports whether anybody asked for traces.
func (t Telemetry) wanted() bool {
	return !t.Disabled && (t.Exporter == "otlp" || t.Exporter == "" && t.Endpoint != "")
}

func (t Telemetry) check() error {
	if t.Disabled {
		return nil
	}
	var errs []error
	if !slices.Contains([]string{"", "otlp", "none"}, t.Exporter) {
		errs = append(errs, fmt.Errorf("OTEL_TRACES_EXPORTER: %q is neither otlp nor none", t.Exporter))
	}
	if !t.wanted() {
		return errors.Join(errs...)
	}
	if !slices.Contains([]string{"", "http/protobuf", "http/json"}, t.Protocol) {
		errs = append(errs, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL: %q is neither http/protobuf nor http/json", t.Protocol))
	}
	if u, err := url.Parse(t.Endpoint); t.Endpoint != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		// Not quoted: it may hold a password.
		errs = append(errs, errors.New("OTEL_EXPORTER_OTLP_ENDPOINT: want http://HOST:PORT or https://HOST:PORT"))
	}
	return errors.Join(errs...)
}

// tracing records spans and sends them to a collector. Close it.
type tracing struct{ provider *sdktrace.TracerProvider }

// openTracing returns nil when nobody asked for traces.
func openTracing(ctx context.Context, t Telemetry, version string, log *slog.Logger) (*tracing, error) {
	if !t.wanted() {
		return nil, nil
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("open traces: %w", err)
	}
	what, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "freehold"), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(),
		resource.WithFromEnv(), // last: OTEL_SERVICE_NAME wins
	)
	if err != nil {
		return nil, fmt.Errorf("%w: OTEL_RESOURCE_ATTRIBUTES: %w", ErrConfig, err)
	}
	// A collector that is away concerns no request: it is logged, and that is all.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces are not sent", "error", unsent(err)) }))
	return &tracing{sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(discreet{exporter}), sdktrace.WithResource(what),
	)}, nil
}

// unsent says why traces are not sent, in words that are not the collector's: it may
// send back the headers that it is let in by.
func unsent(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "the collector did not answer in time"
	}
	return "the collector did not take them"
}

// requests is the tracer of the doors.
func (t *tracing) requests() trace.Tracer { return t.provider.Tracer("freehold") }

// statements is the tracer of the router's connections. Statements are constants
// of ours; their parameters, which are content, and where a connection leads stay
// out of it.
func (t *tracing) statements() *otelpgx.Tracer {
	return otelpgx.NewTracer(otelpgx.WithTracerProvider(t.provider), otelpgx.WithDisableConnectionDetailsInAttributes())
}

// close sends what is left until ctx ends.
func (t *tracing) close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("send last traces: %w", err)
	}
	return nil
}

// discreet keeps errors' texts back: a database's quotes the value that it could
// not take, and a driver's names hosts and roles. SQLSTATE and the type of the
// error remain.
type discreet struct{ sdktrace.SpanExporter }

func (d discreet) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	kept := make([]sdktrace.ReadOnlySpan, len(spans))
	for i, s := range spans {
		kept[i] = wordless{s}
	}
	return d.SpanExporter.ExportSpans(ctx, kept)
}

// wordless is a span without what errors said.
type wordless struct{ sdktrace.ReadOnlySpan }

func (s wordless) Status() sdktrace.Status {
	return sdktrace.Status{Code: s.ReadOnlySpan.Status().Code}
}

func (s wordless) Events() []sdktrace.Event {
	events := slices.Clone(s.ReadOnlySpan.Events())
	for i, e := range events {
		events[i].Attributes = slices.DeleteFunc(slices.Clone(e.Attributes), func(kv attribute.KeyValue) bool {
			return kv.Key == "exception.message" || kv.Key == "exception.stacktrace"
		})
	}
	return events
}
