package catalog_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freehold/catalog"
)

// mover is a node that lets go of a tenant when told to.
type mover struct {
	*bench
	cache *catalog.Cache
	free  chan struct{} // closed: nothing is held any more
	stop  func()

	mu     sync.Mutex // guards asked
	asked  []int64    // epochs
	active atomic.Int64
}

func (b *bench) mover(name string, cfg catalog.CacheConfig) *mover {
	b.Helper()
	cfg.NodeName = name
	m := &mover{bench: b, free: make(chan struct{})}
	m.cache = catalog.NewCache(b.open(), cfg)
	m.cache.OnMoving(func(ctx context.Context, _ catalog.TenantID, epoch int64) error {
		m.active.Add(1)
		defer m.active.Add(-1)
		m.mu.Lock()
		m.asked = append(m.asked, epoch)
		m.mu.Unlock()
		select {
		case <-m.free:
			return nil
		case <-ctx.Done():
			time.Sleep(50 * time.Millisecond) // what has to be ended takes a while
			return ctx.Err()
		}
	})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- m.cache.Run(ctx) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
		if n := m.active.Load(); n != 0 {
			b.Errorf("Run ended before %d that it began", n)
		}
	})
	b.Cleanup(m.stop)
	b.within(5*time.Second, "cache ready", m.cache.Ready)
	return m
}

func (m *mover) epochs() []int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.asked)
}

// drained awaits that, with time to spare.
func (b *bench) drained(id catalog.TenantID, epoch int64, deadAfter time.Duration) error {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
	defer cancel()
	return b.cat.AwaitDrained(ctx, id, epoch, deadAfter)
}

// waits fails unless, in the end, exactly the named nodes are waited for, in vain.
func (b *bench) waits(id catalog.TenantID, epoch int64, nodes ...string) {
	b.Helper()
	for try := 1; ; try++ {
		ctx, cancel := context.WithTimeout(b.Context(), 500*time.Millisecond)
		err := b.cat.AwaitDrained(ctx, id, epoch, time.Minute)
		cancel()
		var left *catalog.NotDrained
		if !errors.As(err, &left) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, catalog.ErrConflict) {
			b.Fatalf("%v, want one that waits for %q", err, nodes)
		}
		if slices.Equal(left.Nodes, nodes) {
			return
		}
		if try == 20 {
			b.Fatalf("%v, want one that waits for %q", err, nodes)
		}
	}
}

func TestMoving_everyNodeAcknowledges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenant := b.tenant("acme")
	one, two := b.mover("one", catalog.CacheConfig{}), b.mover("two", catalog.CacheConfig{})
	b.cache(b.cat, catalog.CacheConfig{NodeName: "holds no connections"})
	epoch, err := b.cat.SetState(t.Context(), tenant.ID, catalog.Moving, catalog.Active)
	b.ok(err)
	b.waits(tenant.ID, epoch, "one", "two")
	close(one.free)
	b.waits(tenant.ID, epoch, "two")
	close(two.free)
	b.ok(b.drained(tenant.ID, epoch, time.Minute))
	if got := one.epochs(); !slices.Equal(got, []int64{epoch}) {
		t.Errorf("asked at %d, want once, at %d", got, epoch)
	}
	if s := b.number(b.admin(), `select count(*) from drained where epoch = $1`, epoch); s != 3 {
		t.Errorf("%d acknowledgements", s)
	}

	// Whatever gives the tenant a new epoch asks anew, and what was told of the
	// earlier one is no answer.
	limit := int64(7)
	_, later, err := b.cat.PatchConfig(t.Context(), tenant.ID, catalog.ConfigPatch{MonthlyTokenLimit: &limit})
	b.ok(err)
	b.ok(b.drained(tenant.ID, later, time.Minute))
	if got := two.epochs(); !slices.Equal(got, []int64{epoch, later}) {
		t.Errorf("asked at %d, want %d and %d", got, epoch, later)
	}

	_, err = b.cat.SetState(t.Context(), tenant.ID, catalog.Active, catalog.Moving)
	b.ok(err)
	if s := b.number(b.admin(), `select count(*) from drained`); s != 0 {
		t.Errorf("%d acknowledgements of a tenant that stays", s)
	}
	b.is(b.drained(tenant.ID, later, time.Minute), catalog.ErrConflict)
	b.is(b.drained(catalog.NewTenantID(), later, time.Minute), catalog.ErrNotFound)
}

// A tenant that stays after all is let go of no longer.
func TestMoving_calledOff(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenant := b.tenant("acme")
	node := b.mover("one", catalog.CacheConfig{})
	_, err := b.cat.SetState(t.Context(), tenant.ID, catalog.Moving, catalog.Active)
	b.ok(err)
	b.within(5*time.Second, "begun", func() bool { return node.active.Load() == 1 })
	_, err = b.cat.SetState(t.Context(), tenant.ID, catalog.Active, catalog.Moving)
	b.ok(err)
	b.within(5*time.Second, "ended", func() bool { return node.active.Load() == 0 })
	if n := b.number(b.admin(), `select count(*) from drained`); n != 0 {
		t.Errorf("%d acknowledgements", n)
	}
}

