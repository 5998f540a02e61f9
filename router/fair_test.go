package router_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/router"
	"freehold/tenantdb"
)

// sleepFor is a request whose statement takes that long.
func sleepFor(d time.Duration) func(context.Context, *tenantdb.DB) error {
	return func(ctx context.Context, db *tenantdb.DB) error {
		return db.Tx(ctx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `select pg_sleep($1)`, d.Seconds())
			return err
		})
	}
}

// load is callers of one tenant in a closed loop.
type load struct {
	served atomic.Int64
	waited atomic.Int64 // ns, of all that were served
}

func (s *bundle) load(ctx context.Context, t *testing.T, id catalog.TenantID, callers int, fn func(context.Context, *tenantdb.DB) error) (l *load, wait func()) {
	t.Helper()
	l = &load{}
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for ctx.Err() == nil {
				start := time.Now()
				err := s.For(id, 1).Borrow(ctx, tenantdb.Interactive, fn)
				switch {
				case err == nil:
					l.served.Add(1)
					l.waited.Add(int64(time.Since(start)))
				case ctx.Err() == nil:
					t.Errorf("under load: %v", err)
					return
				}
			}
		})
	}
	return l, all.Wait
}

// mean is how long a request took: by Little's law the callers over the
// throughput, which is what a queue that knows no tenants has everybody wait.
func (l *load) mean() time.Duration {
	return time.Duration(l.waited.Load() / max(1, l.served.Load()))
}

