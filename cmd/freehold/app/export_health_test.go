package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
)

// HealthTenants is how many tenants a node remembers.
const HealthTenants = healthTenants

// HealthCatalog is what a node asks and tells the catalog.
type HealthCatalog struct {
	Waves   func(ctx context.Context) ([]catalog.WatchedWave, error)
	Tenants func(ctx context.Context, rollout string, wave int) ([]catalog.TenantID, error)
	Report  func(ctx context.Context, node uuid.UUID, rollout string, wave int, slots []catalog.HealthSlot) error
}

// WaveHealth is how a node tells of waves.
type WaveHealth struct{ h *waveHealth }

// NewWaveHealth makes it with slots of this length, told of every so often.
func NewWaveHealth(c HealthCatalog, slot, every time.Duration, log *slog.Logger) (WaveHealth, error) {
	ring, err := newHealthRing(slot)
	return WaveHealth{&waveHealth{
		healthRing: ring, every: every, node: uuid.New(), log: log,
		waves: c.Waves, tenants: c.Tenants, report: c.Report, watched: map[waveKey]*waveWatch{},
	}}, err
}

// Count counts a request.
func (w WaveHealth) Count(e rest.Ended) { w.h.count(e) }

// Run tells until ctx ends.
func (w WaveHealth) Run(ctx context.Context) { w.h.run(ctx) }

// Remembered counts the tenants that are remembered.
func (w WaveHealth) Remembered() (n int) {
	for i := range w.h.shards {
		n += w.h.shards[i].tenants.Len()
	}
	return n
}
