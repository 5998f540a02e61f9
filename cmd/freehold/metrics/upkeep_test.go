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

// Every tenant outside its backup target has one series of one name; moves and what
// they left are counted; and a catalog that is away takes nothing else along.
func TestUpkeep(t *testing.T) {
	t.Parallel()
	var away error
	m := metrics.New("v1", func(int) router.View { return router.View{} })
	m.Upkeep(func(ctx context.Context, bounds []time.Duration) (catalog.UpkeepFigures, error) {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("a scrape waits for as long as it takes")
		}
		f := catalog.UpkeepFigures{
			Late: []catalog.LateBackup{
				{Tenant: "acme", Target: 24 * time.Hour, Age: 26 * time.Hour, Of: 3},
				{Tenant: "globex", Target: time.Hour, Age: 90 * time.Minute, Of: 3}, {Tenant: "acme", Of: 3},
			},
			Kept: 4, Moves: map[string]int64{"done": 7, "cancelled": 1, "failed": 2}, Pauses: 7, PauseSum: 3500 * time.Millisecond,
		}
		for _, b := range bounds {
			f.PauseCounts = append(f.PauseCounts, min(7, int64(b/(250*time.Millisecond))))
		}
		return f, away
	})
	got := text(t, m)
	wants(t, got,
		`freehold_tenant_backup_overdue_seconds{tenant="acme"} 7200`, `freehold_tenant_backup_overdue_seconds{tenant="globex"} 1800`,
		`freehold_tenants_backup_overdue 3`, `freehold_kept_databases 4`,
		`freehold_moves_total{result="done"} 7`, `freehold_moves_total{result="cancelled"} 1`, `freehold_moves_failed 2`,
		`freehold_move_pause_seconds_bucket{le="0.1"} 0`, `freehold_move_pause_seconds_bucket{le="1"} 4`,
		`freehold_move_pause_seconds_bucket{le="+Inf"} 7`, `freehold_move_pause_seconds_sum 3.5`, `freehold_move_pause_seconds_count 7`,
	)
	if n := strings.Count(got, `tenant="acme"`); n != 1 {
		t.Errorf("acme has %d series", n)
	}
	away = errors.New("away")
	if got := text(t, m); strings.Contains(got, "freehold_move") || !strings.Contains(got, "freehold_build_info") {
		t.Errorf("while the catalog is away:\n%s", got)
	}
}
