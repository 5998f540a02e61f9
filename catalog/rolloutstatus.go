package catalog

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// RolloutStatus is how far a rollout is.
type RolloutStatus struct {
	Rollout
	Waves []RolloutWave `json:"waves"`
	// Targets: of all waves, and by state.
	Total   int `json:"total"`
	Done    int `json:"done"`
	Running int `json:"running"`
	Failed  int `json:"failed"`
	Waiting int `json:"waiting"`
	Gone    int `json:"gone"`
	// Rate is how many a second were done in the last half minute, and Left how long
	// what is left takes at that, without soaking; nil when nobody can tell.
	Rate float64        `json:"rate"`
	Left *time.Duration `json:"left_ns,omitempty"`
	// Median is of those that are done; Slowest has those that took longest, or are at
	// it for longest, five at most.
	Median   time.Duration  `json:"median_ns"`
	Slowest  []TargetRow    `json:"slowest"`
	Failures []FailureGroup `json:"failures"`
	// Of its tenants: whose schema differed from what it should be when it was last
	// compared, and who had indexes that aren't valid.
	Drifted        int `json:"drifted"`
	InvalidIndexes int `json:"invalid_indexes"`
}

// FailureGroup is targets that failed for the same reason.
type FailureGroup struct {
	Kind    string   `json:"kind"`
	File    string   `json:"file,omitempty"`
	Error   string   `json:"error"`
	Count   int      `json:"count"`
	Tenants []string `json:"tenants"` // five slugs at most
}

// TargetRow is a target as people see it.
type TargetRow struct {
	Tenant   string     `json:"tenant"` // slug
	TenantID TenantID   `json:"tenant_id"`
	Server   string     `json:"server"`
	Wave     int        `json:"wave"`
	State    string     `json:"state"`
	From     int64      `json:"from"`
	Version  int64      `json:"version"`
	Attempts int        `json:"attempts"`
	Millis   int64      `json:"ms"` // of the last try; of one that runs, till now
	Kind     string     `json:"kind,omitempty"`
	File     string     `json:"file,omitempty"`
	Error    string     `json:"error,omitempty"`
	Worker   string     `json:"worker,omitempty"`
	BeganAt  *time.Time `json:"began_at,omitempty"`
	EndedAt  *time.Time `json:"ended_at,omitempty"`
}

const (
	selectWaves = `
select w.n, w.name, w.begun_at, w.migrated_at, w.passed_at, w.health from rollout_waves w where w.rollout = $1 order by w.n`

	// Seconds since the first of those that were done lately was begun: there may have
	// been a pause before.
	countTargets = `
with upto as (select coalesce(r.ended_at, now()) as at from rollouts r where r.id = $1)
select x.wave, x.state, count(*) as n,
       count(*) filter (where x.state = 'done' and x.ended_at > upto.at - interval '30 seconds') as lately,
       coalesce(extract(epoch from upto.at - min(x.began_at)
         filter (where x.state = 'done' and x.ended_at > upto.at - interval '30 seconds')), 0)::float8 as seconds
  from rollout_targets x cross join upto where x.rollout = $1 group by x.wave, x.state, upto.at`

	selectMedian = `
select coalesce(percentile_disc(0.5) within group (order by x.millis), 0) from rollout_targets x where x.rollout = $1 and x.state = 'done'`

	targetMillis = `case x.state when 'running' then (extract(epoch from now() - x.began_at) * 1000)::bigint else x.millis end`

	selectTargets = `
select t.slug as tenant, x.tenant as tenant_id, coalesce(s.name, '') as server, x.wave, x.state, x.from_version as "from", x.version,
       x.attempts, ` + targetMillis + ` as millis, x.kind, x.file, x.error, x.worker, x.began_at, x.ended_at
  from rollout_targets x join tenants t on t.id = x.tenant left join servers s on s.id = x.server_id`

	// The five first: their tenants and servers are looked up afterwards.
	slowestTargets = selectTargets + `
 where x.rollout = $1
   and x.tenant = any (array(select x.tenant from rollout_targets x
                              where x.rollout = $1 and x.state in ('done', 'running', 'failed')
                              order by ` + targetMillis + ` desc, x.tenant limit 5))
 order by millis desc, t.slug`

	groupFailures = `
select x.kind, x.file, x.error, count(*) as count, (array_agg(t.slug order by t.slug))[1:5] as tenants
  from rollout_targets x join tenants t on t.id = x.tenant
 where x.rollout = $1 and x.state = 'failed'
 group by x.kind, x.file, x.error order by count(*) desc, x.kind, x.file, x.error limit 50`

	countDrifted = `
select count(*) filter (where d.drifted) as drifted, count(*) filter (where d.invalid_indexes <> '{}') as invalid_indexes
  from tenant_schemas d join rollout_targets x on x.rollout = $1 and x.tenant = d.tenant
 where d.drifted or d.invalid_indexes <> '{}'`
)

