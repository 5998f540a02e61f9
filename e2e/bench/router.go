package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// plenty is a budget that nobody reaches.
const plenty = 2000

// arena is what the router's contests share.
type arena struct {
	*platform
	n   int   // tenants
	all *zipf // over all tenants
}

func routerContests(ctx context.Context, b *bench) ([]contest, func(), error) {
	p, err := openPlatform(ctx, b)
	if err != nil {
		return nil, nil, err
	}
	a := &arena{platform: p, n: len(p.tenants), all: newZipf(len(p.tenants))}
	return []contest{
		{"transparency", []string{"transparency_16", "transparency_64", "hot_tenant", "connect_per_request"}, a.transparency},
		{"pgbouncer", []string{"pgbouncer_16", "pgbouncer_64", "pgbouncer_backends"}, a.pgbouncer},
		{"thrash", []string{"thrash_vs_lru", "thrash_failed", "thrash_failed_lru"}, a.thrash},
		{"budget_bound", []string{"budget_bound", "budget_excess"}, a.budgetBound},
		{"budget_hot", []string{"budget_hot"}, a.budgetHot},
		{"cold_open", []string{"cold_open", "cold_open_ms"}, a.coldOpen},
		{"lookup", []string{"lookup_allocs", "lookup_ns", "pool_acquire_ns", "hashicorp_get_ns"}, a.lookup},
		{"noisy", []string{"noisy_p99", "noisy_p99_fifo", "noisy_p99_alone_ms", "noisy_failed"}, a.noisy},
		{"stampede", []string{"stampede_pools", "stampede_dials", "stampede_catalog_reads"}, a.stampede},
	}, p.close, nil
}

// pair is a subject and a peer at the same work.
type pair struct{ subject, peer *side }

func (p pair) ratios() []float64 { return ratios(p.subject.rounds, p.peer.rounds) }

// sides of all pairs, each once.
func sides(pairs ...pair) (list []*side) {
	seen := map[*side]bool{}
	for _, p := range pairs {
		for _, s := range []*side{p.subject, p.peer} {
			if !seen[s] {
				seen[s] = true
				list = append(list, s)
			}
		}
	}
	return list
}

// emitWorse writes the ratio of the pair whose ratio is the lowest.
func (b *bench) emitWorse(name string, g *goal, pairs ...pair) error {
	worst := pairs[0]
	for _, p := range pairs[1:] {
		if median(p.ratios()) < median(worst.ratios()) {
			worst = p
		}
	}
	note := fmt.Sprintf("%s: %s / %s per second", worst.subject.name, figure(median(worst.subject.rounds)),
		figure(median(worst.peer.rounds)))
	return b.emit(name, "ratio", g, worst.ratios(), note)
}

// against makes a pair for each workload.
func (a *arena) against(callers int, z *zipf, subject string, mine door, peer string, theirs door) (pairs []pair) {
	for _, w := range works {
		pairs = append(pairs, pair{
			steady(fmt.Sprintf("%s, %d callers", subject, callers), z, callers, mine, w),
			steady(fmt.Sprintf("%s, %d callers", peer, callers), z, callers, theirs, w),
		})
	}
	return pairs
}

// transparency sets the router beside pools that are open already, and beside a
// connection for each request.
func (a *arena) transparency(ctx context.Context, b *bench) error {
	r, err := a.newRouted(plenty, connsPerTenant, nil)
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.visitAll(ctx, a.n); err != nil {
		return err
	}
	pools, err := openArray(ctx, a.n, connsPerTenant, a.plain("array"))
	if err != nil {
		return err
	}
	defer pools.close()

	at16 := a.against(16, a.all, "routed", r.visit, "array", pools.visit)
	at64 := a.against(64, a.all, "routed", r.visit, "array", pools.visit)
	one := newZipf(1)
	hot := a.against(16, one, "routed, one tenant", r.visit, "its pool", pools.visit)
	var each []pair
	for i, w := range works {
		each = append(each, pair{at16[i].subject, steady("connect each, 16 callers", a.all, 16, a.connectEach, w)})
	}
	// Until both have grown to what the load asks for.
	for _, p := range append(at64, hot...) {
		for _, s := range []*side{p.subject, p.peer} {
			if _, err := s.turn(ctx, 0, b.opt.slot/2); err != nil {
				return err
			}
		}
	}
	// Those that are compared have their turns close together.
	if err := errors.Join(
		b.play(ctx, "transparency, 16 callers", sides(append(at16, each...)...)...),
		b.play(ctx, "transparency, 64 callers", sides(at64...)...),
		b.play(ctx, "transparency, one tenant", sides(hot...)...),
	); err != nil {
		return err
	}
	return errors.Join(
		b.emitWorse("transparency_16", atLeast(0.95), at16...),
		b.emitWorse("transparency_64", atLeast(0.95), at64...),
		b.emitWorse("hot_tenant", atLeast(0.95), hot...),
		b.emitWorse("connect_per_request", atLeast(40), each...),
	)
}

// thrash has room for a tenth of the tenants and 64 callers. What the plain LRU
// answers is counted, what it fails is not.
func (a *arena) thrash(ctx context.Context, b *bench) error {
	room := a.n / 10
	r, err := a.newRouted(room, connsPerTenant, nil)
	if err != nil {
		return err
	}
	defer r.close()
	// One connection a pool: as many backends as the router has.
	lru, err := newEvictor(room, 1, a.plain("lru"))
	if err != nil {
		return err
	}
	defer lru.close()

	tolerant := func(name string, through door, w work) (*side, *[]float64) {
		failed := new([]float64)
		return &side{name: name + ", " + w.name, turn: func(ctx context.Context, round int, d time.Duration) (float64, error) {
			t := closed(ctx, 64, d, func(ctx context.Context, caller, i int) error {
				return through(ctx, a.all.at(round, caller, i), w.run)
			})
			*failed = append(*failed, float64(t.failed))
			if t.err != nil && ctx.Err() == nil {
				b.progress("  %s: %d failed: %v", name, t.failed, t.err)
			}
			return t.rate(), nil
		}}, failed
	}
	var (
		pairs        []pair
		failed, lost []float64
		counts       [2][]*[]float64
	)
	for _, w := range works {
		mine, m := tolerant("routed", r.visit, w)
		theirs, t := tolerant("plain LRU", lru.visit, w)
		pairs = append(pairs, pair{mine, theirs})
		counts[0], counts[1] = append(counts[0], m), append(counts[1], t)
	}
	if err := b.play(ctx, "thrash", sides(pairs...)...); err != nil {
		return err
	}
	r.explain(b)
	for round := range b.opt.rounds {
		failed = append(failed, (*counts[0][0])[round]+(*counts[0][1])[round])
		lost = append(lost, (*counts[1][0])[round]+(*counts[1][1])[round])
	}
	return errors.Join(
		b.emitWorse("thrash_vs_lru", atLeast(2), pairs...),
		b.emitWorst("thrash_failed", "requests", atMost(0), failed, ""),
		b.emitWorst("thrash_failed_lru", "requests", nil, lost, "of the plain LRU"),
	)
}
