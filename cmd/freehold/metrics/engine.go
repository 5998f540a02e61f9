package metrics

import "github.com/prometheus/client_golang/prometheus"

var engineBreaker = prometheus.NewDesc("freehold_engine_breaker_open",
	"1: the engine is not asked for a while; 0.5: it is being tried; 0: it is asked.", []string{"engine"}, nil)

// breakerCollector reads the states of engines' breakers by engine: closed,
// half-open or open.
type breakerCollector struct{ states func() map[string]string }

// Breakers adds the engines' breakers, through what is called at each scrape. It is
// called once.
func (m *Metrics) Breakers(states func() map[string]string) {
	m.registry.MustRegister(breakerCollector{states})
}

func (c breakerCollector) Describe(ch chan<- *prometheus.Desc) { ch <- engineBreaker }

func (c breakerCollector) Collect(ch chan<- prometheus.Metric) {
	for name, state := range c.states() {
		ch <- prometheus.MustNewConstMetric(engineBreaker, prometheus.GaugeValue, breaker(state), name)
	}
}