// Who was away when the tenant began to move, or starts while it does, lets go
// of it as well; a node that starts then isn't waited for in any case.
func TestMoving_missed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenant := b.tenant("acme")
	early := b.mover("early", catalog.CacheConfig{})
	super, admin := b.super(), b.admin()
	killed := b.number(super, `
		select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity
		 where datname = $1 and (query like '%platform_seq%' or query like '%insert into nodes%' or query like 'listen%')`,
		b.database())
	epoch, err := b.cat.SetState(t.Context(), tenant.ID, catalog.Moving, catalog.Active)
	b.ok(err)
	if killed == 0 {
		t.Error("no connection lost")
	}
	b.within(5*time.Second, "begun", func() bool { return early.active.Load() == 1 })
	late := b.mover("late", catalog.CacheConfig{})
	b.within(5*time.Second, "begun", func() bool { return late.active.Load() == 1 })
	b.within(5*time.Second, "born", func() bool {
		return b.number(admin, `select born from nodes where name = 'late'`) == epoch
	})
	b.waits(tenant.ID, epoch, "early")
	close(late.free)
	b.within(5*time.Second, "told", func() bool { return b.number(admin, `select count(*) from drained`) == 1 })

	// Stopped in the middle: Run waits, and nobody waits for the node.
	early.stop()
	b.ok(b.drained(tenant.ID, epoch, time.Minute))
}

// A node that asked for a route before its first heartbeat may hold what is older
// than that.
func TestMoving_routedBeforeRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenant := b.tenant("acme")
	cache := catalog.NewCache(b.cat, catalog.CacheConfig{NodeName: "hasty"})
	_, err := cache.Route(t.Context(), tenant.ID, 0)
	b.ok(err)
	cache.OnMoving(func(ctx context.Context, _ catalog.TenantID, _ int64) error {
		<-ctx.Done()
		return ctx.Err()
	})
	epoch, err := b.cat.SetState(t.Context(), tenant.ID, catalog.Moving, catalog.Active)
	b.ok(err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- cache.Run(ctx) }()
	b.within(5*time.Second, "ready", cache.Ready)
	b.waits(tenant.ID, epoch, "hasty")
	cancel()
	b.ok(<-done)
}

// A node that is silent for long enough serves nothing, and isn't waited for.
func TestMoving_silentNode(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenant := b.tenant("acme")
	b.exec(b.as("freehold_catalog"), `
		insert into nodes (id, name, version, heartbeat_at)
		values (gen_random_uuid(), 'dead', 'v1', now() - interval '3 seconds')`)
	epoch, err := b.cat.SetState(t.Context(), tenant.ID, catalog.Moving, catalog.Active)
	b.ok(err)
	// What it told of an earlier move is no answer.
	b.exec(b.as("freehold_catalog"), `
		insert into drained (tenant, node, epoch) select $1, id, $2 from nodes`, tenant.ID, epoch-1)
	b.waits(tenant.ID, epoch, "dead")
	b.ok(b.drained(tenant.ID, epoch, 4*time.Second))
}

// What the node couldn't do or couldn't tell at once, it does and tells later.
func TestMoving_retries(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenant := b.tenant("acme")
	cache := catalog.NewCache(b.cat, catalog.CacheConfig{NodeName: "one"})
	var calls atomic.Int64
	cache.OnMoving(func(context.Context, catalog.TenantID, int64) error {
		if calls.Add(1) < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- cache.Run(ctx) }()
	b.within(5*time.Second, "ready", cache.Ready)
	admin := b.admin()
	b.exec(admin, `revoke insert on drained from freehold_catalog`)
	epoch, err := b.cat.SetState(t.Context(), tenant.ID, catalog.Moving, catalog.Active)
	b.ok(err)
	b.within(5*time.Second, "called", func() bool { return calls.Load() == 3 })
	b.waits(tenant.ID, epoch, "one")
	b.exec(admin, `grant insert on drained to freehold_catalog`)
	b.ok(b.drained(tenant.ID, epoch, time.Minute))
	if n := calls.Load(); n != 3 {
		t.Errorf("called %d times", n)
	}
	cancel()
	b.ok(<-done)
}

func TestSwitchServer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	tenant := b.tenant("acme")
	b.server("pg-2")
	_, err := b.cat.SwitchServer(ctx, tenant.ID, "pg-2")
	b.is(err, catalog.ErrConflict)
	before, err := b.cat.SetState(ctx, tenant.ID, catalog.Moving, catalog.Active)
	b.ok(err)
	_, err = b.cat.SwitchServer(ctx, tenant.ID, "nowhere")
	b.is(err, catalog.ErrNotFound)
	epoch, err := b.cat.SwitchServer(ctx, tenant.ID, "pg-2")
	b.ok(err)
	r, err := b.cat.Route(ctx, tenant.ID)
	b.ok(err)
	if r.Server != "pg-2" || r.Plan != "standard" || r.Epoch != epoch || epoch <= before ||
		r.State != catalog.Moving || r.Config.Database != tenant.Database {
		t.Errorf("route %+v, epoch %d", r, epoch)
	}
	_, err = b.cat.SwitchServer(ctx, catalog.NewTenantID(), "pg-2")
	b.is(err, catalog.ErrNotFound)
}
