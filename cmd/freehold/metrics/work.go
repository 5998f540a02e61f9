package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freehold/catalog"
)

// workTime bounds a scrape's question to the catalog.
const workTime = time.Second

var (
	workJobs = prometheus.NewDesc("freehold_work_jobs",
		"Tenants' fine-tuning jobs in the queue, of all nodes, by state: waiting or running.", []string{"state"}, nil)
	workOldest = prometheus.NewDesc("freehold_work_oldest_waiting_seconds",
		"Age of the fine-tuning job that waits longest; 0 without one.", nil, nil)
	workFailing = prometheus.NewDesc("freehold_work_failing_jobs",
		"Fine-tuning jobs that failed three times or more.", nil, nil)
)

// workCollector asks for the queue of fine-tuning at each scrape.
type workCollector struct {
	look func(context.Context) (catalog.WorkView, error)
}

// Work adds the queue of fine-tuning, through what is called at each scrape: while
// it answers with an error, or not within a second, these metrics are missing. It is
// called once.
func (m *Metrics) Work(look func(context.Context) (catalog.WorkView, error)) {
	m.registry.MustRegister(workCollector{look})
}

func (c workCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- workJobs
	ch <- workOldest
	ch <- workFailing
}

func (c workCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), workTime) // a scrape has none
	defer cancel()
	v, err := c.look(ctx)
	if err != nil {
		return
	}
	failing := 0
	for _, w := range v.Failing {
		failing += w.Count
	}
	ch <- prometheus.MustNewConstMetric(workJobs, prometheus.GaugeValue, float64(v.Waiting), "waiting")
	ch <- prometheus.MustNewConstMetric(workJobs, prometheus.GaugeValue, float64(v.Running), "running")
	ch <- prometheus.MustNewConstMetric(workOldest, prometheus.GaugeValue, v.Oldest.Seconds())
	ch <- prometheus.MustNewConstMetric(workFailing, prometheus.GaugeValue, float64(failing))
}
