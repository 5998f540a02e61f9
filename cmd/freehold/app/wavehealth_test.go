package app_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/catalog/catalogtest"
	"freehold/cmd/freehold/app"
	"freehold/cmd/freehold/rest"
	"freehold/cmd/freehold/rest/resttest"
)

// register is the part of a catalog that nodes tell of waves; its clock is ahead.
type register struct {
	mu      sync.Mutex // guards what follows
	waves   []catalog.WatchedWave
	members []catalog.TenantID
	away    error
	listed  int // how often the members were asked for
	slots   map[time.Time]catalog.HealthSlot
}

const ahead = 3 * time.Hour

func (r *register) catalog() app.HealthCatalog {
	return app.HealthCatalog{
		Waves: func(context.Context) ([]catalog.WatchedWave, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			for i := range r.waves {
				r.waves[i].Now, r.waves[i].Tenants = time.Now().Add(ahead), len(r.members)
			}
			return r.waves, r.away
		},
		Tenants: func(context.Context, string, int) ([]catalog.TenantID, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.listed++
			return r.members, nil
		},
		Report: func(_ context.Context, _ uuid.UUID, _ string, _ int, slots []catalog.HealthSlot) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.away != nil {
				return r.away
			}
			for _, s := range slots {
				r.slots[s.Slot] = s
			}
			return nil
		},
	}
}

func (r *register) set(waves []catalog.WatchedWave, away error, members ...catalog.TenantID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waves, r.away, r.members = waves, away, members
}

func (r *register) told() map[time.Time]catalog.HealthSlot {
	r.mu.Lock()
	defer r.mu.Unlock()
	told := r.slots
	r.slots = map[time.Time]catalog.HealthSlot{}
	return told
}

func total(slots map[time.Time]catalog.HealthSlot) (requests, failures int64) {
	for _, s := range slots {
		requests, failures = requests+s.Requests, failures+s.Failures
	}
	return requests, failures
}

// A node tells of a wave's tenants what it counted before the wave and since, each
// slot when it is over, by the catalog's clock.
func TestWaveHealth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		logs := &resttest.Logs{}
		reg := &register{slots: map[time.Time]catalog.HealthSlot{}}
		h, err := app.NewWaveHealth(reg.catalog(), 10*time.Second, 5*time.Second, slog.New(slog.NewTextHandler(logs, nil)))
		must(t, err)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { h.Run(ctx) })
		defer running.Wait()
		defer stop()
		began := time.Now()
		in, late, other := catalog.NewTenantID(), catalog.NewTenantID(), catalog.NewTenantID()
		count := func(id catalog.TenantID, failed bool, took time.Duration) {
			h.Count(rest.Ended{Tenant: id.String(), Failed: failed, Took: took})
		}
		pass := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		wave := []catalog.WatchedWave{{Rollout: "r", Wave: 1}}

		pass(61 * time.Second)
		count(in, false, 3*time.Millisecond)
		count(in, false, time.Hour)
		count(in, true, time.Second)
		count(other, true, time.Second)
		pass(20 * time.Second)
		count(in, false, 3*time.Millisecond)
		count(late, false, 3*time.Millisecond)
		pass(time.Minute)
		if told := reg.told(); len(told) != 0 {
			t.Fatalf("no wave was there: %+v", told)
		}

		reg.set(wave, nil, in)
		pass(5 * time.Second)
		told := reg.told()
		one := told[began.Add(ahead+60*time.Second)]
		if len(told) != 2 || one.Seconds != 10 || one.Requests != 3 || one.Failures != 1 || one.Buckets[2] != 1 ||
			one.Buckets[catalog.HealthBuckets-1] != 1 || told[began.Add(ahead+80*time.Second)].Requests != 1 {
			t.Fatalf("of before the wave: %+v", told)
		}

		// Slots that are over are told of once, and the one that goes on isn't.
		count(in, true, time.Second)
		pass(3 * time.Second)
		count(in, false, time.Second)
		if told := reg.told(); len(told) != 0 {
			t.Errorf("a slot that isn't over: %+v", told)
		}
		pass(15 * time.Second)
		if told := reg.told(); len(told) != 1 || told[began.Add(ahead+140*time.Second)].Requests != 2 {
			t.Errorf("a slot that is over: %+v", told)
		}
		pass(time.Minute)
		if told := reg.told(); len(told) != 0 || reg.listed != 1 {
			t.Errorf("told again: %+v; tenants listed %d times", told, reg.listed)
		}

		// While the catalog is away nothing is lost, and that is logged once.
		reg.set(wave, errors.New("away"), in)
		count(in, false, time.Second)
		pass(time.Minute)
		reg.set(wave, nil, in)
		pass(5 * time.Second)
		if requests, _ := total(reg.told()); requests != 1 || strings.Count(logs.String(), "level=WARN") != 1 {
			t.Errorf("away: %d requests, log %s", requests, logs)
		}

		// With another tenant in it, and when it goes on after a halt, all is told
		// again, under the same times.
		for _, again := range []func(){
			func() { reg.set(wave, nil, in, late) },
			func() { reg.set(nil, nil); pass(10 * time.Second); reg.set(wave, nil, in, late) },
		} {
			again()
			pass(5 * time.Second)
			told := reg.told()
			if requests, failures := total(told); requests != 8 || failures != 2 || told[began.Add(ahead+80*time.Second)].Requests != 2 {
				t.Errorf("again: %d requests, %d failures: %+v", requests, failures, told)
			}
		}

		// What is older than ten minutes is forgotten, though nothing took its place.
		pass(8 * time.Minute)
		reg.set(wave, nil, in, late, other)
		pass(5 * time.Second)
		if requests, failures := total(reg.told()); requests != 1 || failures != 0 {
			t.Errorf("after ten minutes: %d requests, %d failures", requests, failures)
		}
	})
}

