package metrics

import (
	"cmp"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freehold/router"
)

// busiest is how many tenants have metrics of their own.
const busiest = 20

// reading is one number of a T, read from a View at each scrape.
type reading[T any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(T) float64
}

func gauge[T any](name, help string, value func(T) float64, labels ...string) reading[T] {
	return reading[T]{prometheus.NewDesc("freehold_router_"+name, help, labels, nil), prometheus.GaugeValue, value}
}

func counter[T any](name, help string, value func(T) float64, labels ...string) reading[T] {
	return reading[T]{prometheus.NewDesc("freehold_router_"+name, help, labels, nil), prometheus.CounterValue, value}
}

func (r reading[T]) send(ch chan<- prometheus.Metric, of T, labels ...string) {
	ch <- prometheus.MustNewConstMetric(r.desc, r.kind, r.value(of), labels...)
}

// number reads an integer field.
func number[T any, N int | int64](field func(T) N) func(T) float64 {
	return func(of T) float64 { return float64(field(of)) }
}

// seconds reads a duration.
func seconds[T any](field func(T) time.Duration) func(T) float64 {
	return func(of T) float64 { return field(of).Seconds() }
}

type (
	stats  = router.Stats
	server = router.ServerView
	tenant = router.TenantView
)

var totals = []reading[stats]{
	gauge("pools", "Tenants' pools that are open.", number(func(s stats) int { return s.Pools })),
	gauge("pools_pinned", "Pools with a borrower.", number(func(s stats) int { return s.Pinned })),
	gauge("pools_closing", "Pools out of use that wait for borrowers or for the server.", number(func(s stats) int { return s.Closing })),
	gauge("opening", "Look-ups and cold opens under way.", number(func(s stats) int { return s.Opening })),
	gauge("connections", "Connections of all pools.", number(func(s stats) int { return s.Conns })),
	gauge("leases", "Connections lent out.", number(func(s stats) int { return s.Leases })),
	gauge("oldest_lease_seconds", "Age of the lease that is out longest; 0 without one.", seconds(func(s stats) time.Duration { return s.OldestLease })),
	counter("hits_total", "Borrows that found their pool open.", number(func(s stats) int64 { return s.Hits })),
	counter("misses_total", "Look-ups that borrows started.", number(func(s stats) int64 { return s.Misses })),
	counter("evictions_total", "Pools closed to keep the bound on pools.", number(func(s stats) int64 { return s.Evictions })),
	counter("open_errors_total", "Cold opens that failed.", number(func(s stats) int64 { return s.OpenErrors })),
}

var servers = []reading[server]{
	gauge("server_budget", "Connections that all nodes together may hold.", number(func(s server) int { return s.Budget }), "server"),
	gauge("server_share", "This node's part of the budget.", number(func(s server) int { return s.Share }), "server"),
	gauge("server_used", "Connections of the share that pools hold: open, opening, closing.", number(func(s server) int { return s.Used }), "server"),
	gauge("server_idle", "Connections that nobody borrows.", number(func(s server) int { return s.Idle }), "server"),
	gauge("server_leased", "Connections lent out.", number(func(s server) int { return s.Leased }), "server"),
	gauge("server_dialing", "Connections being opened.", number(func(s server) int { return s.Dialing }), "server"),
	gauge("server_closing", "Connections whose end the server hasn't closed yet.", number(func(s server) int { return s.Closing }), "server"),
	gauge("server_waiting", "Callers in the queue.", number(func(s server) int { return s.Waiting }), "server"),
	gauge("server_oldest_wait_seconds", "How long the caller has waited who waits longest.", seconds(func(s server) time.Duration { return s.OldestWait }), "server"),
	gauge("server_expected_wait_seconds", "How long a new caller would wait.", seconds(func(s server) time.Duration { return s.ExpectedWait }), "server"),
	gauge("server_breaker_open", "1 while the server's breaker refuses, 0.5 while it tries again, 0 else.", func(s server) float64 { return breaker(s.Breaker) }, "server"),
	counter("server_dials_total", "Connections begun.", number(func(s server) int64 { return s.Dials }), "server"),
	counter("server_dial_errors_total", "Connections that did not come about.", number(func(s server) int64 { return s.DialErrors }), "server"),
	counter("server_reclaims_total", "Idle connections closed for another tenant.", number(func(s server) int64 { return s.Reclaims }), "server"),
	counter("server_refusals_total", "Callers told to come back later.", number(func(s server) int64 { return s.Refusals }), "server"),
	counter("server_failovers_total", "Times that all connections were dropped at once.", number(func(s server) int64 { return s.Failovers }), "server"),
}

// histogram is a server's durations.
type histogram struct {
	desc  *prometheus.Desc
	value func(server) router.Histogram
}

var histograms = []histogram{
	{
		prometheus.NewDesc("freehold_router_server_lease_seconds", "How long connections were lent.", []string{"server"}, nil),
		func(s server) router.Histogram { return s.Leases },
	},
	{
		prometheus.NewDesc("freehold_router_server_wait_seconds", "How long callers that were served stood in the queue.", []string{"server"}, nil),
		func(s server) router.Histogram { return s.Waits },
	},
}

func (h histogram) send(ch chan<- prometheus.Metric, s server, labels ...string) {
	v := h.value(s)
	buckets := make(map[float64]uint64, len(v.Bounds))
	for i, bound := range v.Bounds {
		buckets[bound] = v.Counts[i]
	}
	ch <- prometheus.MustNewConstHistogram(h.desc, v.Total, v.Sum, buckets, labels...)
}

// A tenant drops out of these when others are busier.
var tenants = []reading[tenant]{
	gauge("tenant_connections", "Connections held for one of the busiest tenants.", number(func(t tenant) int { return t.Conns }), "tenant"),
	gauge("tenant_leased", "Connections lent out to one of the busiest tenants.", number(func(t tenant) int { return t.Leased }), "tenant"),
	gauge("tenant_waiting", "Callers of one of the busiest tenants in the queue.", number(func(t tenant) int { return t.Waiting }), "tenant"),
	gauge("tenant_borrows_per_second", "Recent borrows of one of the busiest tenants.", func(t tenant) float64 { return t.BorrowsPerSecond }, "tenant"),
}

// breaker turns a breaker's state into a number to draw and to alert on.
func breaker(state string) float64 {
	switch state {
	case "open":
		return 1
	case "half-open":
		return .5
	default:
		return 0
	}
}

// routerCollector reads a View at each scrape: between scrapes it costs nothing.
type routerCollector struct{ view func(top int) router.View }

func (c routerCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, r := range totals {
		ch <- r.desc
	}
	for _, r := range servers {
		ch <- r.desc
	}
	for _, h := range histograms {
		ch <- h.desc
	}
	for _, r := range tenants {
		ch <- r.desc
	}
}

func (c routerCollector) Collect(ch chan<- prometheus.Metric) {
	v := c.view(busiest)
	for _, r := range totals {
		r.send(ch, v.Stats)
	}
	for _, s := range v.Servers {
		name := cmp.Or(s.Name, s.ID)
		for _, r := range servers {
			r.send(ch, s, name)
		}
		for _, h := range histograms {
			h.send(ch, s, name)
		}
	}
	// A slug can be given anew while the old tenant's pool is still closing.
	seen := map[string]bool{}
	for _, t := range v.Tenants[:min(len(v.Tenants), busiest)] {
		if seen[t.Slug] {
			continue
		}
		seen[t.Slug] = true
		for _, r := range tenants {
			r.send(ch, t, t.Slug)
		}
	}
}
