package app_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/cmd/freehold/app"
	"freehold/migrations/pgtest"
)

// collector keeps what is sent to it.
type collector struct {
	mu   sync.Mutex // guards what follows
	got  bytes.Buffer
	path string
}

func (c *collector) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = io.Copy(&c.got, r.Body)
	c.path = r.URL.Path
}

// Spans reach the collector, with statements and without what was in them.
func TestTraces(t *testing.T) { //nolint:paralleltest // the environment is the process's
	var c collector
	srv := httptest.NewServer(&c)
	defer srv.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", srv.URL)
	t.Setenv("OTEL_SERVICE_NAME", "freehold-test")

	tr, err := app.OpenTracing(t.Context(), "v1", slog.New(slog.DiscardHandler))
	if err != nil || tr == nil {
		t.Fatal(tr, err)
	}
	ctx, span := tr.Requests().Start(t.Context(), "POST /v1/things")
	config, err := pgx.ParseConfig(pgtest.AdminURL(t))
	if err != nil {
		t.Fatal(err)
	}
	config.Tracer = tr.Statements()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	const secret = "secret-4711"
	var echo string
	if err := conn.QueryRow(ctx, "select 'constant' || $1::text", secret).Scan(&echo); err != nil || !strings.HasSuffix(echo, secret) {
		t.Fatalf("%q: %v", echo, err)
	}
	if err := conn.QueryRow(ctx, "select $1::text::int", secret).Scan(new(int)); err == nil || !strings.Contains(err.Error(), secret) {
		t.Fatalf("the database's error should quote the value: %v", err)
	}
	if err := conn.Close(ctx); err != nil {
		t.Error(err)
	}
	span.RecordError(errors.New(secret))
	span.End()
	bounded, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := tr.Close(bounded); err != nil {
		t.Error(err)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	got := c.got.String()
	for _, want := range []string{"freehold-test", "POST /v1/things", "select 'constant' || $1::text", "22P02"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q was not sent", want)
		}
	}
	if c.path != "/v1/traces" {
		t.Errorf("sent to %s", c.path)
	}
	for _, hidden := range []string{secret, config.Password, "server.address", "user.name", "db.user", "db.namespace"} {
		if strings.Contains(got, hidden) {
			t.Errorf("%s was sent", hidden)
		}
	}
}

// Nothing is recorded unless somebody asks.
func TestTracesOff(t *testing.T) { //nolint:paralleltest // the environment is the process's
	for _, vars := range [][]string{
		{},
		{"OTEL_TRACES_EXPORTER", "none", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"},
		{"OTEL_SDK_DISABLED", "true", "OTEL_TRACES_EXPORTER", "otlp"},
	} {
		t.Run(strings.Join(vars, " "), func(t *testing.T) {
			for i := 0; i < len(vars); i += 2 {
				t.Setenv(vars[i], vars[i+1])
			}
			tr, err := app.OpenTracing(t.Context(), "v1", slog.New(slog.DiscardHandler))
			if tr != nil || err != nil {
				t.Errorf("%v %v", tr, err)
			}
		})
	}
}

func TestTelemetryMistakes(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "collector-hunter2:4318",
		"OTEL_TRACES_EXPORTER":        "jaeger",
	} {
		err := app.FromEnv(env(name, value)).Check(app.NeedAddresses)
		if !errors.Is(err, app.ErrConfig) || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := app.FromEnv(env("OTEL_TRACES_EXPORTER", "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")).Check(app.NeedAddresses)
	if err == nil || !strings.Contains(err.Error(), "http/protobuf") {
		t.Errorf("grpc: %v", err)
	}
}