// However many tenants there are, so many are remembered; counting is safe beside
// itself.
func TestWaveHealth_Bounded(t *testing.T) {
	t.Parallel()
	h, err := app.NewWaveHealth(app.HealthCatalog{}, time.Second, time.Second, slog.New(slog.DiscardHandler))
	must(t, err)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range app.HealthTenants {
				h.Count(rest.Ended{Tenant: catalog.NewTenantID().String(), Took: time.Millisecond})
			}
		})
	}
	all.Wait()
	h.Count(rest.Ended{Tenant: "nobody's"})
	if n := h.Remembered(); n > app.HealthTenants || n < app.HealthTenants*9/10 {
		t.Errorf("%d tenants are remembered, want %d at most", n, app.HealthTenants)
	}
}

// The same with a real catalog: what a node counts is what a gate reads.
func TestWaveHealth_Catalog(t *testing.T) {
	t.Parallel()
	cat, cfg := catalogtest.Open(t)
	conn, err := pgx.Connect(t.Context(), cfg.URL)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	rollout := uuid.NewString()
	_, err = conn.Exec(t.Context(), `insert into rollouts (id, stream, target, actor, options) values ($1, 'freehold', 9, 'test', '{}')`, rollout)
	must(t, err)

	tenant := catalog.NewTenantID()
	h, err := app.NewWaveHealth(app.HealthCatalog{
		Waves: cat.WatchedWaves, Report: cat.ReportHealth,
		Tenants: func(context.Context, string, int) ([]catalog.TenantID, error) { return []catalog.TenantID{tenant}, nil },
	}, time.Second, 20*time.Millisecond, slog.New(slog.DiscardHandler))
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { h.Run(ctx) })
	h.Count(rest.Ended{Tenant: tenant.String(), Took: time.Second})
	h.Count(rest.Ended{Tenant: tenant.String(), Failed: true})
	// The wave begins when that slot is surely over.
	_, err = conn.Exec(t.Context(), `insert into rollout_waves (rollout, n, name, begun_at) values ($1, 0, 'canary', now() + interval '5 seconds')`, rollout)
	must(t, err)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		slots, err := cat.WaveHealth(t.Context(), rollout, 0)
		must(t, err)
		if len(slots) > 0 {
			var requests, failures int64
			for _, s := range slots {
				requests, failures = requests+s.Requests, failures+s.Failures
			}
			if requests != 2 || failures != 1 || time.Since(slots[0].Slot).Abs() > 10*time.Second {
				t.Errorf("%+v", slots)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was told within 10 s")
		}
	}
}

// What counting costs a request, and what it costs beside others.
func BenchmarkWaveHealth(b *testing.B) {
	h, err := app.NewWaveHealth(app.HealthCatalog{}, 10*time.Second, time.Second, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	var tenants [1000]string
	for i := range tenants {
		tenants[i] = catalog.NewTenantID().String()
	}
	b.ReportAllocs()
	b.SetParallelism(64)
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for i := int(n.Add(7)); pb.Next(); i++ {
			h.Count(rest.Ended{Tenant: tenants[i%len(tenants)], Took: 12 * time.Millisecond})
		}
	})
}
