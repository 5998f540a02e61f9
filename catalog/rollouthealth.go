package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// WatchedWave is a wave of a rollout, from its beginning until it has passed its
// gate: nodes tell how its tenants are served.
type WatchedWave struct {
	Rollout string
	Wave    int
	Tenants int       // of it; another number says that they were changed
	Now     time.Time // by the catalog's clock
}

const selectWatchedWaves = `
select r.id::text as rollout, r.wave, clock_timestamp() as now,
       (select count(*) from rollout_targets x
         where x.rollout = r.id and x.wave = r.wave and x.state <> 'gone') as tenants
  from rollouts r join rollout_waves w on w.rollout = r.id and w.n = r.wave
 where r.state = 'running' and w.begun_at is not null and w.passed_at is null`

// WatchedWaves are the waves to be watched: of each stream's running rollout one at
// most.
func (c *Catalog) WatchedWaves(ctx context.Context) ([]WatchedWave, error) {
	rows, err := c.writer.Query(ctx, selectWatchedWaves)
	if err != nil {
		return nil, wrap("read watched waves", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[WatchedWave])
	return list, wrap("read watched waves", err)
}

// MaxWatched is how many of a wave's tenants are watched. Of a larger one they are
// the same ones on every node, and stand for the others.
const MaxWatched = 20_000

// Ids are made in the order of time: by themselves they would choose the oldest.
const selectWatchedTenants = `
select x.tenant from rollout_targets x
 where x.rollout = $1 and x.wave = $2 and x.state <> 'gone'
 order by hashtextextended(x.tenant::text, 0), x.tenant limit $3`

// WatchedTenants are those tenants, MaxWatched at most.
func (c *Catalog) WatchedTenants(ctx context.Context, rollout string, wave int) ([]TenantID, error) {
	rows, err := c.writer.Query(ctx, selectWatchedTenants, rollout, wave, MaxWatched)
	if err != nil {
		return nil, wrap("read watched tenants", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[TenantID])
	return list, wrap("read watched tenants", err)
}

// HealthSlot is what was counted of requests in a slot of time.
type HealthSlot struct {
	Slot     time.Time // its beginning, by the catalog's clock
	Seconds  int       // its length
	Requests int64
	Failures int64 // of those, the ones that the platform failed
	// Buckets count the others by their latency, each by itself: HealthBuckets of
	// them, see HealthBucket.
	Buckets []int64
}

// The buckets of all slots are one row of numbers: an array of arrays has no order
// that unnest would keep.
const upsertHealth = `
insert into rollout_health (rollout, wave, node, slot, seconds, requests, failures, buckets)
select $1, $2, $3, s.slot, s.seconds, s.requests, s.failures,
       ($8::bigint[])[(s.n::integer - 1) * $9::integer + 1 : s.n::integer * $9::integer]
  from unnest($4::timestamptz[], $5::integer[], $6::bigint[], $7::bigint[])
       with ordinality as s (slot, seconds, requests, failures, n)
on conflict (rollout, wave, node, slot) do update
   set seconds = excluded.seconds, requests = excluded.requests, failures = excluded.failures,
       buckets = excluded.buckets`

// ReportHealth records what a node counted for a wave's tenants. The numbers are
// those of the whole slot, and replace what the node told of it before; no slot may
// come twice. ErrConflict when there is no such rollout.
func (c *Catalog) ReportHealth(ctx context.Context, node uuid.UUID, rollout string, wave int, slots []HealthSlot) error {
	n := len(slots)
	if n == 0 {
		return nil
	}
	begun, seconds := make([]time.Time, n), make([]int, n)
	requests, failures := make([]int64, n), make([]int64, n)
	buckets := make([]int64, 0, n*HealthBuckets)
	for i, s := range slots {
		if len(s.Buckets) != HealthBuckets {
			return fmt.Errorf("report health: %w", invalid(wrong("buckets", "want %d, have %d", HealthBuckets, len(s.Buckets))))
		}
		begun[i], seconds[i], requests[i], failures[i] = s.Slot, s.Seconds, s.Requests, s.Failures
		buckets = append(buckets, s.Buckets...)
	}
	_, err := c.writer.Exec(ctx, upsertHealth, rollout, wave, node, begun, seconds, requests, failures, buckets, HealthBuckets)
	return wrap("report health", err)
}

const selectWaveHealth = `
select h.slot, h.seconds, h.requests, h.failures, h.buckets
  from rollout_health h join rollout_waves w on w.rollout = h.rollout and w.n = h.wave
 where h.rollout = $1 and h.wave = $2
   and (h.slot + make_interval(secs => h.seconds) <= w.begun_at or h.slot >= w.migrated_at)
 order by h.slot, h.node`

// WaveHealth is what all nodes told of a wave, before its beginning and after it was
// migrated: what lies between is of neither. One slot a node and slot of time, in
// the order of time.
func (c *Catalog) WaveHealth(ctx context.Context, rollout string, wave int) ([]HealthSlot, error) {
	rows, err := c.writer.Query(ctx, selectWaveHealth, rollout, wave)
	if err != nil {
		return nil, wrap("read health", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[HealthSlot])
	return list, wrap("read health", err)
}
