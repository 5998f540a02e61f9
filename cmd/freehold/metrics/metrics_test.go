package metrics_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"freehold/cmd/freehold/metrics"
	"freehold/cmd/freehold/rest"
	"freehold/router"
)

// text is what a scrape gives, and checks that Prometheus would have it so.
func text(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	b, err := m.Text()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.New(strings.NewReader(string(b))).Lint()
	if err != nil {
		t.Fatalf("unreadable: %v\n%s", err, b)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	return string(b)
}

func wants(t *testing.T, got string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+got, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestRouter(t *testing.T) {
	t.Parallel()
	v := router.View{
		Stats: router.Stats{Pools: 3, Leases: 2, OldestLease: 1500 * time.Millisecond, Hits: 41},
		Servers: []router.ServerView{
			{ID: "1", Name: "pg-1", Budget: 100, Share: 50, Used: 12, Waiting: 4, OldestWait: 250 * time.Millisecond, Breaker: "closed", Dials: 9, Reclaims: 7,
				Waits: router.Histogram{Bounds: []float64{0.001, 0.5}, Counts: []uint64{2, 5}, Total: 6, Sum: 3.5}},
			{ID: "2", Name: "pg-2", Breaker: "open", Refusals: 5},
			{ID: "3", Name: "pg-3", Breaker: "half-open"},
		},
		Tenants: []router.TenantView{
			{ID: "a", Slug: "acme", Conns: 4, Leased: 3, Waiting: 2, BorrowsPerSecond: 12.5},
			{ID: "b", Slug: "acme", Conns: 1}, // the name was given anew
		},
	}
	m := metrics.New("v1", func(int) router.View { return v })
	wants(t, text(t, m),
		`freehold_build_info{version="v1"} 1`,
		`freehold_router_pools 3`,
		`freehold_router_leases 2`,
		`freehold_router_oldest_lease_seconds 1.5`,
		`freehold_router_hits_total 41`,
		`freehold_router_server_budget{server="pg-1"} 100`,
		`freehold_router_server_share{server="pg-1"} 50`,
		`freehold_router_server_used{server="pg-1"} 12`,
		`freehold_router_server_waiting{server="pg-1"} 4`,
		`freehold_router_server_oldest_wait_seconds{server="pg-1"} 0.25`,
		`freehold_router_server_dials_total{server="pg-1"} 9`,
		`freehold_router_server_reclaims_total{server="pg-1"} 7`,
		`freehold_router_server_wait_seconds_bucket{server="pg-1",le="0.5"} 5`,
		`freehold_router_server_wait_seconds_bucket{server="pg-1",le="+Inf"} 6`,
		`freehold_router_server_wait_seconds_sum{server="pg-1"} 3.5`,
		`freehold_router_server_lease_seconds_count{server="pg-1"} 0`,
		`freehold_router_server_refusals_total{server="pg-2"} 5`,
		`freehold_router_server_breaker_open{server="pg-1"} 0`,
		`freehold_router_server_breaker_open{server="pg-2"} 1`,
		`freehold_router_server_breaker_open{server="pg-3"} 0.5`,
		`freehold_router_tenant_connections{tenant="acme"} 4`,
		`freehold_router_tenant_waiting{tenant="acme"} 2`,
		`freehold_router_tenant_borrows_per_second{tenant="acme"} 12.5`,
	)
	v.Stats.Hits = 42
	wants(t, text(t, m), `freehold_router_hits_total 42`)
}

// However many tenants a node serves, the busiest alone have series.
func TestBoundedTenants(t *testing.T) {
	t.Parallel()
	asked := 0
	m := metrics.New("v1", func(top int) router.View {
		asked = top
		var v router.View
		for i := range 10_000 {
			v.Tenants = append(v.Tenants, router.TenantView{Slug: fmt.Sprintf("tenant-%d", i)})
		}
		return v
	})
	got := text(t, m)
	if n := strings.Count(got, "\nfreehold_router_tenant_connections{"); n != 20 || asked != 20 {
		t.Errorf("%d series, %d asked for, want 20", n, asked)
	}
	if strings.Contains(got, "tenant-20") {
		t.Error("the 21st tenant has a series")
	}
}

func TestDoors(t *testing.T) {
	t.Parallel()
	m := metrics.New("v1", func(int) router.View { return router.View{} })
	api, admin := m.Door("api"), m.Door("admin")
	api(rest.Observation{Method: "POST", Route: "/v1/embeddings", Status: 200, Took: 30 * time.Millisecond})
	api(rest.Observation{Method: "POST", Route: "/v1/embeddings", Status: 200, Took: 3 * time.Second})
	api(rest.Observation{Method: "other", Status: 405})
	admin(rest.Observation{Method: "GET", Route: "/metrics", Status: 200})
	wants(t, text(t, m),
		`freehold_http_requests_total{door="api",method="POST",route="/v1/embeddings",status="200"} 2`,
		`freehold_http_requests_total{door="api",method="other",route="",status="405"} 1`,
		`freehold_http_requests_total{door="admin",method="GET",route="/metrics",status="200"} 1`,
		`freehold_http_request_duration_seconds_bucket{door="api",method="POST",route="/v1/embeddings",le="0.05"} 1`,
		`freehold_http_request_duration_seconds_count{door="api",method="POST",route="/v1/embeddings"} 2`,
	)
	if got := text(t, m); !strings.Contains(got, "\ngo_goroutines ") || !strings.Contains(got, "\nprocess_open_fds ") {
		t.Error("no metrics of the process")
	}
}
