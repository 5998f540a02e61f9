package metrics_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/metrics"
	"freehold/router"
)

// The queue is counted without naming anybody, and a catalog that is away takes
// nothing else along.
func TestWork(t *testing.T) {
	t.Parallel()
	var away error
	m := metrics.New("v1", func(int) router.View { return router.View{} })
	m.Work(func(ctx context.Context) (catalog.WorkView, error) {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("a scrape waits for as long as it takes")
		}
		return catalog.WorkView{
			Waiting: 3, Running: 2, Oldest: 90 * time.Second,
			Failing: []catalog.WorkTrouble{{Trainer: "openai", Count: 4, Tenants: []string{"acme"}}, {Trainer: "builtin", Count: 1}},
		}, away
	})
	got := text(t, m)
	wants(t, got, `freehold_work_jobs{state="waiting"} 3`, `freehold_work_jobs{state="running"} 2`,
		`freehold_work_oldest_waiting_seconds 90`, `freehold_work_failing_jobs 5`)
	if strings.Contains(got, "acme") {
		t.Error("a tenant is named")
	}
	away = errors.New("away")
	if got := text(t, m); strings.Contains(got, "freehold_work") || !strings.Contains(got, "freehold_build_info") {
		t.Errorf("while the catalog is away:\n%s", got)
	}
}
