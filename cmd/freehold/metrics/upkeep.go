package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freehold/catalog"
)

// pauseBounds are the buckets of moves' pauses.
var pauseBounds = []time.Duration{
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
	5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 10 * time.Minute, time.Hour,
}

var (
	backupOverdue = prometheus.NewDesc("freehold_tenant_backup_overdue_seconds",
		"By how much the newest backup of a tenant is older than its plan says; of each tenant outside its target.", []string{"tenant"}, nil)
	backupsOverdue = prometheus.NewDesc("freehold_tenants_backup_overdue",
		"Tenants whose newest backup is older than their plan says.", nil, nil)
	keptDatabases = prometheus.NewDesc("freehold_kept_databases",
		"Databases that their tenants have left and that aren't dropped yet.", nil, nil)
	movesEnded = prometheus.NewDesc("freehold_moves_total",
		"Moves of tenants that have ended, of all nodes, by result: done or cancelled.", []string{"result"}, nil)
	movesFailed = prometheus.NewDesc("freehold_moves_failed",
		"Moves of tenants that failed and wait for a person.", nil, nil)
	movePause = prometheus.NewDesc("freehold_move_pause_seconds",
		"For how long moves that are done have paused their tenants, of all nodes.", nil, nil)
)

// upkeepCollector asks for backups and moves at each scrape.
type upkeepCollector struct {
	look func(ctx context.Context, bounds []time.Duration) (catalog.UpkeepFigures, error)
}

// Upkeep adds tenants' backups and moves, through what is called at each scrape: while
// it answers with an error, or not within a second, these metrics are missing. It is
// called once.
func (m *Metrics) Upkeep(look func(ctx context.Context, bounds []time.Duration) (catalog.UpkeepFigures, error)) {
	m.registry.MustRegister(upkeepCollector{look})
}

func (c upkeepCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{backupOverdue, backupsOverdue, keptDatabases, movesEnded, movesFailed, movePause} {
		ch <- d
	}
}

func (c upkeepCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), workTime) // a scrape has none
	defer cancel()
	f, err := c.look(ctx, pauseBounds)
	if err != nil || len(f.PauseCounts) != len(pauseBounds) {
		return
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	overdue, named := 0, map[string]bool{}
	for _, l := range f.Late {
		overdue = l.Of
		if !named[l.Tenant] { // the same series twice would spoil the whole scrape
			gauge(backupOverdue, (l.Age - l.Target).Seconds(), l.Tenant)
		}
		named[l.Tenant] = true
	}
	gauge(backupsOverdue, float64(overdue))
	gauge(keptDatabases, float64(f.Kept))
	gauge(movesFailed, float64(f.Moves[catalog.OperationFailed]))
	for _, result := range []string{catalog.OperationDone, catalog.OperationCancelled} {
		ch <- prometheus.MustNewConstMetric(movesEnded, prometheus.CounterValue, float64(f.Moves[result]), result)
	}
	buckets := make(map[float64]uint64, len(pauseBounds))
	for i, bound := range pauseBounds {
		buckets[bound.Seconds()] = uint64(max(0, f.PauseCounts[i]))
	}
	ch <- prometheus.MustNewConstHistogram(movePause, uint64(max(0, f.Pauses)), f.PauseSum.Seconds(), buckets)
}
