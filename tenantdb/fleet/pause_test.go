package fleet_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/tenantdb"
	"freehold/tenantdb/fleet"
)

// node is a running cache whose router lets go of a moving tenant once free is
// closed.
func (b *bench) node(name string, free <-chan struct{}) *catalog.Cache {
	b.Helper()
	cache := catalog.NewCache(b.cat, catalog.CacheConfig{NodeName: name})
	cache.OnMoving(func(ctx context.Context, _ catalog.TenantID, _ int64) error {
		select {
		case <-free:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- cache.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	b.within(5*time.Second, "cache ready", cache.Ready)
	return cache
}

// stands fails unless the tenant is in the state, on the server, and its database
// is fenced at its epoch.
func (b *bench) stands(id catalog.TenantID, state catalog.State, server string) {
	b.Helper()
	t, err := b.cat.Tenant(b.Context(), id)
	b.ok(err)
	fence := one[int64](b, b.super(t.Database), "select fence from freehold.tenant_identity")
	if t.State != state || t.Server != server || fence != t.Epoch {
		b.Errorf("%s on %s, epoch %d, fence %d; want %s on %s", t.State, t.Server, t.Epoch, fence, state, server)
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	// Two names of one cluster: nothing has to be copied between them.
	second := b.server()
	second.Name = "pg-2"
	if _, err := b.fleet.AddServer(ctx, second); !errors.Is(err, catalog.ErrExists) || !strings.Contains(err.Error(), "pg-1") {
		t.Errorf("a server twice: %v", err)
	}
	second.URL = strings.Replace(second.URL, "127.0.0.1", "localhost", 1)
	_, err := b.fleet.AddServer(ctx, second)
	b.ok(err)
	acme := b.create("acme")
	free := make(chan struct{})
	b.node("slow", free)

	go func() {
		time.Sleep(300 * time.Millisecond)
		close(free)
	}()
	began := time.Now()
	paused, err := b.fleet.Pause(ctx, acme.ID)
	b.ok(err)
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("paused after %s, before the node had let go", took)
	}
	b.stands(acme.ID, catalog.Moving, "pg-1")
	if _, err := b.fleet.Pause(ctx, acme.ID); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("paused twice: %v", err)
	}
	if err := paused.Switch(ctx, "pg-3"); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("to nowhere: %v", err)
	}
	b.ok(paused.Switch(ctx, "pg-2"))
	for range 2 { // twice is no error
		b.ok(paused.Resume(ctx))
		b.stands(acme.ID, catalog.Active, "pg-2")
	}

	b.ok(b.fleet.Suspend(ctx, acme.ID))
	paused, err = b.fleet.Pause(ctx, acme.ID)
	b.ok(err)
	b.ok(paused.Resume(ctx))
	b.stands(acme.ID, catalog.Suspended, "pg-2")
	if _, err := b.fleet.Pause(ctx, catalog.NewTenantID()); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("unknown tenant: %v", err)
	}
}

// A pause that doesn't come about leaves the tenant served as before.
func TestPausePutsBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.create("acme")
	state := func(want catalog.State) {
		t.Helper()
		now, err := b.cat.Tenant(t.Context(), acme.ID)
		b.ok(err)
		if now.State != want {
			t.Errorf("left %s, want %s", now.State, want)
		}
	}
	b.node("stuck", nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := b.fleet.Pause(ctx, acme.ID)
	var left *catalog.NotDrained
	if !errors.As(err, &left) || !slices.Equal(left.Nodes, []string{"stuck"}) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a node that doesn't let go: %v", err)
	}
	state(catalog.Active)

	_, err = b.super("postgres").Exec(t.Context(), "alter database "+acme.Database+" with allow_connections false")
	b.ok(err)
	_, err = b.cat.SetState(t.Context(), acme.ID, catalog.Suspended, catalog.Active)
	b.ok(err)
	b.fleet.Patience(time.Second)
	if _, err = b.fleet.Pause(t.Context(), acme.ID); !errors.Is(err, fleet.ErrUnfenced) || !errors.Is(err, tenantdb.ErrUnavailable) {
		t.Errorf("no database: %v", err)
	}
	state(catalog.Suspended)
}
