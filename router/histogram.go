package router

import "time"

// bounds are a histogram's upper bounds.
var bounds = [...]time.Duration{
	time.Millisecond, 5 * time.Millisecond, 25 * time.Millisecond, 100 * time.Millisecond,
	500 * time.Millisecond, 2500 * time.Millisecond, 10 * time.Second,
}

// Histogram counts durations, as Prometheus does: Counts[i] are those up to
// Bounds[i], in seconds, shorter ones included.
type Histogram struct {
	Bounds []float64 `json:"bounds"`
	Counts []uint64  `json:"counts"`
	Total  uint64    `json:"total"`
	Sum    float64   `json:"sum_seconds"`
}

// durations is a histogram that is being filled. Guarded by Router.mu.
type durations struct {
	counts [len(bounds) + 1]uint64
	sum    time.Duration
}

func (d *durations) add(v time.Duration) {
	i := 0
	for i < len(bounds) && v > bounds[i] {
		i++
	}
	d.counts[i]++
	d.sum += v
}

func (d *durations) histogram() Histogram {
	h := Histogram{
		Bounds: make([]float64, len(bounds)), Counts: make([]uint64, len(bounds)), Sum: d.sum.Seconds(),
	}
	for i, n := range d.counts {
		h.Total += n
		if i < len(bounds) {
			h.Bounds[i], h.Counts[i] = bounds[i].Seconds(), h.Total
		}
	}
	return h
}
