package app

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
)

const (
	// watchEvery is how often a node asks which waves are to be watched, and tells of
	// the slots that are over.
	watchEvery = 5 * time.Second
	// clockDrift is how far this process's clock may drift from the catalog's before
	// its slots are set anew.
	clockDrift = time.Second
)

// waveHealth tells the catalog how a rollout's wave is served by this node.
type waveHealth struct {
	*healthRing
	every time.Duration
	node  uuid.UUID
	log   *slog.Logger

	// The catalog's.
	waves   func(ctx context.Context) ([]catalog.WatchedWave, error)
	tenants func(ctx context.Context, rollout string, wave int) ([]catalog.TenantID, error)
	report  func(ctx context.Context, node uuid.UUID, rollout string, wave int, slots []catalog.HealthSlot) error

	// What follows is the goroutine's that runs it.
	base    time.Time // when slot 0 began, by the catalog's clock; zero: not known yet
	watched map[waveKey]*waveWatch
}

type waveKey struct {
	rollout string
	wave    int
}

// waveWatch is how far a wave was told of.
type waveWatch struct {
	counted int // tenants, as the catalog counted them
	tenants map[catalog.TenantID]struct{}
	next    int64 // slot that wasn't told yet
}

func newWaveHealth(c *catalog.Catalog, cache *catalog.Cache, log *slog.Logger) (*waveHealth, error) {
	node, err := uuid.Parse(cache.NodeID())
	if err != nil {
		return nil, err
	}
	ring, err := newHealthRing(healthSlot)
	if err != nil {
		return nil, err
	}
	return &waveHealth{
		healthRing: ring, every: watchEvery, node: node, log: log,
		waves: c.WatchedWaves, tenants: c.WatchedTenants, report: c.ReportHealth, watched: map[waveKey]*waveWatch{},
	}, nil
}

// run tells until ctx ends. What can't be told is told later, as long as the ring
// has it, and logged once.
func (h *waveHealth) run(ctx context.Context) {
	tick := time.NewTicker(h.every)
	defer tick.Stop()
	for heard := true; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := h.tell(ctx)
		if err != nil && heard && ctx.Err() == nil {
			h.log.WarnContext(ctx, "how a wave is served was not told to the catalog", "error", err)
		}
		heard = err == nil
	}
}

// tell tells of each wave the slots that are over and weren't told yet.
func (h *waveHealth) tell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	waves, err := h.waves(ctx)
	if err != nil {
		return err
	}
	if len(waves) > 0 {
		h.settle(waves[0].Now)
	}
	known := h.watched
	h.watched = make(map[waveKey]*waveWatch, len(waves))
	for _, w := range waves {
		key := waveKey{w.Rollout, w.Wave}
		if known[key] != nil {
			h.watched[key] = known[key]
		}
	}
	var errs []error
	for _, w := range waves {
		errs = append(errs, h.tellOf(ctx, w))
	}
	return errors.Join(errs...)
}

// settle learns when slot 0 began. It stays as it is while it may: a slot that was
// told would be told as another one.
func (h *waveHealth) settle(now time.Time) {
	base := now.Add(-time.Since(h.born)).Truncate(time.Millisecond)
	if h.base.IsZero() || base.Sub(h.base).Abs() > clockDrift {
		h.base = base
	}
}

func (h *waveHealth) tellOf(ctx context.Context, wave catalog.WatchedWave) error {
	key := waveKey{wave.Rollout, wave.Wave}
	w := h.watched[key]
	if w == nil || w.counted != wave.Tenants {
		ids, err := h.tenants(ctx, wave.Rollout, wave.Wave)
		if err != nil {
			return err
		}
		// Of those that came, what was told before says nothing: all is told again.
		w = &waveWatch{counted: wave.Tenants, tenants: make(map[catalog.TenantID]struct{}, len(ids))}
		for _, id := range ids {
			w.tenants[id] = struct{}{}
		}
		h.watched[key] = w
	}
	now := h.current()
	from := max(w.next, now-healthSlots, 0)
	var told []catalog.HealthSlot
	for i, s := range h.sum(w.tenants, from, now) {
		if s.Requests > 0 {
			s.Slot = h.base.Add(time.Duration(from+int64(i)) * h.slot)
			told = append(told, s)
		}
	}
	if err := h.report(ctx, h.node, wave.Rollout, wave.Wave, told); err != nil {
		return err
	}
	w.next = now
	return nil
}