// RolloutStatus tells how far a rollout is, in one round trip; ErrNotFound.
func (c *Catalog) RolloutStatus(ctx context.Context, id string) (RolloutStatus, error) {
	if _, err := uuid.Parse(id); err != nil {
		return RolloutStatus{}, fmt.Errorf("read rollout: %w", ErrNotFound)
	}
	var (
		s      RolloutStatus
		found  []Rollout
		counts []targetCount
		batch  pgx.Batch
		median int64
	)
	collect(&batch, &found, selectRollouts+` where r.id = $1`, id)
	collect(&batch, &s.Waves, selectWaves, id)
	collect(&batch, &counts, countTargets, id)
	batch.Queue(selectMedian, id).QueryRow(func(row pgx.Row) error { return row.Scan(&median) })
	collect(&batch, &s.Slowest, slowestTargets, id)
	collect(&batch, &s.Failures, groupFailures, id)
	batch.Queue(countDrifted, id).QueryRow(func(row pgx.Row) error { return row.Scan(&s.Drifted, &s.InvalidIndexes) })
	if err := c.writer.SendBatch(ctx, &batch).Close(); err != nil {
		return RolloutStatus{}, wrap("read rollout", err)
	}
	if len(found) == 0 {
		return RolloutStatus{}, fmt.Errorf("read rollout: %w", ErrNotFound)
	}
	s.Rollout, s.Median = found[0], time.Duration(median)*time.Millisecond
	s.count(counts)
	return s, nil
}

// targetCount is the targets of a wave in a state.
type targetCount struct {
	Wave    int
	State   string
	N       int
	Lately  int     // done in the last half minute
	Seconds float64 // since the first of these was begun
}

// count sums up what was counted.
func (s *RolloutStatus) count(counts []targetCount) {
	at := make(map[int]*RolloutWave, len(s.Waves))
	for i := range s.Waves {
		at[s.Waves[i].N] = &s.Waves[i]
	}
	lately, seconds := 0, 0.0
	for _, n := range counts {
		w := at[n.Wave]
		if w == nil {
			w = &RolloutWave{}
		}
		w.Targets += n.N
		s.Total += n.N
		switch n.State {
		case TargetDone:
			w.Done += n.N
			s.Done += n.N
		case TargetRunning:
			w.Running += n.N
			s.Running += n.N
		case TargetFailed:
			w.Failed += n.N
			s.Failed += n.N
		case TargetWaiting:
			s.Waiting += n.N
		case TargetGone:
			s.Gone += n.N
		}
		lately += n.Lately
		seconds = max(seconds, n.Seconds)
	}
	if lately > 0 {
		s.Rate = float64(lately) / min(max(seconds, 0.05), 30)
	}
	if open := s.Waiting + s.Running; s.State == RolloutRunning && open > 0 && s.Rate > 0 {
		left := time.Duration(float64(open) / s.Rate * float64(time.Second)).Round(time.Millisecond)
		s.Left = &left
	}
}

// TargetFilter narrows RolloutTargets; zero fields don't filter. Tenant is a slug,
// After the last one of the page before.
type TargetFilter struct {
	State, Tenant, After string
	Limit                int
}

const filteredTargets = selectTargets + `
 where x.rollout = $1 and ($2 = '' or x.state = $2) and ($3 = '' or t.slug = $3) and ($4 = '' or t.slug > $4)
 order by t.slug, x.tenant limit nullif($5, 0)`

// RolloutTargets lists a rollout's targets by slug. ErrNotFound for no rollout.
func (c *Catalog) RolloutTargets(ctx context.Context, id string, f TargetFilter) ([]TargetRow, error) {
	if err := invalid(within("limit", f.Limit, 0, math.MaxInt32)); err != nil {
		return nil, err
	}
	if _, err := c.Rollout(ctx, id); err != nil {
		return nil, err
	}
	rows, err := c.writer.Query(ctx, filteredTargets, id, f.State, f.Tenant, f.After, f.Limit)
	if err != nil {
		return nil, wrap("list targets", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[TargetRow])
	return list, wrap("list targets", err)
}
