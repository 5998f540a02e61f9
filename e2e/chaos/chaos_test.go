package chaos_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"freehold/e2e/child"
	"freehold/migrations/pgtest"
)

// form is how long and how hard.
type form struct {
	lasts              time.Duration
	tenants, hot, keys int
	nodes, workers     int
	pools, budget      int
	outages            bool // nodes are processes and are killed, the server crashes
}

func chosen() form {
	if pgtest.Long() {
		return form{lasts: 30 * time.Second, tenants: 200, hot: 16, keys: 3, nodes: 3, workers: 16, pools: 25, budget: 18, outages: true}
	}
	return form{lasts: 2500 * time.Millisecond, tenants: 8, hot: 4, keys: 2, nodes: 2, workers: 8, pools: 4, budget: 6}
}

var once struct {
	sync.Mutex
	began   bool
	verdict *verdict
}

// chaos runs once for all tests of this package, and returns what came of it.
func chaos(t *testing.T) verdict {
	t.Helper()
	once.Lock()
	defer once.Unlock()
	if !once.began {
		once.began = true
		v := run(t, chosen())
		once.verdict = &v
	}
	if once.verdict == nil {
		t.Fatal("the run ended before its end: see the test that began it")
	}
	return *once.verdict
}

// hold fails the test with what broke the guarantee.
func hold(t *testing.T, of string) {
	t.Helper()
	faults := chaos(t).faults[of]
	for i, f := range faults {
		if i == 15 {
			t.Errorf("and %d more", len(faults)-i)
			break
		}
		t.Error(f)
	}
}

func TestG1_NoForeignRowInChaos(t *testing.T) {
	t.Parallel()
	hold(t, foreign)
}

func TestG3_BudgetHoldsInChaos(t *testing.T) {
	t.Parallel()
	hold(t, budget)
}

// Nobody loses a connection, or can't get one, but where the test has taken it
// away: the server crashed, the tenant's sessions were ended, it was suspended.
func TestG4_NobodyIsHarmedInChaos(t *testing.T) {
	t.Parallel()
	hold(t, broken)
}

func TestG5_RefusalsBindInChaos(t *testing.T) {
	t.Parallel()
	hold(t, truth)
}

func TestErrorsAreTypedInChaos(t *testing.T) {
	t.Parallel()
	hold(t, typed)
}

// After it all, every node serves every tenant, and closes without a trace.
func TestNothingIsLeftAfterChaos(t *testing.T) {
	t.Parallel()
	hold(t, left)
}

// All that the run is about did happen.
func TestChaosIsChaos(t *testing.T) {
	t.Parallel()
	f, v := chosen(), chaos(t)
	least := map[string]int{"suspend": 2, "pause": 1, "revoke": 1, "rotate": 1, "terminate": 1, "cut off": 1, "backends at most": f.budget / 2}
	if f.outages {
		least = map[string]int{"suspend": 5, "pause": 2, "revoke": 5, "rotate": 1, "terminate": 3, "cut off": 3, "crash": 2, "kill": 3, "backends at most": f.budget * 2 / 3}
	}
	for what, n := range least {
		if v.did[what] < n {
			t.Errorf("%s: %d, want at least %d", what, v.did[what], n)
		}
	}
	if n := v.counts["served"]; n < f.tenants {
		t.Errorf("served %d", n)
	}
	if n := v.did["ended in order"]; n != f.nodes {
		t.Errorf("%d nodes ended in order, want %d", n, f.nodes)
	}
}

func run(t *testing.T, f form) verdict {
	began := time.Now()
	g, err := prepare(t, f)
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	t.Logf("prepared in %s", time.Since(began).Round(time.Millisecond))

	o := &operator{ground: g, ledger: newLedger(), hot: f.hot, taken: map[int]bool{}, spent: map[int]int{}}
	p := &posts{t: t, dir: t.TempDir(), spec: spec{
		CatalogURL: g.catalogURL(g.proxy.addr()), Keyset: g.keyset,
		Tenants: g.tenants, Hot: f.hot, Workers: f.workers, Pools: f.pools,
	}}
	watching, unwatch := context.WithCancel(context.WithoutCancel(t.Context()))
	var watchers sync.WaitGroup
	watchers.Go(func() {
		samples, most := o.watch(watching)
		o.ledger.mu.Lock()
		defer o.ledger.mu.Unlock()
		o.did["samples"], o.did["backends at most"] = samples, most
	})
	watchers.Go(func() { o.audit(watching) })
	stop := p.startAll(t, f, o)
	o.trouble(t.Context(), f, p)
	stop()
	o.gone()
	unwatch()
	watchers.Wait()

	var nodes [][]page
	for _, name := range p.journals {
		pages, err := readJournal(name)
		if err != nil {
			t.Error(err)
		}
		if n := len(pages); n > 0 && pages[n-1].Ended {
			o.count("ended in order")
		}
		nodes = append(nodes, pages)
	}
	v := o.judge(nodes)
	t.Logf("ran for %s; the test did %v; at the nodes %v", time.Since(began).Round(time.Millisecond), v.did, v.counts)
	return v
}

// startAll starts the nodes, and returns what ends them in order.
func (p *posts) startAll(t *testing.T, f form, o *operator) (stop func()) {
	if f.outages {
		p.running = make([]*child.Process, f.nodes)
		for post := range f.nodes {
			if err := p.start(post); err != nil {
				t.Fatal(err)
			}
		}
		return func() { p.stop(o.ledger) }
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range f.nodes {
		s := p.next()
		all.Go(func() {
			if err := serve(ctx, s); err != nil {
				o.wrong(left, "%s: %v", s.Name, err)
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// trouble makes all of it for as long as the form says.
func (o *operator) trouble(ctx context.Context, f form, p *posts) {
	ctx, cancel := context.WithTimeout(ctx, f.lasts)
	defer cancel()
	var all sync.WaitGroup
	// often does it again and again, with so long between.
	often := func(least, most time.Duration, fn func(context.Context)) {
		all.Go(func() {
			for {
				if rest(ctx, between(least, most)); ctx.Err() != nil {
					return
				}
				fn(ctx)
			}
		})
	}
	began := time.Now()
	at := func(fn func(), seconds ...float64) {
		all.Go(func() {
			for _, s := range seconds {
				if rest(ctx, time.Until(began.Add(time.Duration(s*float64(time.Second))))); ctx.Err() != nil {
					return
				}
				fn()
			}
		})
	}
	for range 2 {
		often(0, 200*time.Millisecond, o.suspend)
	}
	often(100*time.Millisecond, 300*time.Millisecond, o.pause)
	if !f.outages {
		often(100*time.Millisecond, 500*time.Millisecond, o.revoke)
		often(100*time.Millisecond, 400*time.Millisecond, o.terminate)
		at(func() { o.rotate(ctx) }, 0.1)
		at(func() { o.cut(ctx, true, 700*time.Millisecond) }, 0.9)
		all.Wait()
		return
	}
	often(500*time.Millisecond, 1500*time.Millisecond, o.revoke)
	often(200*time.Millisecond, 800*time.Millisecond, o.terminate)
	often(200*time.Millisecond, time.Second, o.rotate)
	at(func() { o.crash(ctx) }, 7, 19)
	at(func() { o.cut(ctx, false, 4*time.Second) }, 3, 22)
	at(func() { o.cut(ctx, true, 4*time.Second) }, 12)
	at(func() { o.kill(p) }, 5, 9, 15, 21)
	all.Wait()
}