// A hundred callers of one tenant, and six tenants with one each, for two
// connections. In one line for all, each request would wait for the hundred.
func TestFair_ANoisyTenantDoesNotStarveTheOthers(t *testing.T) {
	t.Parallel()
	const callers, quiet, requests = 100, 6, 5
	s := setup(t, 1+quiet, func(c *router.Config) { c.QueueWait = time.Minute })
	s.budget(2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	noisy, wait := s.load(ctx, t, s.ids[0], callers, sleepFor(5*time.Millisecond))
	soon(t, "the noise", func() bool { return noisy.served.Load() > callers })
	noisy.served.Store(0)
	noisy.waited.Store(0)

	var mu sync.Mutex
	var took []time.Duration
	var all sync.WaitGroup
	for _, id := range s.ids[1:] {
		all.Go(func() {
			for range requests {
				start := time.Now()
				s.visit(t, id, 1)
				d := time.Since(start)
				mu.Lock()
				took = append(took, d)
				mu.Unlock()
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	all.Wait()
	fifo := noisy.mean()
	cancel()
	wait()
	slices.Sort(took)
	if worst := took[len(took)-1]; worst > fifo {
		t.Errorf("a quiet tenant's request took %s, and one line for all would take %s; all: %v", worst, fifo, took)
	}
	if noisy.served.Load() < requests {
		t.Errorf("the noisy one was served %d times, each of the others %d times", noisy.served.Load(), requests)
	}
	t.Logf("median %s, worst %s, one line %s", took[len(took)/2], took[len(took)-1], fifo)
}

func TestFair_WeightsDivideAFullServer(t *testing.T) {
	t.Parallel()
	weights := map[string]int{"gold": 3, "free": 1}
	s := setup(t, 2, func(c *router.Config) {
		c.QueueWait = time.Minute
		c.Weight = func(plan string) int { return weights[plan] }
	})
	s.budget(4)
	gold, free := s.ids[0], s.ids[1]
	s.book.change(gold, func(r *catalog.Route) { r.Plan = "gold" })
	s.book.change(free, func(r *catalog.Route) { r.Plan = "free" })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b, waitB := s.load(ctx, t, free, 40, sleepFor(20*time.Millisecond))
	conns := func(id catalog.TenantID) int { return s.explain(t, id).Conns }
	soon(t, "the free one has all of it", func() bool { return conns(free) == 4 })
	a, waitA := s.load(ctx, t, gold, 40, sleepFor(20*time.Millisecond))
	soon(t, "three connections of four for three times the weight", func() bool {
		return conns(gold) == 3 && conns(free) == 1
	})
	a.served.Store(0)
	b.served.Store(0)
	time.Sleep(800 * time.Millisecond)
	ratio := float64(a.served.Load()) / float64(max(1, b.served.Load()))
	cancel()
	waitA()
	waitB()
	if ratio < 1.3 || ratio > 6 {
		t.Errorf("gold was served %.1f times as often as free, want about 3", ratio)
	}
	t.Logf("ratio %.2f", ratio)
}

func TestFair_TenantLimit(t *testing.T) {
	t.Parallel()
	const limit = 3
	s := setup(t, 1, func(c *router.Config) { c.ConnsPerTenant = limit })
	ctx, cancel := context.WithCancel(t.Context())
	defer time.AfterFunc(600*time.Millisecond, cancel).Stop()
	_, wait := s.load(ctx, t, s.ids[0], 20, sleepFor(5*time.Millisecond))
	most := 0
	for ctx.Err() == nil {
		conns := s.Stats().Conns
		if view := s.View(1).Tenants; len(view) == 1 {
			conns = max(conns, view[0].Conns)
		}
		most = max(most, conns)
		time.Sleep(time.Millisecond)
	}
	wait()
	if most != limit {
		t.Errorf("at most %d connections, want the limit of %d reached and kept", most, limit)
	}
}

// A request that can't be served in time is told so at once.
func TestQueue_RefusesAtOnceWhatWouldBeInVain(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, func(c *router.Config) { c.ConnsPerTenant = 1 })
	id := s.ids[0]
	for range 3 {
		if err := s.For(id, 1).Borrow(t.Context(), tenantdb.Interactive, sleepFor(400*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
	}
	release := s.occupy(t, id, 1)
	least := time.Hour
	for range 5 {
		start := time.Now()
		err := s.try(t, id, tenantdb.Interactive, 60*time.Millisecond)
		least = min(least, time.Since(start))
		var busy *router.Busy
		if !errors.As(err, &busy) || busy.RetryAfter <= 0 || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want a *Busy that says when", err)
		}
	}
	if least > 5*time.Millisecond {
		t.Errorf("refused after %s", least)
	}
	// A settlement waits for as long as it can.
	start := time.Now()
	err := s.try(t, id, tenantdb.Settle, 60*time.Millisecond)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) < 60*time.Millisecond {
		t.Errorf("a settlement was refused after %s: %v", time.Since(start), err)
	}
	if got := s.one(t); got.Refusals < 5 {
		t.Errorf("refusals aren't counted: %+v", got)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

func TestQueue_WaitEnds(t *testing.T) {
	t.Parallel()
	// Far above what a lease takes: a wait that looks too long is refused at once.
	const patience = time.Second
	s := setup(t, 1, func(c *router.Config) { c.ConnsPerTenant, c.QueueWait = 1, patience })
	id := s.ids[0]
	soon(t, "a connection there", func() bool { return s.served(t, id) })
	release := s.occupy(t, id, 1)
	settled := make(chan error, 1)
	go func() { settled <- s.For(id, 1).Borrow(context.WithoutCancel(t.Context()), tenantdb.Settle, nothing) }()
	for _, class := range []tenantdb.Class{tenantdb.Interactive, tenantdb.Background} {
		start := time.Now()
		err := s.For(id, 1).Borrow(t.Context(), class, nothing)
		took := time.Since(start)
		if !errors.Is(err, router.ErrBusy) || errors.Is(err, context.DeadlineExceeded) || took < patience || took > 3*time.Second {
			t.Errorf("got %v after %s, want ErrBusy after %s", err, took, patience)
		}
	}
	select {
	case err := <-settled:
		t.Errorf("a settlement's wait ended: %v", err)
	default:
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if err := <-settled; err != nil {
		t.Errorf("settlement: %v", err)
	}
}

func TestQueue_ClassesInTheirOrder(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, func(c *router.Config) { c.ConnsPerTenant = 1 })
	id := s.ids[0]
	release := s.occupy(t, id, 1)
	var mu sync.Mutex
	var served []tenantdb.Class
	var all sync.WaitGroup
	came := []tenantdb.Class{
		tenantdb.Background, tenantdb.Interactive, tenantdb.Background, tenantdb.Interactive, tenantdb.Settle,
	}
	for n, class := range came {
		all.Go(func() {
			err := s.For(id, 1).Borrow(t.Context(), class, func(context.Context, *tenantdb.DB) error {
				mu.Lock()
				defer mu.Unlock()
				served = append(served, class)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
		soon(t, "in line", func() bool { return s.one(t).Waiting == n+1 })
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	all.Wait()
	want := []tenantdb.Class{
		tenantdb.Settle, tenantdb.Interactive, tenantdb.Interactive, tenantdb.Background, tenantdb.Background,
	}
	if !slices.Equal(served, want) {
		t.Errorf("served %v, want %v", served, want)
	}
}

// Background work leaves half of its tenant's connections to those who are
// waited for, and they wait for none of it.
func TestQueue_BackgroundLeavesHalf(t *testing.T) {
	t.Parallel()
	const limit = 4
	s := setup(t, 1, func(c *router.Config) { c.ConnsPerTenant = limit })
	id := s.ids[0]
	hold := make(chan struct{})
	var now, most atomic.Int64
	var all sync.WaitGroup
	for range 3 * limit {
		all.Go(func() {
			err := s.For(id, 1).Borrow(t.Context(), tenantdb.Background, func(context.Context, *tenantdb.DB) error {
				most.Store(max(most.Load(), now.Add(1)))
				defer now.Add(-1)
				<-hold
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	soon(t, "background at work", func() bool { return now.Load() == limit/2 })
	for round := range 2 { // cold, and again when they are idle while background waits
		var mine []func() error
		start := time.Now()
		for range limit / 2 {
			mine = append(mine, s.occupy(t, id, 1))
		}
		if took := time.Since(start); round > 0 && took > 900*time.Millisecond {
			t.Errorf("waited %s for what was idle", took)
		}
		for _, release := range mine {
			if err := release(); err != nil {
				t.Error(err)
			}
		}
	}
	time.Sleep(50 * time.Millisecond)
	if got := most.Load(); got != limit/2 {
		t.Errorf("%d at once in the background, want %d", got, limit/2)
	}
	close(hold)
	all.Wait()
}
