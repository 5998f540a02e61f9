package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"freehold/cmd/freehold/rest"
	"freehold/inference/engine"
	"freehold/router"
)

// MediaType is that of Text.
const MediaType = "text/plain; version=0.0.4; charset=utf-8"

// Metrics of one node. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	engines  *prometheus.CounterVec
	overrun  prometheus.Counter
}

// New makes the metrics of the process, of the doors, and of a router through
// its View, which is called at each scrape.
func New(version string, view func(top int) router.View) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freehold_http_requests_total",
			Help: "Answered requests by door, method, route pattern (empty: none matched) and status.",
		}, []string{"door", "method", "route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "freehold_http_request_duration_seconds",
			Help:    "Time to the end of the answer, of a stream to its last event, by door, method and route pattern.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"door", "method", "route"}),
		engines: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freehold_engine_requests_total", Help: "Requests to engines by engine and outcome.",
		}, []string{"engine", "outcome"}),
		overrun: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "freehold_overrun_tokens_total", Help: "Tokens that engines counted beyond the bound that their model declares.",
		}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "freehold_build_info", Help: "1; the label tells the version.", ConstLabels: prometheus.Labels{"version": version},
	})
	info.Set(1)
	m.registry.MustRegister(
		m.requests, m.seconds, m.engines, m.overrun, info, routerCollector{view},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Door counts one door's answers: for rest.Door.Observe.
func (m *Metrics) Door(name string) func(rest.Observation) {
	requests := m.requests.MustCurryWith(prometheus.Labels{"door": name})
	seconds := m.seconds.MustCurryWith(prometheus.Labels{"door": name})
	return func(o rest.Observation) {
		requests.WithLabelValues(o.Method, o.Route, strconv.Itoa(o.Status)).Inc()
		seconds.WithLabelValues(o.Method, o.Route).Observe(o.Took.Seconds())
	}
}

// Overrun counts tokens beyond what was granted: for inference.Config.Overrun.
func (m *Metrics) Overrun(tokens int64) { m.overrun.Add(float64(tokens)) }

// Tried counts a request to an engine by how it ended: for inference.Config.Tried.
func (m *Metrics) Tried(name string, err error) {
	outcome := "succeeded"
	switch {
	case err == nil:
	case errors.Is(err, engine.ErrOpen):
		outcome = "resting" // not asked: its breaker is open
	case errors.Is(err, context.Canceled):
		outcome = "cancelled"
	default:
		outcome = engine.KindOf(err).String()
	}
	m.engines.WithLabelValues(name, outcome).Inc()
}

// Text is all metrics as MediaType.
func (m *Metrics) Text() ([]byte, error) {
	families, err := m.registry.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather metrics: %w", err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			return nil, fmt.Errorf("write metrics: %w", err)
		}
	}
	return b.Bytes(), nil
}
